"""Shards on disk: one tar of samples and one Parquet ledger per unit, published whole or not at all."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.clip import clip_json
from curation.sample import FAILED, KEPT, REJECTED, Sample

LEDGER = pa.schema(
    [
        ("unit", pa.int64()),
        ("clip", pa.string()),
        ("key", pa.string()),
        ("video", pa.string()),
        ("start", pa.float64()),
        ("end", pa.float64()),
        ("caption", pa.string()),
        ("status", pa.string()),
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("scores", pa.string()),
        ("seconds", pa.map_(pa.string(), pa.float32())),
        ("offset", pa.int64()),
        ("size", pa.int64()),
    ]
)
"""One row per planned clip, or per shot of a clip that split_shots divided: `clip` is the planned key, `key` the sample's.
`start`, `end`: seconds in the source file; `scores`: JSON of what every stage recorded; `seconds`: time per stage; `offset`
and `size`: the sample's bytes in the tar, null unless kept."""


def name(unit: int) -> str:
    """`shard-000123`; `.tar` and `.parquet` follow."""
    return f"shard-{unit:06d}"


def is_done(folder: Path, unit: int) -> bool:
    """A shard exists when its ledger does."""
    return (folder / f"{name(unit)}.parquet").exists()


@dataclass(frozen=True)
class Record:
    """A finished sample: its ledger row, and its members (name in the tar, bytes) when it is kept."""

    row: dict[str, Any]
    members: list[tuple[str, bytes]]


def record(unit: int, sample: Sample, provenance: dict[str, Any]) -> Record:
    """What is written of a sample."""
    return Record(_ledger_row(unit, sample), members(sample, provenance) if sample.alive else [])


def write(folder: Path, unit: int, records: list[Record]) -> None:
    """Write a unit's tar and ledger under temporary names, then rename them, the ledger last. Replaces what was there.

    The tar's bytes depend on the members alone: fixed owners, modes and times.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tar, ledger = folder / f"{name(unit)}.tar", folder / f"{name(unit)}.parquet"
    temporary = [p.with_name(f".{p.name}.{os.getpid()}") for p in (tar, ledger)]
    try:
        rows = _write_tar(temporary[0], records)
        pq.write_table(pa.Table.from_pylist(rows, schema=LEDGER), temporary[1], compression="zstd")
        ledger.unlink(missing_ok=True)
        temporary[0].replace(tar)
        temporary[1].replace(ledger)
    finally:
        for path in temporary:
            path.unlink(missing_ok=True)


def members(sample: Sample, provenance: dict[str, Any]) -> list[tuple[str, bytes]]:
    """The members of a kept sample, in the order of the tar: video, metadata, then the pictures by name."""
    text = json.dumps(clip_json(sample, provenance), ensure_ascii=False, separators=(",", ":")).encode()
    rest = sorted(suffix for suffix in sample.files if suffix != "mp4" and not suffix.startswith("_"))
    video = [("mp4", sample.files["mp4"])] if "mp4" in sample.files else []
    named = [*video, ("json", text), *((suffix, sample.files[suffix]) for suffix in rest)]
    return [(f"{sample.key}.{suffix}", data) for suffix, data in named]


def _write_tar(path: Path, records: list[Record]) -> list[dict[str, Any]]:
    """The ledger rows, each with its sample's place in the tar."""
    rows = []
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for done in records:
            start = tar.offset
            for member, data in done.members:
                info = tarfile.TarInfo(member)
                info.size, info.mode = len(data), 0o644
                tar.addfile(info, io.BytesIO(data))
            place = (start, tar.offset - start) if done.members else (None, None)
            rows.append({**done.row, "offset": place[0], "size": place[1]})
    return rows


def _ledger_row(unit: int, sample: Sample) -> dict[str, Any]:
    source, shot = sample.meta["source"], sample.meta.get("split_shots", {})
    return {
        "unit": unit,
        "clip": source["clip"],
        "key": sample.key,
        "video": source["video"],
        "start": shot.get("start", source["start"]),
        "end": shot.get("end", source["end"]),
        "caption": source["caption"],
        "status": sample.verdict.status,
        "stage": sample.verdict.stage,
        "reason": sample.verdict.reason,
        "scores": json.dumps(_without_masks({**sample.meta, "source": None}), ensure_ascii=False),
        "seconds": list(sample.seconds.items()),
    }


def _without_masks(value: Any) -> Any:
    """Metadata less the masks and empty entries: a ledger is for numbers."""
    if isinstance(value, dict):
        return {k: _without_masks(v) for k, v in value.items() if k != "mask" and v is not None}
    return [_without_masks(v) for v in value] if isinstance(value, list) else value


def ledger(folder: Path, unit: int, columns: list[str] | None = None) -> list[dict[str, Any]]:
    """Rows of one unit's ledger."""
    return pq.read_table(folder / f"{name(unit)}.parquet", columns=columns).to_pylist()


def units(folder: Path) -> Iterator[int]:
    """Numbers of the finished units of a run, in order."""
    for path in sorted(folder.glob("shard-*.parquet")):
        yield int(path.stem.removeprefix("shard-"))


def read_sample(folder: Path, row: dict[str, Any]) -> list[tuple[str, bytes]]:
    """The members (name, bytes) of one kept ledger row, read by its offset."""
    with (folder / f"{name(row['unit'])}.tar").open("rb") as file:
        file.seek(row["offset"])
        data = file.read(row["size"])
    return list(read_tar(io.BytesIO(data + bytes(2 * tarfile.BLOCKSIZE))))


def read_tar(file: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of every file in a tar, in order."""
    with tarfile.open(fileobj=file) as tar:
        for member in tar:
            if data := tar.extractfile(member):
                yield member.name, data.read()


@dataclass
class Tally:
    """What became of the planned clips: counts by verdict, and the reasons."""

    planned: int = 0
    kept: int = 0
    rejected: int = 0
    failed: int = 0
    samples: int = 0
    video_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.reasons: Counter[tuple[str, str, str]] = Counter()
        self.stage_seconds: Counter[str] = Counter()

    @property
    def accounted(self) -> bool:
        return self.planned == self.kept + self.rejected + self.failed

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Count one unit's ledger rows. A clip with several shots is kept if one of them is, else failed if one failed."""
        clips: dict[str, set[str]] = {}
        for row in rows:
            clips.setdefault(row["clip"], set()).add(row["status"])
            self.samples += row["status"] == KEPT
            if row["status"] != KEPT:
                self.reasons[row["status"], row["stage"], row["reason"]] += 1
            if row["start"] is not None and row["end"] is not None:
                self.video_seconds += row["end"] - row["start"]
            self.stage_seconds.update(dict(row["seconds"] or ()))
        self.planned += len(clips)
        for statuses in clips.values():
            verdict = next(s for s in (KEPT, FAILED, REJECTED) if s in statuses)
            setattr(self, verdict, getattr(self, verdict) + 1)
