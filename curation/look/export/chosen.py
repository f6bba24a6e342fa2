"""The kept samples of a run that are wanted, each read once, by its place in the tar."""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation import console, ledger
from curation.inputs.files import InputError
from curation.ledger import Unit
from curation.look import ledgers
from curation.sample import KEPT
from curation.shards.clip import Clip, Entity, Ref
from curation.shards.unit import checksum
from curation.storage import Storage

PLACE = ("key", "verdict", "shard", "group", "unit", "offset", "size", "crc32")
AT_ONCE = 8
"""Samples that are read at the same time: an object store takes its time for each."""


class LeftOut(Exception):
    """This sample cannot be had in that format; why, as a code."""


@dataclass(frozen=True)
class Sample:
    """`row`: of the ledger, the columns asked for; `members`: suffix → bytes, `json` among them."""

    row: Mapping[str, Any]
    clip: Clip
    members: Mapping[str, bytes]

    @property
    def key(self) -> str:
        return self.clip.key

    def refs(self, entity: Entity) -> list[Ref]:
        """Its published references."""
        return [ref for ref in entity.refs if ref.member in self.members]


class Chosen:
    """The kept samples in planned order: those of which `where` (SQL) is true, less the keys in `drop`. `columns`: of the ledger,
    beside their places. Raises `InputError` when there is nothing finished or a condition cannot be read."""

    def __init__(self, storage: Storage, where: str | None, drop: Collection[str], columns: Sequence[str] = ()):
        self.storage, self.left_out, self.examples = storage, Counter[str](), dict[str, str]()
        names = ledger.files(storage)
        if not names:
            raise InputError(f"{storage.path()}: no finished shard here; give a run's output folder")
        wanted = list(dict.fromkeys([*PLACE, *columns]))
        if where is None:
            found = pa.concat_tables([_kept(table) for table in ledgers.tables(storage, names, wanted)])
        else:
            found = _kept(ledgers.where(storage, names, where, ", ".join(f'"{name}"' for name in wanted)))
        is_dropped = pc.is_in(found["key"], value_set=pa.array(sorted(drop), pa.string()))
        self.dropped: int = pc.sum(is_dropped).as_py() or 0
        rows = found.filter(pc.invert(is_dropped)) if self.dropped else found
        self.rows = rows.sort_by([("group", "ascending"), ("unit", "ascending"), ("offset", "ascending")])
        self.is_whole = where is None and not self.dropped and not pc.any(pc.equal(rows["shard"], "")).as_py()
        """Whether it is all of the run's shards, and no sample stands elsewhere."""
        self.made: dict[str, Any] = json.loads(storage.read("run.json")) if storage.exists("run.json") else {}

    def __len__(self) -> int:
        return len(self.rows)

    @contextmanager
    def taking(self, key: str) -> Iterator[None]:
        """What is raised of a sample's data in here leaves that sample out."""
        try:
            yield
        except LeftOut as error:
            self._leave(key, str(error))
        except (ValueError, KeyError, tarfile.TarError):
            self._leave(key, "unreadable")

    def _leave(self, key: str, why: str) -> None:
        self.left_out[why] += 1
        self.examples.setdefault(why, key)

    def samples(self) -> Iterator[Sample]:
        """Each in turn, with a bar. Damaged ones are left out (`unreadable`), and those called what no file is (`odd_name`)."""
        for row, blocks in self.blocks():
            sample = None
            with self.taking(row["key"]):
                sample = _sample(row, blocks)
            if sample:
                yield sample

    def blocks(self) -> Iterator[tuple[dict[str, Any], bytes]]:
        """Each one's row, and its bytes as they stand in the tar; damaged ones are left out."""
        with console.counting("export", len(self)) as count, ThreadPoolExecutor(AT_ONCE) as pool:
            for start in range(0, len(self), AT_ONCE):
                rows = self.rows.slice(start, AT_ONCE).to_pylist()
                for row, blocks in zip(rows, pool.map(lambda row: ledger.read_blocks(self.storage, row), rows), strict=True):
                    if checksum([blocks]) == row["crc32"]:
                        yield row, blocks
                    else:
                        self._leave(row["key"], "unreadable")
                    count.add(1)


def source_of(row: Mapping[str, Any]) -> str:
    """The shard or unit that a sample comes from: `shard-00000-0000`."""
    return row["shard"] or f"unit-{Unit(row['group'], row['unit']).name}"


def _kept(table: pa.Table) -> pa.Table:
    return table.filter(pc.and_(pc.equal(table["verdict"], KEPT), pc.is_valid(table["offset"])))


def _sample(row: Mapping[str, Any], blocks: bytes) -> Sample:
    """Raises `LeftOut` for names that would lead out of a folder, `ValueError` for what cannot be read."""
    key = row["key"]
    members = dict(ledger.read_members(blocks))
    if any(not name.startswith(f"{key}.") or PurePosixPath(name).name != name or name.startswith(".") for name in members):
        raise LeftOut("odd_name")
    found = {name.removeprefix(f"{key}."): data for name, data in members.items()}
    clip = Clip.model_validate_json(found["json"])
    if clip.key != key:
        raise ValueError(f"{key}: its metadata are of {clip.key}")
    return Sample(row, clip, found)
