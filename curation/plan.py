"""Planning: every clip there is, its entity words or why it was dropped, cut into units. No video is opened.

`OUT/plan/part-00000.parquet` holds one row per clip and one row group per unit; `OUT/plan/plan.json` what it was made from.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curation import recipe as recipes
from curation.captions import BATCH, named
from curation.inputs.rows import STAGE as INPUTS
from curation.recipe import Recipe, Shards
from curation.sample import REJECTED, Sample, Verdict

UNITS_PER_PART = 256
UNKNOWN_SECONDS = 30.0

SCHEMA = pa.schema(
    [
        ("unit", pa.int64()),
        ("key", pa.string()),
        ("video", pa.string()),
        ("start", pa.float64()),
        ("end", pa.float64()),
        ("caption", pa.string()),
        ("status", pa.string()),
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("source", pa.string()),
        ("meta", pa.string()),
    ]
)
"""One planned clip. `start`, `end`: seconds in the file, null for the whole of it; `status` kept means: goes on to the clip
stages; `source` and `meta` are JSON: where the clip is, and what the caption stages found."""


class PlanError(Exception):
    """One line: why this run directory's plan cannot be used."""


@dataclass(frozen=True)
class Plan:
    """A finished plan on disk."""

    folder: Path
    info: dict[str, Any]

    @property
    def units(self) -> int:
        return self.info["units"]

    @property
    def clips(self) -> int:
        return self.info["clips"]

    def unit(self, number: int) -> list[Sample]:
        """The samples of one unit, in planned order."""
        path = _part(self.folder, number // UNITS_PER_PART)
        with pq.ParquetFile(path) as file:
            rows = file.read_row_group(number % UNITS_PER_PART).to_pylist()
        return [_sample(row) for row in rows]


def open_plan(out: Path) -> Plan | None:
    """The plan of a run directory, None when there is none (or an unfinished one)."""
    info = out / "plan" / "plan.json"
    return Plan(out / "plan", json.loads(info.read_text())) if info.exists() else None


def identity(recipe: Recipe, input_name: str, limit: int | None) -> dict[str, Any]:
    """What a plan is made from; a plan made from anything else is not reused."""
    return {"input": input_name, "limit": limit, **recipe.plan_fingerprint()}


def check(plan: Plan, wanted: dict[str, Any]) -> None:
    """Raise `PlanError` naming what changed since the plan was made."""
    if changed := recipes.changes(plan.info["made_from"], json.loads(json.dumps(wanted))):
        raise PlanError(f"{plan.folder} was made from something else ({'; '.join(changed)}): take another --output, or delete it")


def make_plan(
    recipe: Recipe,
    clips: Iterable[Sample],
    out: Path,
    made_from: dict[str, Any],
    *,
    limit: int | None = None,
    workers: int | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Plan:
    """Stream the clips through the caption stages into units on disk; memory does not grow with the clips but for 64 bits
    each, which find doubled keys. Written to a temporary folder and renamed: a plan is whole or not there.
    """
    temporary = out / "plan.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    counts: Counter[str] = Counter()
    content = hashlib.sha256()
    unit = -1
    rows = named(_unique(islice(clips, limit)), recipe.plan, workers)
    with _PartWriter(temporary) as writer:
        for unit, samples in enumerate(cut_units(rows, recipe.shards)):
            table = [_row(unit, sample) for sample in samples]
            content.update(json.dumps(table).encode())
            writer.write(table)
            counts.update(row["status"] for row in table)
            progress(len(table))
    info = {
        "made_from": made_from,
        "clips": counts.total(),
        "units": unit + 1,
        "verdicts": dict(sorted(counts.items())),
        "hash": content.hexdigest()[:16],
    }
    (temporary / "plan.json").write_text(json.dumps(info, indent=1))
    shutil.rmtree(out / "plan", ignore_errors=True)
    temporary.rename(out / "plan")
    return Plan(out / "plan", info)


def cut_units(samples: Iterable[Sample], shards: Shards) -> Iterator[list[Sample]]:
    """Consecutive units, bounded by clips and by seconds of video. A source's clips stay together (one decode) unless that
    would double the bound; clips already dropped ride along, up to sixteen times the bound.
    """
    unit: list[Sample] = []
    alive, seconds, last = 0, 0.0, None
    for sample in samples:
        path = sample.meta["source"]["path"]
        full = alive >= shards.clips_per_unit or seconds >= shards.seconds_per_unit
        burst = alive >= 2 * shards.clips_per_unit or len(unit) >= 16 * shards.clips_per_unit
        if burst or (full and (path is None or path != last)):
            yield unit
            unit, alive, seconds = [], 0, 0.0
        unit.append(sample)
        last = path
        if sample.alive:
            alive += 1
            seconds += _seconds(sample)
    if unit:
        yield unit


def _seconds(sample: Sample) -> float:
    start, end = sample.meta["source"]["start"], sample.meta["source"]["end"]
    return UNKNOWN_SECONDS if end is None else end - (start or 0.0)


def _unique(samples: Iterable[Sample]) -> Iterator[Sample]:
    """A key that was there before gets a new name and is rejected as `duplicate_key`."""
    samples, seen, duplicates = iter(samples), _Seen(), 0
    while batch := list(islice(samples, BATCH)):
        for sample, double in zip(batch, seen.add([s.key for s in batch]), strict=True):
            if double:
                duplicates += 1
                sample.key = f"{sample.key}_duplicate{duplicates}"
                sample.meta["source"]["clip"] = sample.key
                sample.verdict = Verdict(REJECTED, INPUTS, "duplicate_key")
            yield sample


class _Seen:
    """The keys that came by, as 64-bit hashes in sorted runs of doubling length: eight bytes a key (70 million: 560 MB)."""

    def __init__(self) -> None:
        self.runs: list[np.ndarray] = []

    def add(self, keys: list[str]) -> list[bool]:
        """Whether each key was there before it."""
        digests = b"".join(hashlib.blake2b(key.encode(), digest_size=8).digest() for key in keys)
        hashes = np.frombuffer(digests, np.uint64)
        run, first = np.unique(hashes, return_index=True)
        double = np.ones(len(keys), bool)
        double[first] = False
        for old in self.runs:
            place = np.searchsorted(old, hashes).clip(max=len(old) - 1)
            double |= old[place] == hashes
        while self.runs and len(self.runs[-1]) <= len(run):
            run = np.union1d(self.runs.pop(), run)
        self.runs.append(run)
        return double.tolist()


class _PartWriter:
    """Parquet parts of `UNITS_PER_PART` row groups each."""

    def __init__(self, folder: Path):
        self.folder, self.count, self.file = folder, 0, None

    def __enter__(self) -> _PartWriter:
        return self

    def __exit__(self, *_: object) -> None:
        if self.file:
            self.file.close()

    def write(self, rows: list[dict[str, Any]]) -> None:
        if self.count % UNITS_PER_PART == 0:
            self.__exit__()
            self.file = pq.ParquetWriter(_part(self.folder, self.count // UNITS_PER_PART), SCHEMA, compression="zstd")
        assert self.file is not None
        self.file.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), row_group_size=len(rows))
        self.count += 1


def _part(folder: Path, number: int) -> Path:
    return folder / f"part-{number:05d}.parquet"


def _row(unit: int, sample: Sample) -> dict[str, Any]:
    source = dict(sample.meta["source"])
    meta = {name: values for name, values in sample.meta.items() if name != "source"}
    return {
        "unit": unit,
        "key": sample.key,
        "video": source.pop("video"),
        "start": source.pop("start"),
        "end": source.pop("end"),
        "caption": source.pop("caption"),
        "status": sample.verdict.status,
        "stage": sample.verdict.stage,
        "reason": sample.verdict.reason,
        "source": json.dumps(source),
        "meta": json.dumps(meta),
    }


def _sample(row: dict[str, Any]) -> Sample:
    source = {**json.loads(row["source"]), **{k: row[k] for k in ("video", "start", "end", "caption")}}
    verdict = Verdict(row["status"], row["stage"], row["reason"])
    return Sample(row["key"], meta={"source": source, **json.loads(row["meta"])}, verdict=verdict)
