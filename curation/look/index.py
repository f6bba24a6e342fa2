"""A run's rows that count in a DuckDB file of its own, for the pages of `curation view`: filled once, thrown away at the end."""

from __future__ import annotations

import errno
import math
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from curation import ledger
from curation.columns import COLUMNS
from curation.inputs.files import InputError
from curation.look import asked, ledgers
from curation.look.asked import NUMBERS
from curation.look.decisions import Decision
from curation.storage import Storage

MEMORY = "160MB"
"""What DuckDB may hold; the rest lies in the file, and what does not fit in it spills beside it."""
THREADS = 2
PAGE = 50
"""Rows that are given at once."""
FACTS = ("key", "clip", "video", "start", "end", "caption", "verdict", "stage", "reason", "detail", "width", "height", "fps")
PLACE = ("shard", "group", "unit", "attempt", "offset", "size")
HELD = (*FACTS, *PLACE, *COLUMNS)
LISTED = ("key", "caption", "verdict", "stage", "reason", "detail", "start", "end", "offset")
WHY = ("verdict", "stage", "reason")
TRIES = 3
"""A run that goes on packs units while their ledgers are read."""
BARS = 40
MOST = 0.999
"""Of a score's values those above this quantile stand in the last bar."""
Row = dict[str, Any]


class Index:
    """The rows of one run, `a`, and of the one it is compared with, `b`. Methods may be called from several threads."""

    def __init__(self, runs: Mapping[str, Storage]):
        import duckdb

        self.runs = dict(runs)
        self.folder = Path(tempfile.mkdtemp(prefix="curation-view-"))
        config = {"memory_limit": MEMORY, "threads": THREADS, "temp_directory": str(self.folder / "spilled")}
        self.connection = duckdb.connect(str(self.folder / "rows.duckdb"), config=config)
        self.connection.execute("SET python_enable_replacements = false")
        self.connection.execute('CREATE TABLE said (key VARCHAR, decision VARCHAR, note VARCHAR, "time" VARCHAR, who VARCHAR)')
        self.tables: dict[str, str] = {}
        """Name of a run → its table; a new one when it is read again."""
        self.scores: dict[str, dict[str, Any]] = {}
        """Name of a run → score → its least, its most, how many there are, and bars."""
        self._made = 0

    def close(self) -> None:
        self.connection.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def fill(self, of: str = "a") -> int:
        """Read a run's ledgers; how many rows count. Who asks meanwhile sees what was there before.

        Raises `InputError` where nothing is finished.
        """
        for _ in range(TRIES - 1):
            try:
                return self._fill(of)
            except FileNotFoundError:  # packed meanwhile
                continue
        return self._fill(of)

    def _fill(self, of: str) -> int:
        import duckdb

        storage = self.runs[of]
        names = ledger.files(storage)
        if not names:
            raise InputError(f"{storage.path()}: no finished shard here; give a run's output folder")
        self._made += 1
        table = f"{of}{self._made}"
        cursor = self.connection.cursor()
        wanted = ", ".join(f'"{name}"' for name in HELD)
        try:
            ledgers.view(cursor, storage, names, itself=True)
            cursor.execute(f"CREATE TABLE {table} AS SELECT row_number() OVER () - 1 AS id, {wanted} FROM ledger")
        except duckdb.IOException as error:  # what it says of a file that is gone
            raise FileNotFoundError(errno.ENOENT, str(error)) from error
        finally:
            for view in ("ledger", "first_attempts", "retries"):
                cursor.execute(f"DROP VIEW IF EXISTS {view}")
        old, self.tables[of] = self.tables.get(of), table
        self.scores[of] = self._distributions(table)
        if len(self.tables) == len(self.runs) == 2:
            self._compare()
        if old:
            cursor.execute(f"DROP TABLE {old}")
        return self.ask(f"SELECT count(*) AS rows FROM {table}")[0]["rows"]

    def ask(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        return _dicts(self.connection.cursor().execute(sql, list(values)))

    def page(self, query: Mapping[str, str]) -> Row:
        """{total, page, rows} of what a query string asks for (`curation.look.asked`). Raises `Wrong`."""
        table = self.tables["a"]
        number = asked.number(query)
        condition, values = asked.condition(query)
        (found,) = self.ask(f"SELECT count(*) AS total FROM {table} LEFT JOIN said USING (key) WHERE {condition}", values)
        order = asked.order(query)
        name = query.get("sort", "").removeprefix("-")
        names = ", ".join(f'"{n}"' for n in (*LISTED, *([name] if name in NUMBERS else ())))
        rows = self.ask(
            f"WITH chosen AS (SELECT id FROM {table} LEFT JOIN said USING (key) WHERE {condition} ORDER BY {order} "
            f"LIMIT {PAGE} OFFSET {PAGE * number}) "
            f"SELECT {names}, said.decision, said.note "
            f"FROM chosen JOIN {table} USING (id) LEFT JOIN said USING (key) ORDER BY {order}",
            values,
        )
        return {**found, "page": number, "size": PAGE, "rows": rows}

    def row(self, key: str, of: str = "a") -> Row | None:
        """All that is held of a key; None when there is none."""
        found = self.ask(
            f"SELECT {self.tables[of]}.*, said.decision, said.note, said.who, said.time AS decided "
            f"FROM {self.tables[of]} LEFT JOIN said USING (key) WHERE key = ? LIMIT 1",
            [key],
        )
        return found[0] if found else None

    def counts(self, of: str = "a") -> list[Row]:
        """How many rows there are for each verdict, stage and reason."""
        return self.ask(
            f"SELECT verdict, stage, reason, count(*) AS count FROM {self.tables[of]} "
            "GROUP BY ALL ORDER BY count DESC, verdict, stage, reason"
        )

    def below(self, row: Mapping[str, Any], of: str = "a") -> dict[str, int]:
        """Of each score that a row has, how many rows have less."""
        names = [name for name in NUMBERS if row[name] is not None]
        if not names:
            return {}
        wanted = ", ".join(f'count(*) FILTER ("{name}" < ?) AS "{name}"' for name in names)
        return self.ask(f"SELECT {wanted} FROM {self.tables[of]}", [row[name] for name in names])[0]

    def decided(self, made: Sequence[Decision], again: bool = False) -> None:
        """Take over decisions; `again`: in the place of all that were known."""
        cursor = self.connection.cursor()
        cursor.execute("BEGIN")
        if again:
            cursor.execute("DELETE FROM said")
        for one in made:
            cursor.execute("DELETE FROM said WHERE key = ?", [one.key])
            cursor.execute("INSERT INTO said VALUES (?, ?, ?, ?, ?)", [one.key, one.decision, one.note, one.time, one.who])
        cursor.execute("COMMIT")

    def _distributions(self, table: str) -> dict[str, Any]:
        facts = ", ".join(
            f'count("{n}") AS "{n}.count", min("{n}") AS "{n}.least", max("{n}") AS "{n}.most", '
            f'approx_quantile("{n}", {MOST}) AS "{n}.top"'
            for n in NUMBERS
        )
        (found,) = self.ask(f"SELECT {facts} FROM {table}")
        scores = {}
        for n in NUMBERS:
            if found[f"{n}.count"]:
                least, most, top = (found[f"{n}.{name}"] for name in ("least", "most", "top"))
                scores[n] = {"count": found[f"{n}.count"], "least": least, "most": most, **self._bars(table, n, least, top, most)}
        return scores

    def _bars(self, table: str, name: str, least: float, top: float, most: float) -> Row:
        first, last = min(0, least), (top if top > least else most)
        width = (last - first) / BARS or 1.0
        rows = self.ask(
            f'SELECT least({BARS - 1}, floor(("{name}" - ?) / ?))::INTEGER AS bar, count(*) AS count '
            f'FROM {table} WHERE "{name}" IS NOT NULL GROUP BY bar',
            [first, width],
        )
        bars = [0] * BARS
        for row in rows:
            bars[row["bar"]] = row["count"]
        return {"first": first, "width": width, "bars": bars}

    def _compare(self) -> None:
        """Keys of which the two runs say different things, with what each says."""
        both = ", ".join(f"coalesce({of}.{name}, '') AS {of}_{name}" for of in ("a", "b") for name in WHY)
        differ = " OR ".join(f"a.{name} IS DISTINCT FROM b.{name}" for name in WHY)
        self.connection.cursor().execute(
            f"CREATE OR REPLACE TABLE moved AS SELECT row_number() OVER () AS id, * FROM (SELECT key, {both} "
            f"FROM {self.tables['a']} AS a FULL JOIN {self.tables['b']} AS b USING (key) "
            f"WHERE {differ})"
        )

    def moves(self) -> list[Row]:
        """How many keys moved from what to what; "" is where a run does not have the key."""
        names = ", ".join(f"{of}_{name}" for of in ("a", "b") for name in WHY)
        return self.ask(f"SELECT {names}, count(*) AS count FROM moved GROUP BY ALL ORDER BY count DESC, {names}")

    def moved(self, query: Mapping[str, str]) -> Row:
        """{total, page, rows} of the keys that moved, all or by what both runs say of them; each row with the scores that differ,
        as [this run's, the other's]."""
        number = asked.number(query)
        names = [f"{of}_{name}" for of in ("a", "b") for name in WHY if f"{of}_{name}" in query]
        condition = " AND ".join([f"{name} = ?" for name in names]) or "true"
        values = [query[name] for name in names]
        (found,) = self.ask(f"SELECT count(*) AS total FROM moved WHERE {condition}", values)
        wanted = ", ".join(f'a."{n}" AS "a.{n}", b."{n}" AS "b.{n}"' for n in NUMBERS)
        rows = self.ask(
            f"WITH chosen AS (SELECT * FROM moved WHERE {condition} ORDER BY key LIMIT {PAGE} OFFSET {PAGE * number}) "
            "SELECT chosen.* EXCLUDE (id), coalesce(a.caption, b.caption) AS caption, "
            f"a.detail AS a_detail, b.detail AS b_detail, {wanted} FROM chosen LEFT JOIN {self.tables['a']} AS a USING (key) "
            f"LEFT JOIN {self.tables['b']} AS b USING (key) ORDER BY key",
            values,
        )
        for row in rows:
            pairs = {name: (row.pop(f"a.{name}"), row.pop(f"b.{name}")) for name in NUMBERS}
            row["scores"] = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
        return {**found, "page": number, "size": PAGE, "rows": rows}


def _dicts(found: Any) -> list[Row]:
    names = [column[0] for column in found.description]
    return [{n: _plain(v) for n, v in zip(names, row, strict=True)} for row in found.fetchall()]


def _plain(value: Any) -> Any:
    """What JSON has no word for is null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
