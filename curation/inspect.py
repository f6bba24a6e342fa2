"""`curation inspect`: what is in a run or a shard; one sample's metadata; its members as files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.table import Table

from curation import shards
from curation.clip import Clip
from curation.console import wide
from curation.inputs.files import InputError
from curation.sample import KEPT


def inspect(path: Path, key: str | None, extract: Path | None) -> None:
    """Print a summary table of a run directory, its shards/ folder or one shard, or all that is known of one key.

    With `extract`, members become files in that folder: of the key, or of every kept sample.
    Raises `InputError` when there is nothing finished at the path or no such key.
    """
    rows = list(_rows(path))
    if key is None:
        _table(path, [row for _, row in rows])
        chosen = [(folder, row) for folder, row in rows if row["status"] == KEPT]
    else:
        chosen = [(folder, row) for folder, row in rows if key in (row["key"], row["clip"])]
        if not chosen:
            raise InputError(f"{path}: no clip {key!r}; `curation inspect {path}` lists them")
        for folder, row in chosen:
            _one(folder, row)
    if extract:
        for folder, row in chosen:
            if row["status"] == KEPT:
                _extract(folder, row, extract)


def _rows(path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    if path.is_file() and path.suffix in (".tar", ".parquet") and path.with_suffix(".parquet").exists():
        folder, units = path.parent, [int(path.stem.removeprefix("shard-"))]
    else:
        folder = path / "shards" if (path / "shards").is_dir() else path
        units = list(shards.units(folder)) if folder.is_dir() else []
    if not units:
        raise InputError(f"{path}: no finished shard here; give a run's output folder, or a shard-NNNNNN.tar with its ledger")
    for unit in units:
        yield from ((folder, row) for row in shards.ledger(folder, unit))


def _table(path: Path, rows: list[dict[str, Any]]) -> None:
    tally = shards.Tally()
    tally.add(rows)
    counts = f"{tally.planned} clips: kept {tally.kept}, rejected {tally.rejected}, failed {tally.failed}"
    table = Table(title=f"{path}: {counts}", title_justify="left", expand=True)
    for column, ratio in {"key": 5, "seconds": 3, "verdict": 2, "why": 5, "frames found in": 5, "caption": 8}.items():
        table.add_column(column, ratio=ratio, overflow="fold")
    for row in rows:
        why = f"{row['stage']}: {row['reason']}" if row["status"] != KEPT else ""
        span = f"{row['start']:.2f}–{row['end']:.2f}" if row["end"] is not None else ""
        table.add_row(row["key"], span, row["status"], why, _found(row), row["caption"])
    wide().print(table)


def _found(row: dict[str, Any]) -> str:
    """Each entity word with the number of frames it was found in: `man 3, mask 0`."""
    scores = json.loads(row["scores"])
    words = [e["word"] for e in scores.get("extract_entities", {}).get("entities", [])]
    refs = scores.get("segment_entities", {}).get("entities", [])
    return ", ".join(f"{word} {len(found['refs'])}" for word, found in zip(words, refs, strict=False))


def _one(folder: Path, row: dict[str, Any]) -> None:
    """A kept sample: its metadata and members; another: its verdict and every score."""
    console = wide()
    facts = {k: v for k, v in row.items() if k not in ("scores", "seconds")}
    console.print_json(json.dumps({**facts, "seconds": dict(row["seconds"] or ())}))
    if row["status"] != KEPT:
        console.print_json(row["scores"])
        return
    members = dict(shards.read_sample(folder, row))
    clip = Clip.model_validate_json(members[f"{row['key']}.json"])
    for entity in clip.entities:
        for ref in entity.refs:
            ref.mask.counts = f"… {len(ref.mask.counts)} characters"
    console.print_json(clip.model_dump_json())
    for member, data in members.items():
        console.print(f"{len(data):10}  {member}", highlight=False)


def _extract(folder: Path, row: dict[str, Any], target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for member, data in shards.read_sample(folder, row):
        (target / Path(member).name).write_bytes(data)
