"""A finished unit: its kept samples as a tar without an end mark, and a ledger of all its clips. Such tars one after the other,
and an end mark, are a shard."""

from __future__ import annotations

import math
import tarfile
import zlib
from collections.abc import Collection, Mapping, Sequence
from functools import reduce
from typing import Any

import pyarrow as pa

from curation.faults import DataError, StageBug, is_infrastructure, one_line
from curation.ledger import SCHEMA, TAKEN, WRITE, Unit, compact, encoded, row
from curation.sample import FAILED, KEPT, REJECTED, Sample, Verdict
from curation.shards.clip import FIRST, clip_json, published
from curation.stage import verdict_of
from curation.storage import Storage


def write(
    storage: Storage,
    unit: Unit,
    attempt: int,
    samples: Sequence[Sample],
    owners: Mapping[str, str],
    provenance: Mapping[str, Any],
    planned: Sequence[str],
    skip_keys: Collection[str] = frozenset(),
) -> dict[str, int]:
    """Publish a unit, its ledger last, and say what became of how many clips: {clips, kept, rejected, failed, bytes}.

    `owners`: pattern of members → stage (`Recipe.owners`). `planned`: keys of the unit's clips; rows and samples follow their
    order, shots of a clip keep theirs. `skip_keys`: samples that an earlier attempt has kept. Whatever a sample's serialisation
    raises is that sample's failure. Raises `StageBug` when a planned clip is missing or another came.
    """
    order = {clip: i for i, clip in enumerate(planned)}
    if odd := order.keys() ^ {_clip(sample) for sample in samples}:
        raise StageBug(f"unit {unit.name}: clip {min(odd)} " + ("is gone" if min(odd) in order else "was not planned"))
    rows: list[dict[str, Any]] = []
    tar: list[bytes] = []
    place, seen = 0, set(skip_keys)
    for sample in sorted(samples, key=lambda sample: order[_clip(sample)]):
        if sample.key in skip_keys:
            sample.drop(Verdict(REJECTED, WRITE, TAKEN))
        elif sample.alive and sample.key in seen:
            sample.drop(Verdict(FAILED, WRITE, "key_twice"))
        seen.add(sample.key)
        line, parts = _serialised(unit, attempt, sample, owners, provenance)
        if parts:
            size = sum(map(len, parts))
            line |= {"offset": place, "size": size, "crc32": checksum(parts)}
            tar += parts
            place += size
        rows.append(line)
    if tar:
        with storage.writing(unit.tar) as file:
            file.writelines(tar)
    else:
        storage.remove(unit.tar)  # of an attempt that was killed before its ledger
    facts = {"group": unit.group, "first": unit.number, "last": unit.number, "attempt": attempt, "bytes": place}
    storage.write(unit.ledger, encoded(pa.Table.from_pylist(rows, schema=SCHEMA), **facts))
    return {**_counts(rows), "bytes": place}


def members(sample: Sample, owners: Mapping[str, str], provenance: Mapping[str, Any]) -> list[tuple[str, bytes]]:
    """The members of a kept sample, name and bytes, in the order of the tar: those of `clip.FIRST`, metadata, the others by name.
    None at all when no stage has made one. Raises `DataError`, `ValueError` or `TypeError` for what cannot be written."""
    named = [(suffix, sample.files[suffix]) for suffix in published(sample)]
    if not named:
        return []
    text = compact(clip_json(sample, owners, provenance)).encode()
    named.insert(sum(suffix in FIRST for suffix, _ in named), ("json", text))
    if odd := [suffix for suffix, data in named if not isinstance(data, bytes)]:
        raise DataError("no_bytes", f"{odd[0]} is {type(sample.files[odd[0]]).__name__}")
    return [(f"{sample.key}.{suffix}", data) for suffix, data in named]


def blocks(members: Sequence[tuple[str, bytes]]) -> list[bytes]:
    """Members as they stand in a tar. They depend on names and bytes alone: fixed owners, modes and times."""
    found: list[bytes] = []
    for name, data in members:
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(data), 0o644
        found += [info.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict"), data, bytes(-len(data) % tarfile.BLOCKSIZE)]
    return found


def checksum(parts: Sequence[bytes]) -> int:
    """CRC-32 of bytes one after the other: a disk's errors are found by it, a forger's work is not."""
    return reduce(lambda before, part: zlib.crc32(part, before), parts, 0)


def _serialised(
    unit: Unit, attempt: int, sample: Sample, owners: Mapping[str, str], provenance: Mapping[str, Any]
) -> tuple[dict[str, Any], list[bytes]]:
    """Row and tar of a sample; the row of its failure when there is no writing it."""
    try:
        line = row(unit, attempt, sample, sample.meta.get(owners.get("mp4", ""), {}))
        pa.RecordBatch.from_pylist([line], schema=SCHEMA)  # one that Arrow refuses must not take the others along
        return line, blocks(members(sample, owners, provenance)) if sample.alive else []
    except StageBug:
        raise
    except Exception as error:  # noqa: BLE001 whatever a sample provokes here belongs to that sample
        if is_infrastructure(error):
            raise
        return row(unit, attempt, _bare(sample, error), {}), []


def _bare(sample: Sample, error: Exception) -> Sample:
    """What can be written of a sample in any case. One that had failed before keeps its reason."""
    said = sample.verdict if sample.verdict.status == FAILED else _verdict(error)
    verdict = Verdict(FAILED, said.stage, said.reason, _text(said.detail), said.unforeseen)
    source = sample.meta["source"]
    texts = {name: _text(source.get(name, "")) for name in ("clip", "video", "caption")}
    times = {name: source.get(name) if _is_time(source.get(name)) else None for name in ("start", "end")}
    return Sample(_text(sample.key), meta={"source": texts | times}, verdict=verdict, seconds=sample.seconds)


def _verdict(error: Exception) -> Verdict:
    if isinstance(error, UnicodeEncodeError):
        return Verdict(FAILED, WRITE, "not_utf8", one_line(error))
    if isinstance(error, (pa.ArrowInvalid, pa.ArrowTypeError)):
        return Verdict(FAILED, WRITE, "not_in_schema", one_line(error))
    if isinstance(error, (ValueError, TypeError, RecursionError)):
        return Verdict(FAILED, WRITE, "not_json", one_line(error))
    return verdict_of(WRITE, error)


def _text(value: object) -> str:
    return str(value).encode("utf-8", "replace").decode()


def _is_time(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _clip(sample: Sample) -> str:
    return sample.meta["source"]["clip"]


def _counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Clips by verdict: kept if a shot is (or was, before a retry), else failed if one failed."""
    found: dict[str, set[str]] = {}
    for line in rows:
        found.setdefault(line["clip"], set()).add(KEPT if line["reason"] == TAKEN else line["verdict"])
    best = [next(v for v in (KEPT, FAILED, REJECTED) if v in verdicts) for verdicts in found.values()]
    return {"clips": len(best), **{verdict: best.count(verdict) for verdict in (KEPT, REJECTED, FAILED)}}
