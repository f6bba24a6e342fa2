"""`curation inspect`: what is in a run or a shard; one sample's metadata; its members as files."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from rich.table import Table
from rich.text import Text

from curation import ledger
from curation.console import wide
from curation.inputs.files import InputError
from curation.look.ledgers import where as where_rows
from curation.sample import KEPT
from curation.shards.clip import Clip
from curation.shards.tally import Tally, count, tally
from curation.storage import Storage

FEW = 200
"""Clips that are shown one by one."""
SHOWN = ("key", "start", '"end"', "verdict", "stage", "reason", "detail", "caption", "scores")
PLACE = ("shard", '"group"', "unit", '"offset"', "size")
Row = dict[str, Any]


def inspect(path: str | Path, key: str | None = None, extract: Path | None = None, where: str | None = None) -> None:
    """Print a summary of a run directory, its shards/ folder or one shard (a path or URL), or all that is known of one key, or
    how many rows of the ledgers a condition in SQL is true of, and the first of them.

    With `extract`, members become files in that folder: of the key, of what the condition is true of, or of every kept sample.
    Raises `InputError` when there is nothing finished at the path or no such key, and for a condition that cannot be read.
    """
    storage, names, is_whole = _ledgers(str(path))
    if where is not None:
        if key is not None:
            raise InputError("give a key or --where, not both")
        chosen = _matching(str(path), storage, names, where, extract is not None)
    elif key is None:
        total = tally(storage) if is_whole else count(storage, names)
        wide().print(
            f"{path}: {total.planned:,} clips: kept {total.kept:,}, rejected {total.rejected:,}, failed {total.failed:,}"
        )
        if total.planned <= FEW:
            _table(list(ledger.rows(storage, names=names)))
        _summary(total, len(names), _bytes(storage, names))
        chosen = ledger.rows(storage, filter=pc.field("verdict") == KEPT, names=names)
    else:
        found = _rows(storage, key, names)
        if not found:
            raise InputError(f"{path}: no clip {key!r}; `curation inspect {path}` says what is there")
        for row in found:
            _one(storage, row)
        chosen = iter(found)
    if extract:
        for row in chosen:
            if row["offset"] is not None:
                _extract(storage, row, extract)


def _matching(path: str, storage: Storage, names: Mapping[str, int], condition: str, all: bool) -> Iterator[Row]:
    """Print how many rows a condition is true of, and the first; give them, those that are kept `all` of them. The ledgers are
    read once where few rows are so, else once more behind those first few."""

    def asked(columns: Sequence[str], most: int | None = None) -> list[Row]:
        return where_rows(storage, names, condition, ", ".join(columns), most).to_pylist()

    first = asked((*SHOWN, *PLACE), FEW + 1)
    found = first if len(first) <= FEW else asked(("verdict", *PLACE)) if all else None
    if found is None:
        (total,) = asked(("count(*) AS clips", f"count(*) FILTER (verdict = '{KEPT}') AS kept"))
        clips, kept = total["clips"], total["kept"]
    else:
        clips, kept = len(found), sum(row["verdict"] == KEPT for row in found)
    wide().print(Text(f"{path}: {clips:,} rows are so, {kept:,} of them kept"))
    _table(first[:FEW])
    if clips > FEW:
        wide().print(f"and {clips - FEW:,} more")
    return iter(found or () if all else ())


def _ledgers(path: str) -> tuple[Storage, Mapping[str, int], bool]:
    """The run that a path belongs to, the ledgers meant, and whether they are all of it."""
    root = Storage.at(path).root
    folder, _, last = root.rpartition("/")
    run, _, above = folder.rpartition("/")
    if above == "shards" and last.endswith((".tar", ".parquet")):
        storage, name = Storage.at(run), f"shards/{last.rpartition('.')[0]}.parquet"
        size = storage.size(name)
        names, is_whole = {} if size is None else {name: size}, False
    else:
        storage = Storage.at(folder if last == "shards" else root)
        names, is_whole = ledger.files(storage), True
    if not names:
        raise InputError(f"{path}: no finished shard here; give a run's output folder, or one of its shards/shard-GGGGG-NNNN.tar")
    return storage, names, is_whole


def _bytes(storage: Storage, names: Collection[str]) -> int:
    """Of the tars that go with some ledgers."""
    folders = {name.rpartition("/")[0] for name in names}
    sizes = {f"{folder}/{name}": size for folder in folders for name, size in storage.names(folder).items()}
    return sum(sizes.get(name.removesuffix(".parquet") + ".tar", 0) for name in names)


def _rows(storage: Storage, key: str, names: Collection[str]) -> list[Row]:
    """Those of one clip or sample. What is large is read of the ledgers alone that hold it."""
    wanted = (pc.field("key") == key) | (pc.field("clip") == key)
    places = ledger.rows(storage, ["shard", "group", "unit"], wanted, names)
    return list(ledger.rows(storage, filter=wanted, names=list(dict.fromkeys(map(ledger.file_of, places)))))


def _table(rows: list[Row]) -> None:
    table = Table(expand=True)
    for column, ratio in {"key": 5, "seconds": 3, "verdict": 2, "why": 5, "frames found in": 5, "caption": 8}.items():
        table.add_column(column, ratio=ratio, overflow="fold")
    for row in rows:
        why = f"{row['stage']}: {row['reason']}" + (f" ({row['detail']})" if row["detail"] else "") if row["stage"] else ""
        span = f"{row['start']:.2f}–{row['end']:.2f}" if row["end"] is not None else ""
        table.add_row(*(Text(_plain(cell)) for cell in (row["key"], span, row["verdict"], why, _found(row), row["caption"])))
    wide().print(table)


def _plain(text: str) -> str:
    """Without what a terminal would obey: captions and names come from strangers."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _summary(total: Tally, ledgers: int, size: int) -> None:
    table = Table()
    for column in ("verdict", "stage", "reason"):
        table.add_column(column, overflow="fold")
    table.add_column("clips", justify="right")
    table.add_row(KEPT, "", "", f"{total.samples:,}")
    for (verdict, stage, reason), number in total.reasons.most_common():
        table.add_row(verdict, stage, reason, f"{number:,}")
    console = wide()
    console.print(table)
    console.print(
        f"{total.samples:,} samples, {size / 1e6:,.1f} MB; shards: {ledgers:,}; seconds of video: {total.video_seconds:,.0f}"
    )
    if kinds := ", ".join(f"{count:,} {name}" for name, count in total.kinds.items() if count):
        console.print(f"in what is kept: {kinds}")
    if spent := ", ".join(f"{name} {seconds:,.1f}" for name, seconds in total.stage_seconds.items()):
        console.print(f"worker seconds per stage: {spent}")


def _found(row: Row) -> str:
    """Each entity word with the number of frames it was found in: `man 3, mask 0`."""
    scores = json.loads(row["scores"])
    words = [e["word"] for e in scores.get("extract_entities", {}).get("entities", [])]
    refs = scores.get("segment_entities", {}).get("entities", [])
    kept = [sum(ref.get("member") is not None for ref in found["refs"]) for found in refs]
    return ", ".join(f"{word} {count}" for word, count in zip(words, kept, strict=False))


def _one(storage: Storage, row: Row) -> None:
    """A kept sample: its metadata and members; another: its verdict and every score."""
    console = wide()
    facts = {k: v for k, v in row.items() if k != "scores"}
    console.print_json(json.dumps({**facts, "source": json.loads(row["source"]), "seconds": dict(row["seconds"] or ())}))
    if row["offset"] is None:
        console.print_json(row["scores"])
        return
    members = dict(ledger.read_sample(storage, row))
    clip = Clip.model_validate_json(members[f"{row['key']}.json"])
    for entity in clip.entities:
        for ref in entity.refs:
            ref.mask.counts = f"… {len(ref.mask.counts)} characters"
    console.print_json(clip.model_dump_json())
    for member, data in members.items():
        console.print(Text(f"{len(data):10}  {_plain(member)}"))


def _extract(storage: Storage, row: Row, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for member, data in ledger.read_sample(storage, row):
        (target / Path(member).name).write_bytes(data)
