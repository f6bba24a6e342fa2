"""`decisions.csv`: what people say of samples. Lines are added and none is changed; the newest of a key is what counts."""

from __future__ import annotations

import csv
import getpass
import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from curation.inputs.files import InputError
from curation.storage import Storage

NAME = "decisions.csv"
FIELDS = ("key", "decision", "note", "time", "who")
KEEP, DROP, NONE = "keep", "drop", ""
DECISIONS = (KEEP, DROP, NONE)
"""The last one takes back what was decided, or stands beside a note alone."""
LONGEST_NOTE = 2000
"""Characters."""


@dataclass(frozen=True)
class Decision:
    """`key`: of a sample; `time`: ISO 8601 in UTC; `who`: the user that the viewer ran as."""

    key: str
    decision: str
    note: str = ""
    time: str = ""
    who: str = ""


def read(storage: Storage) -> dict[str, Decision]:
    """Key → the newest decision, in the order of the file. A line that a kill cut off is passed over.

    Raises `InputError` for a file that has no columns `key` and `decision`, and for a decision that is none.
    """
    if not storage.exists(NAME):
        return {}
    found: dict[str, Decision] = {}
    for line, decision in _rows(storage):
        if decision.decision not in DECISIONS:
            raise InputError(f"{storage.path(NAME)}, line {line}: {decision.decision!r} is not keep, drop or empty")
        found[decision.key] = decision
    return found


def _rows(storage: Storage) -> Iterator[tuple[int, Decision]]:
    try:
        rows = csv.DictReader(io.StringIO(storage.read(NAME).decode("utf-8-sig", "replace")))
        if not {"key", "decision"} <= set(rows.fieldnames or ()):
            raise InputError(f"{storage.path(NAME)}: its first line must name key and decision")
        for row in rows:
            if row["key"] and None not in (row[name] for name in rows.fieldnames or ()):
                yield rows.line_num, Decision(**{name: row.get(name) or "" for name in FIELDS})
    except csv.Error as error:
        raise InputError(f"{storage.path(NAME)}: {error}") from error


def dropped(storage: Storage) -> list[str]:
    """Keys that are to go."""
    return [key for key, decision in read(storage).items() if decision.decision == DROP]


def add(storage: Storage, key: str, decision: str, note: str = "") -> Decision:
    """Write down what was decided now. Raises ValueError for what is no decision, and for a note that is too long; `InputError`
    where a file of other columns stands."""
    if decision not in DECISIONS or not key:
        raise ValueError(f"a decision is one of {', '.join(map(repr, DECISIONS))}")
    if len(note) > LONGEST_NOTE:
        raise ValueError(f"a note has {LONGEST_NOTE} characters at most")
    made = Decision(key, decision, " ".join(note.split()), datetime.now(UTC).isoformat(timespec="seconds"), _user())
    header = _line(FIELDS)
    if storage.exists(NAME) and not storage.read_range(NAME, 0, len(header)).startswith(header.strip()):
        raise InputError(f"{storage.path(NAME)}: nothing is added to a file whose columns are not {', '.join(FIELDS)}")
    storage.append_line(NAME, _line((made.key, made.decision, made.note, made.time, made.who)), header)
    return made


def _line(fields: tuple[str, ...]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(fields)
    return buffer.getvalue().encode()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user without a name
        return ""
