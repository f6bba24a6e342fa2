"""A plan on disk: every planned clip, in units, in parts that are finished one by one. It is read as it was made, in order."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.ledger import Unit
from curation.sample import Sample, Verdict
from curation.storage import Storage

INFO = "plan/plan.json"
"""What a plan was made from, and, when it is complete, what it holds."""
FACTS = b"curation"
"""Key in a part's metadata: JSON of its `Group`, its verdicts and the hash of its rows."""
SCHEMA = pa.schema(
    [
        ("unit", pa.int32()),
        ("key", pa.string()),
        ("video", pa.string()),
        ("start", pa.float64()),
        ("end", pa.float64()),
        ("caption", pa.string()),
        ("verdict", pa.string()),
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("source", pa.string()),
        ("meta", pa.string()),
    ]
)
"""One planned clip. `unit`: its number in the part; `start`, `end`: seconds in the file, null for the whole of it; `verdict` kept
means: goes on to the clip stages; `source` and `meta` are JSON: where the clip is, and what the caption stages found."""
COLUMNS = ("video", "start", "end", "caption")
"""What of a clip's source stands in columns of its own."""


@dataclass(frozen=True)
class Group:
    """Units that are packed by themselves: those of one part. `attempt`: 0, more for a part that `retry` added. `ends`: of
    sidecars the number of each shard and the last unit in it."""

    group: int
    units: int
    clips: int
    attempt: int = 0
    ends: Sequence[tuple[int, int]] = ()


@dataclass(frozen=True)
class Plan:
    """A complete plan."""

    storage: Storage
    info: dict[str, Any]

    @property
    def clips(self) -> int:
        """Planned clips; those that `retry` plans again are not counted again."""
        return self.info["clips"]

    @property
    def groups(self) -> list[Group]:
        return [Group(**group) for group in self.info["groups"]]

    def units(self, group: int) -> Iterator[tuple[Unit, list[Sample]]]:
        """Units of a group with their samples, in planned order, read as they are asked for."""
        with self.storage.open(part(group)) as file, pq.ParquetFile(file) as table:
            rows = (row for batch in table.iter_batches(1024) for row in batch.to_pylist())
            for number, some in groupby(rows, key=lambda row: row["unit"]):
                yield Unit(group, number), [sample_of(row) for row in some]

    def unit(self, unit: Unit) -> list[Sample]:
        """The samples of one unit, in planned order."""
        with self.storage.open(part(unit.group)) as file:
            rows = pq.read_table(file, filters=[("unit", "==", unit.number)]).to_pylist()
        return [sample_of(row) for row in rows]


def open_plan(storage: Storage) -> Plan | None:
    """The plan of a run directory, None when there is none, or one that is not complete."""
    info = info_of(storage)
    return Plan(storage, info) if info and info["complete"] else None


def info_of(storage: Storage) -> dict[str, Any] | None:
    """What plan.json says, also of a plan that is not complete."""
    return json.loads(storage.read(INFO)) if storage.exists(INFO) else None


def part(group: int) -> str:
    return f"plan/part-{group:05d}.parquet"


def facts(storage: Storage, group: int) -> dict[str, Any]:
    """What a part says of itself: the fields of its `Group`, verdicts, hash. Raises `FileNotFoundError`."""
    with storage.open(part(group)) as file:
        return json.loads(pq.read_metadata(file).metadata[FACTS])


def group_of(facts: dict[str, Any]) -> dict[str, Any]:
    """The fields of its `Group`."""
    names = ("group", "units", "clips", "attempt", *(["ends"] if facts.get("ends") else []))
    return {name: facts[name] for name in names}


def row_of(unit: int, sample: Sample) -> dict[str, Any]:
    source = dict(sample.meta["source"])
    meta = {name: values for name, values in sample.meta.items() if name != "source"}
    verdict = sample.verdict
    return {
        "unit": unit,
        "key": sample.key,
        **{name: source.pop(name) for name in COLUMNS},
        **{"verdict": verdict.status, "stage": verdict.stage, "reason": verdict.reason, "detail": verdict.detail},
        "source": json.dumps(source),
        "meta": json.dumps(meta),
    }


def sample_of(row: dict[str, Any]) -> Sample:
    source = {**json.loads(row["source"]), **{name: row[name] for name in COLUMNS}}
    verdict = Verdict(row["verdict"], row["stage"], row["reason"], row["detail"])
    return Sample(row["key"], meta={"source": source, **json.loads(row["meta"])}, verdict=verdict)
