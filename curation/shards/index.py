"""An index of somebody else's shards: which samples there are, where they lie and how large and long their videos are.

Training reads clips by their place and plans by their length and size: a run's ledgers say both; other tars are walked once.
"""

from __future__ import annotations

import io
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from curation.faults import DataError
from curation.inputs import files
from curation.ledger import key_and_suffix
from curation.media.video import Reader, extent
from curation.sample import KEPT
from curation.shards.clip import Clip
from curation.storage import Storage, StorageError

SCHEMA = pa.schema(
    [
        ("shard", pa.string()),
        ("key", pa.string()),
        ("video", pa.string()),
        ("verdict", pa.string()),
        ("reason", pa.string()),
        *[(name, pa.int64()) for name in ("offset", "size")],
        *[(name, pa.int32()) for name in ("width", "height", "frames")],
        ("fps", pa.float32()),
    ]
)
"""Columns of a ledger, and meant as there, but for `shard`: path or URL of the tar; `video`: the source's where KEY.json
is ours, else the key; `verdict`: kept, or failed with a reason."""
VIDEOS = ("mp4", "webm", "mkv", "mov", "avi")
"""Suffixes under which a sample's video is looked for, in this order."""


class _Sample(NamedTuple):
    key: str
    offset: int
    size: int
    members: dict[str, tarfile.TarInfo]
    """By suffix."""


def make(sources: Sequence[str], output: str, say: Callable[[str], None]) -> Counter[str]:
    """Write `NAME.parquet` into `output` for each tar among `sources`: tars, folders of them, local or URLs. Those that are there
    already stay. Returns how many samples became what. Raises `InputError`, `StorageError`, OSError."""
    found = [tar for source in sources for tar in _tars(source)]
    names = Counter(_name(tar) for tar in found)
    if doubled := [name for name, count in names.items() if count > 1]:
        raise files.InputError(f"{names[doubled[0]]} tars are called {doubled[0]}.tar: index them into separate folders")
    storage = Storage.at(output)
    there = storage.names()
    wanted = [tar for tar in found if f"{_name(tar)}.parquet" not in there]
    told: Counter[str] = Counter()
    with ThreadPoolExecutor(cpu_count()) as pool:
        for done, (tar, table) in enumerate(zip(wanted, pool.map(_table, wanted), strict=True), 1):
            buffer = io.BytesIO()
            pq.write_table(table, buffer, compression="zstd")
            storage.write(f"{_name(tar)}.parquet", buffer.getvalue())
            counts = Counter(reason or KEPT for reason in table["reason"].to_pylist())
            told.update(counts)
            say(f"{done}/{len(wanted)} {tar}: " + ", ".join(f"{count:,} {what}" for what, count in sorted(counts.items())))
    return told


def _tars(source: str) -> list[str]:
    if source.endswith(".tar"):
        return [source if "://" in source else str(Path(source).absolute())]
    try:
        storage = Storage.at(source)
        found = [storage.path(name) for name in sorted(storage.names()) if name.endswith(".tar")]
    except (OSError, StorageError) as error:
        raise files.InputError(f"{source}: {error}") from error
    if not found:
        packed = any(".tar." in name or name.endswith(".tgz") for name in storage.names())
        hint = "; compressed tars cannot be read by place: unpack them" if packed else ""
        raise files.InputError(f"{source}: no .tar there{hint}")
    return found


def _name(tar: str) -> str:
    return tar.rpartition("/")[2].removesuffix(".tar")


def _table(tar: str) -> pa.Table:
    rows: list[dict[str, Any]] = []
    try:
        with files.open_bytes(tar) as file, tarfile.open(fileobj=file, mode="r:") as opened:
            for sample in _samples(opened):
                rows.append({"shard": tar, "key": sample.key, "video": sample.key} | _row(file, sample))
    except tarfile.TarError:
        rows.append({"shard": tar, "verdict": "failed", "reason": "bad_tar"})
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _samples(opened: tarfile.TarFile) -> Iterator[_Sample]:
    """Neighbouring members of one name up to its first dot, as webdataset groups them."""
    sample: _Sample | None = None
    for member in opened:
        key, suffix = key_and_suffix(member.name)
        if not member.isfile() or not key.rpartition("/")[2]:
            continue
        if sample is None or key != sample.key or suffix in sample.members:
            if sample is not None:
                yield sample
            sample = _Sample(key, member.offset, 0, {})
        sample.members[suffix] = member
        blocks = -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        sample = sample._replace(size=member.offset_data + blocks - sample.offset)
    if sample is not None:
        yield sample


def _row(file: IO[bytes], sample: _Sample) -> dict[str, Any]:
    place = {"offset": sample.offset, "size": sample.size}
    suffix = next((suffix for suffix in VIDEOS if suffix in sample.members), None)
    try:
        clip = Clip.model_validate_json(_bytes(file, sample.members["json"]))
        video = clip.video
        ours: dict[str, Any] = {"video": clip.source.video}
    except (KeyError, ValidationError):
        video, ours = None, {}
    if suffix is None:
        return {"verdict": "failed", "reason": "no_video"} | ours
    if video is not None:
        facts = {name: getattr(video, name) for name in ("width", "height", "frames", "fps")}
        return {"verdict": KEPT, **place, **facts, **ours}
    try:
        return {"verdict": KEPT, **place, **_facts(_bytes(file, sample.members[suffix])), **ours}
    except DataError as error:
        return {"verdict": "failed", "reason": error.reason} | ours


def _bytes(file: IO[bytes], member: tarfile.TarInfo) -> bytes:
    file.seek(member.offset_data)
    return file.read(member.size)


def _facts(data: bytes) -> dict[str, Any]:
    """Upright pixels, frames, and frames per second of time. Raises `VideoError`."""
    whole = extent(io.BytesIO(data))
    with Reader(io.BytesIO(data)) as reader:
        width, height = next(reader.frames()).size
    return {"width": width, "height": height, "frames": whole.frames, "fps": whole.frames / whole.seconds}
