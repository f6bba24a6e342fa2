"""`curation forget`: take clips out of a run for good. Of each its key is left, and a tombstone, so that it does not come back.

The tombstone is written first. Whatever is done after it can be done again: a kill in the middle is gone on with by the next
`forget` or run.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation import ledger
from curation.sample import REJECTED, SHOT, Sample, Verdict
from curation.shards import planned, tally
from curation.shards.pack import end_mark
from curation.shards.planned import Plan
from curation.storage import CHUNK, Storage

NOTE = "forgotten.json"
"""{clips: keys of planned clips, done: whether all of them are out}."""
STAGE, REASON = "forget", "forgotten"


class ForgetError(Exception):
    """One line: which clip is not there."""


@dataclass
class Forgotten:
    """Clips that were in the run, and how many of its files were rewritten."""

    clips: int = 0
    ledgers: int = 0
    parts: int = 0


def tombstones(storage: Storage) -> frozenset[str]:
    """Keys of planned clips that are not to come back."""
    return frozenset(json.loads(storage.read(NOTE))["clips"]) if storage.exists(NOTE) else frozenset()


def buried(sample: Sample) -> Sample:
    """What is left of a planned clip: its key, and where it stood in its input when that is a shard (parts follow those)."""
    source = sample.meta["source"]
    bare = {"clip": source["clip"], "video": "", "start": None, "end": None, "caption": ""}
    bare |= (
        {name: source.get(name) for name in ("path", "member")}
        if source.get("member") is not None
        else {"path": "", "member": None}
    )
    return Sample(sample.key, meta={"source": bare}, verdict=Verdict(REJECTED, STAGE, REASON))


def forget(storage: Storage, plan: Plan, keys: Collection[str], also: Collection[str] = ()) -> Forgotten:
    """Take out the clips of these keys, of planned clips or of shots of them, out of sidecars beside the shards, too. Only under
    the claim.

    Raises `ForgetError` when one of `keys` is not in the run. One of `also` need not be: it gets its tombstone all the same.
    """
    wanted = {*keys, *also}
    of_them = pc.field("key").isin(pa.array(wanted, pa.string()))
    of_them |= pc.replace_substring_regex(pc.field("clip"), SHOT.pattern, "").isin(pa.array(wanted, pa.string()))
    rows = ledger.dataset(storage).to_table(columns=["clip", "key"], filter=of_them)
    clips = dict(zip(rows["key"].to_pylist(), rows["clip"].to_pylist(), strict=True))
    shots = {SHOT.sub("", clip): clip for clip in clips.values()}  # that were planned from an earlier run
    if (unknown := set(keys) - clips.keys() - shots.keys()) and (
        missing := unknown - _planned(plan, unknown) - tombstones(storage)
    ):
        raise ForgetError(f"{storage.path()} has no clip {min(missing)!r}" + f" and {len(missing) - 1} more" * (len(missing) > 1))
    found = tombstones(storage) | {clips.get(key, key) for key in wanted} | set(clips.values())
    _note(storage, found, done=False)
    return go_on(storage, plan)


def go_on(storage: Storage, plan: Plan) -> Forgotten:
    """Take out what has a tombstone and is still there."""
    result = Forgotten()
    if not storage.exists(NOTE) or json.loads(storage.read(NOTE))["done"]:
        return result
    clips = tombstones(storage)
    for group in plan.groups:
        result.parts += _part(storage, group.group, clips)
    own = ledger.files(storage)
    gone = pc.field("clip").isin(pa.array(clips, pa.string()))
    keys = {*clips, *ledger.dataset(storage, own).to_table(columns=["key"], filter=gone)["key"].to_pylist()}
    for name in own:
        count = _ledger(storage, name, clips)
        result.clips, result.ledgers = result.clips + count, result.ledgers + bool(count)
    for name in storage.names("shards"):
        if name.endswith(".parquet") and f"shards/{name}" not in own:  # a sidecar beside them: its clips are their samples
            result.ledgers += bool(_ledger(storage, f"shards/{name}", keys))
    storage.remove_folder("cache")  # the trainer's: made anew when it is wanted
    storage.remove(tally.NOTE, "report.html", "report.json")  # they are made anew, too
    _note(storage, clips, done=True)
    return result


def _note(storage: Storage, clips: Collection[str], done: bool) -> None:
    storage.write(NOTE, json.dumps({"clips": sorted(clips), "done": done}, indent=1))


def _planned(plan: Plan, keys: Collection[str]) -> set[str]:
    """Those that a part of the plan has."""
    found: set[str] = set()
    for group in plan.groups:
        with plan.storage.open(planned.part(group.group)) as file:
            table = pq.read_table(file, columns=["key"], filters=pc.field("key").isin(pa.array(keys, pa.string())))
            found |= set(table["key"].to_pylist())
    return found


def _part(storage: Storage, group: int, clips: Collection[str]) -> bool:
    """Whether a part of the plan had any of them. What the plan was made from, and its hash, stand: it is the same run."""
    name = planned.part(group)
    with storage.open(name) as file:
        keys = pq.read_table(file, columns=["key"])["key"]
        if not pc.any(pc.is_in(keys, value_set=pa.array(clips, pa.string()))).as_py():
            return False
        file.seek(0)
        table = pq.read_table(file)
    metadata = table.schema.metadata
    rows = [
        planned.row_of(row["unit"], buried(planned.sample_of(row))) if row["key"] in clips else row for row in table.to_pylist()
    ]
    with storage.writing(name) as file:
        pq.write_table(pa.Table.from_pylist(rows, schema=planned.SCHEMA.with_metadata(metadata)), file, compression="zstd")
    return True


def _ledger(storage: Storage, name: str, clips: Collection[str]) -> int:
    """How many of the clips were in a ledger. The tar is written anew first, and read for what is in it: a kill between the two
    leaves rows whose places are wrong, which the next call mends."""
    table, facts = ledger.read(storage, name)
    rows = table.to_pylist()
    gone = {row["key"] for row in rows if row["clip"] in clips}
    if not gone:
        return 0
    places, size = _tar(storage, f"{name.removesuffix('.parquet')}.tar", gone, is_shard=name.startswith("shards/"))
    found = len({row["clip"] for row in rows if row["key"] in gone})
    for row in rows:
        if row["key"] in gone:
            row |= _empty(row)
        elif row["key"] in places and row["offset"] is not None:
            row["offset"], row["size"] = places[row["key"]]
    told = ledger.encoded(pa.Table.from_pylist(rows, schema=ledger.SCHEMA), **facts | {"bytes": size})
    storage.write(name, told)
    return found


def _empty(row: dict[str, Any]) -> dict[str, Any]:
    """A row of which nothing is left but its place and its keys."""
    kept = {column: row[column] for column in ("shard", "unit", "group", "attempt", "clip", "key")}
    texts = {"video": "", "caption": "", "detail": "", "scores": "{}", "source": "{}"}
    verdict = {"verdict": REJECTED, "stage": STAGE, "reason": REASON}
    return {**dict.fromkeys(ledger.SCHEMA.names), **kept, **texts, **verdict, "seconds": []}


def _tar(storage: Storage, name: str, gone: Collection[str], is_shard: bool) -> tuple[dict[str, tuple[int, int]], int]:
    """Write a tar without some samples: where the others are now, and its size. One that is left empty is removed."""
    places: dict[str, tuple[int, int]] = {}
    if not storage.exists(name):
        return places, 0
    end = 0
    with storage.open(name) as source:
        samples = list(_samples(source))
        left = [sample for sample in samples if sample[0] not in gone]
        if left:
            with storage.writing(name) as target:
                for key, offset, size in left:
                    _copy(source, offset, size, target)
                    places[key] = (end, size)
                    end += size
                tail = end_mark(end) if is_shard else b""
                target.write(tail)
                end += len(tail)
    if not left:
        storage.remove(name)
    return places, end


def _samples(file: IO[bytes]) -> Iterator[tuple[str, int, int]]:
    """Key, offset and size of each sample of a tar, by its headers."""
    with tarfile.open(fileobj=file, mode="r:") as tar:
        begun: tuple[str, int, int] | None = None
        for member in tar:
            key = member.name.partition(".")[0]
            stop = member.offset_data + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            if begun and begun[0] == key:
                begun = (key, begun[1], stop - begun[1])
                continue
            if begun:
                yield begun
            begun = (key, member.offset, stop - member.offset)
        if begun:
            yield begun


def _copy(source: IO[bytes], offset: int, size: int, target: IO[bytes]) -> None:
    source.seek(offset)
    left = size
    while left:
        data = source.read(min(left, CHUNK))
        if not data:
            raise OSError(f"the tar ends {left} bytes early")
        target.write(data)
        left -= len(data)
