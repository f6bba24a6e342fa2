"""The ledger of a run: what became of every planned clip, and where its sample lies. Parquet, one row per clip or shot.

A finished unit has one (`units/00003/000017.parquet`) until it is packed; then its rows stand in a shard's. It is read with
Arrow, whole files at a time: 70 million rows are a normal size.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from curation import columns
from curation.sample import Sample
from curation.storage import Storage

SCHEMA = pa.schema(
    [
        ("shard", pa.string()),
        ("unit", pa.int32()),
        ("group", pa.int32()),
        ("attempt", pa.int16()),
        ("clip", pa.string()),
        ("key", pa.string()),
        ("video", pa.string()),
        ("start", pa.float64()),
        ("end", pa.float64()),
        ("caption", pa.string()),
        ("verdict", pa.string()),
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("scores", pa.string()),
        ("source", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("fps", pa.float32()),
        ("frames", pa.int32()),
        ("seconds", pa.map_(pa.string(), pa.float32())),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("crc32", pa.int64()),
        *columns.FIELDS,
    ]
)
"""`shard`: "" until the unit is packed; `unit`: its number in the group; `attempt`: 0, more by `retry`; `clip`: key of the
planned clip, `key`: of the sample; `start`, `end`: seconds in the source file; `scores`: JSON of what every stage recorded;
`source`: JSON of what the input said; `width` … `frames`: of the clip's video, null unless known; `seconds`: what each stage
spent on it; `offset`, `size`: where its members lie in the tar, and `crc32` of
those bytes, null unless kept; from there on what `scores` says, typed (`curation.columns`)."""

WRITE = "write"
"""Who a clip was dropped by when it could not be written."""
TAKEN = "already_kept"
"""Reason of a retry's row whose key an earlier attempt has kept. It says that the clip was done, and counts for nothing."""
FACTS = b"curation"
"""Key in a ledger's metadata: JSON {group, number (of the shard), first, last (unit), attempt, bytes (of the tar)}."""
SIDECAR = re.compile(r"(shard-\d{5,}-\d{4,})\.([a-z][a-z0-9_]*)")
"""Stem of a *sidecar*: a shard with further members of the samples of another, NAME.latents for NAME; of a run of its own, and it
may be copied beside the other."""
OWN = ("clip", "video", "start", "end", "caption", "path", "member", "offset", "size")
"""What a planned clip says in columns of its own, and where this run finds its bytes."""


@dataclass(frozen=True, order=True)
class Unit:
    """A unit of work: which of its group. `00003-000017`; its files are `units/00003/000017.parquet` and `.tar`."""

    group: int
    number: int

    @property
    def name(self) -> str:
        return f"{self.group:05d}-{self.number:06d}"

    @staticmethod
    def of(name: str) -> Unit:
        group, number = name.split("-")
        return Unit(int(group), int(number))

    @property
    def ledger(self) -> str:
        return f"{folder(self.group)}/{self.number:06d}.parquet"

    @property
    def tar(self) -> str:
        return f"{folder(self.group)}/{self.number:06d}.tar"


def folder(group: int) -> str:
    """Where a group's finished units lie until they are packed."""
    return f"units/{group:05d}"


def shard(group: int, number: int, sidecar: str = "") -> str:
    """`shard-00003-0002`, of a sidecar `shard-00003-0002.latents`; in `shards/`, `.parquet` and, when it keeps something, `.tar`
    follow."""
    return f"shard-{group:05d}-{number:04d}" + f".{sidecar}" * bool(sidecar)


def group_of(name: str) -> int:
    """The group that a ledger belongs to, by its name."""
    return int(name.split("-")[1] if name.startswith("shards/") else name.split("/")[1])


def row(unit: Unit, attempt: int, sample: Sample, facts: Mapping[str, Any]) -> dict[str, Any]:
    """A sample as its ledger's row. `facts`: what the stage that owns `mp4` has recorded of it. Raises `ValueError` or
    `TypeError` for what JSON does not hold."""
    source, verdict = sample.meta["source"], sample.verdict
    scores = {name: values for name, values in sample.meta.items() if name != "source"}
    return {
        "shard": "",
        "unit": unit.number,
        "group": unit.group,
        "attempt": attempt,
        "clip": source["clip"],
        "key": sample.key,
        "video": source["video"],
        "start": facts.get("start", source["start"]),
        "end": facts.get("end", source["end"]),
        "caption": source["caption"],
        "verdict": verdict.status,
        "stage": verdict.stage,
        "reason": verdict.reason,
        "detail": verdict.detail,
        "scores": compact(_without_masks(scores)),
        "source": compact(carried(source)),
        **{column: facts.get(column) for column in ("width", "height", "fps", "frames")},
        "seconds": list(sample.seconds.items()),
        **dict.fromkeys(("offset", "size", "crc32")),
        **columns.of(scores),
    }


def carried(source: Mapping[str, Any]) -> dict[str, Any]:
    """What an input said of a clip beside that: url, origin, labels, …"""
    return {k: v for k, v in source.items() if k not in OWN}


def compact(value: Any) -> str:
    """JSON without spaces, as text. Raises `ValueError` for NaN and infinity, `TypeError` for what is no JSON."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _without_masks(value: Any) -> Any:
    """Metadata less the masks and empty entries: a ledger is for numbers."""
    if isinstance(value, dict):
        return {k: _without_masks(v) for k, v in value.items() if k != "mask" and v is not None}
    return [_without_masks(v) for v in value] if isinstance(value, list) else value


def encoded(table: pa.Table, **facts: int) -> bytes:
    """A ledger as the bytes of its file; `facts` are what `FACTS` says."""
    buffer = io.BytesIO()
    told = table.replace_schema_metadata({FACTS: json.dumps(facts)})
    pq.write_table(told, buffer, compression="zstd", write_page_checksum=True)
    return buffer.getvalue()


def facts(storage: Storage, name: str) -> dict[str, int]:
    """What a ledger says of itself. Raises `FileNotFoundError`."""
    with storage.open(name) as file:
        return facts_of(pq.read_metadata(file))


def facts_of(metadata: pq.FileMetaData) -> dict[str, int]:
    return json.loads(metadata.metadata[FACTS])


def read(storage: Storage, name: str) -> tuple[pa.Table, dict[str, int]]:
    """A ledger whole, held to its checksums, with all columns, and what it says of itself. Raises `FileNotFoundError`, and
    OSError or Arrow's errors when it is damaged."""
    with pq.ParquetFile(io.BytesIO(storage.read(name)), page_checksum_verification=True) as file:
        told = facts_of(file.metadata)
        return columns.completed(file.read()), told


def newest(storage: Storage, names: Iterable[str] | None = None) -> dict[int, str]:
    """Group → name of its newest shard. `names`: of the files in shards/, when they are known."""
    found = [name.removesuffix(".parquet") for name in own(storage.names("shards") if names is None else names)]
    return {int(name.split("-")[1]): name for name in sorted(found, key=lambda name: (len(name), name))}


def own(names: Iterable[str]) -> list[str]:
    """The ledgers among the files in shards/, less the sidecars that were copied beside a run's own shards."""
    found = [name for name in names if name.endswith(".parquet")]
    return [name for name in found if not SIDECAR.fullmatch(name.removesuffix(".parquet"))] or found


def files(storage: Storage) -> dict[str, int]:
    """Names and sizes of a run's ledgers, in planned order: those of shards, and of finished units that are not packed yet."""
    there = storage.names("shards")
    shards = {f"shards/{name}": there[name] for name in own(there)}
    last = newest(storage, [name.partition("/")[2] for name in shards])
    units: dict[str, int] = {}
    for group in map(int, storage.folders("units")):
        done = facts(storage, f"shards/{last[group]}.parquet")["last"] if group in last else -1
        found = {name: size for name, size in storage.names(folder(group)).items() if name.endswith(".parquet")}
        units |= {f"{folder(group)}/{name}": size for name, size in found.items() if int(name.partition(".")[0]) > done}
    return shards | units


def dataset(storage: Storage, names: Iterable[str] | None = None) -> ds.Dataset:
    """Ledgers (all, or some by name) as one Arrow dataset."""
    filesystem, root = storage.arrow()
    paths = [f"{root}/{name}" for name in (files(storage) if names is None else names)]
    return ds.dataset(paths, schema=SCHEMA, format="parquet", filesystem=filesystem)


def rows(
    storage: Storage, columns: list[str] | None = None, filter: pc.Expression | None = None, names: Iterable[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Rows in planned order, as dicts: for few of them."""
    for batch in dataset(storage, names).to_batches(columns=columns, filter=filter):
        yield from batch.to_pylist()


def file_of(row: Mapping[str, Any]) -> str:
    """The ledger that a row stands in."""
    return f"shards/{row['shard']}.parquet" if row["shard"] else Unit(row["group"], row["unit"]).ledger


def tar_of(row: Mapping[str, Any]) -> str:
    """The tar that holds a kept row's members."""
    return f"{file_of(row).removesuffix('.parquet')}.tar"


def read_sample(storage: Storage, row: Mapping[str, Any]) -> list[tuple[str, bytes]]:
    """The members (name, bytes) of one kept row, read by its place."""
    return read_members(read_blocks(storage, row))


def read_blocks(storage: Storage, row: Mapping[str, Any]) -> bytes:
    """The same as they stand in the tar; fewer bytes than `size` where the file ends."""
    return storage.read_range(tar_of(row), row["offset"], row["size"])


def key_and_suffix(member: str) -> tuple[str, str]:
    """A member's name in two, as webdataset does it: at the first dot behind its folder."""
    folder, slash, name = member.rpartition("/")
    stem, _, suffix = name.partition(".")
    return folder + slash + stem, suffix


def read_members(blocks: bytes) -> list[tuple[str, bytes]]:
    """The members (name, bytes) in some blocks of a tar."""
    return list(read_tar(io.BytesIO(blocks + bytes(2 * tarfile.BLOCKSIZE))))


def read_tar(file: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of every file in a tar, in order."""
    with tarfile.open(fileobj=file) as tar:
        for member in tar:
            if data := tar.extractfile(member):
                yield member.name, data.read()
