"""Packing: finished units, in planned order, become shards of the wished size while the run goes on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from tarfile import BLOCKSIZE

import pyarrow as pa
import pyarrow.compute as pc

from curation import ledger
from curation.faults import Infrastructure
from curation.ledger import Unit
from curation.storage import Storage

RECORD = 10_240
"""Bytes that a tar's length is a multiple of; two blocks of zeros, at least, say that it ends."""


@dataclass
class Packer:
    """Which units of a group make its next shard. It decides by their numbers and sizes alone: the shards are the same in
    whatever order the units finish. `first` and `number`: the first unit that is not packed, and the next shard's number.
    `ends`: of sidecars the last unit of each shard and its number; they have no other border."""

    units: int
    megabytes: float
    first: int = 0
    number: int = 0
    finished: dict[int, int] = field(default_factory=dict)
    """Bytes of the tars of units that wait for those before them."""
    open: list[int] = field(default_factory=list)
    """Units of the shard that is not full yet."""
    bytes: int = 0
    ends: Mapping[int, int] = field(default_factory=dict)

    def add(self, unit: int, size: int) -> list[tuple[int, list[int]]]:
        """A unit has finished with a tar of so many bytes: the shards (number, units) that can be packed now, if any. A shard is
        closed by the unit with which it reaches its size, or by the last one of the group."""
        self.finished[unit] = size
        ready = []
        while (following := self.first + len(self.open)) in self.finished:
            self.open.append(following)
            self.bytes += self.finished.pop(following)
            is_full = following in self.ends if self.ends else self.bytes >= self.megabytes * 1e6
            if is_full or following == self.units - 1:
                number = self.ends.get(following, self.number)
                ready.append((number, self.open))
                self.first, self.number, self.open, self.bytes = following + 1, number + 1, [], 0
        return ready


@dataclass(frozen=True)
class State:
    """What is done of a group: the next shard's number, the first unit that is not packed, and the sizes of the tars of units
    that have finished since."""

    number: int
    first: int
    finished: dict[int, int]


def pack(storage: Storage, group: int, number: int, units: Sequence[int], last: bool = False, sidecar: str = "") -> str:
    """Make a shard of finished units, its ledger last, then remove their files; `last`: with the group's folder. Gives its name.
    `sidecar`: what follows its name (the numbers of those have gaps: where the input's shard keeps nothing there is none).

    Nothing happens twice: after a kill, wherever it was, the same call goes on to the same end.
    """
    name = ledger.shard(group, number, sidecar)
    files = [Unit(group, unit) for unit in units]
    before = ledger.shard(group, number - 1)
    if number and not sidecar and not storage.exists(f"shards/{before}.parquet"):
        raise Infrastructure(f"{name} is not packed before {before}: its units would pass for packed")
    if not storage.exists(f"shards/{name}.parquet"):
        _publish(storage, name, number, files)
    storage.remove(*(unit.ledger for unit in files), *(unit.tar for unit in files))
    if last:
        storage.remove_folder(ledger.folder(group))
    return name


def _publish(storage: Storage, name: str, number: int, units: Sequence[Unit]) -> None:
    tar, tars, tables, end = f"shards/{name}.tar", [], [], 0
    for unit in units:
        table, facts = ledger.read(storage, unit.ledger)
        tables.append(_moved(table, name, end))
        if facts["bytes"]:
            tars.append(unit.tar)
            end += facts["bytes"]
    if tars:
        tail = end_mark(end)
        storage.join(tars, tar, tail)
        end += len(tail)
        if storage.size(tar) != end:
            raise Infrastructure(f"{storage.path(tar)} has not the size of its units: a unit was written while it was packed")
    else:
        storage.remove(tar)  # of another attempt
    facts |= {"number": number, "first": units[0].number, "last": units[-1].number, "bytes": end}
    storage.write(f"shards/{name}.parquet", ledger.encoded(pa.concat_tables(tables).combine_chunks(), **facts))


def end_mark(size: int) -> bytes:
    """What follows so many bytes of members in a tar."""
    return bytes(2 * BLOCKSIZE + -(size + 2 * BLOCKSIZE) % RECORD)


def _moved(table: pa.Table, shard: str, by: int) -> pa.Table:
    """A unit's rows with their place in a shard."""
    names = pa.array([shard] * len(table), pa.string())
    table = table.set_column(0, ledger.SCHEMA.field("shard"), names)
    place = ledger.SCHEMA.get_field_index("offset")
    return table.set_column(place, ledger.SCHEMA.field("offset"), pc.add(table["offset"], by))


def state(storage: Storage, groups: Iterable[tuple[int, int]]) -> dict[int, State]:
    """Where a run stands, by group; `groups`: number and units of each. Clears away what killed processes have left: unfinished
    files, and those of units that are packed. Only under the claim."""
    storage.sweep("shards")
    newest, waiting = ledger.newest(storage), set(map(int, storage.folders("units")))
    return {group: _state(storage, group, units, newest.get(group), group in waiting) for group, units in groups}


def _state(storage: Storage, group: int, units: int, newest: str | None, waiting: bool) -> State:
    number = first = 0
    if newest:
        facts = ledger.facts(storage, f"shards/{newest}.parquet")
        number, first = facts["number"] + 1, facts["last"] + 1
    folder = ledger.folder(group)
    if waiting and first == units:
        storage.remove_folder(folder)
        waiting = False
    if not waiting:
        return State(number, first, {})
    storage.sweep(folder)
    there = storage.names(folder)
    storage.remove(*(f"{folder}/{name}" for name in there if int(name.partition(".")[0]) < first))
    finished = [int(name.removesuffix(".parquet")) for name in there if name.endswith(".parquet")]
    return State(number, first, {unit: there.get(f"{unit:06d}.tar", 0) for unit in finished if unit >= first})
