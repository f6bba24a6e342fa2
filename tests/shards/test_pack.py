from __future__ import annotations

import io
import random
import tarfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import webdataset

from curation import ledger
from curation.faults import Infrastructure
from curation.sample import Sample
from curation.shards import pack, unit
from curation.shards.pack import Packer
from curation.storage import Storage
from tests.shards import made
from tests.shards.made import rejected, sample


def made_units(count: int = 9, seed: int = 0) -> list[list[Sample]]:
    """Units of up to three clips; every third keeps nothing."""
    rng = random.Random(seed)
    return [
        [rejected(f"u{u}_{i}") if u % 3 == 1 else sample(f"u{u}_{i}", rng.randrange(100, 4000)) for i in range(rng.randint(1, 3))]
        for u in range(count)
    ]


def by_tarfile(units: list[list[Sample]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for one in (s for samples in units for s in samples if s.alive):
            for name, data in unit.members(one, made.OWNERS, made.PROVENANCE):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a run, hidden ones too."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def closed(packer: Packer, sizes: dict[int, int]) -> list[tuple[int, list[int]]]:
    return [shard for number, size in sizes.items() for shard in packer.add(number, size)]


def test_a_shard_is_closed_by_the_unit_that_fills_it():
    sizes = dict(enumerate([400_000, 600_000, 0, 999_999, 1, 3_000_000, 10]))
    assert closed(Packer(7, 1.0), sizes) == [(0, [0, 1]), (1, [2, 3, 4]), (2, [5]), (3, [6])]
    assert closed(Packer(8, 1.0), sizes)[-1] == (2, [5]), "what is left waits for the group's last unit"


def test_nothing_is_packed_over_a_hole():
    packer = Packer(4, 1.0)
    assert closed(packer, {0: 900_000, 2: 5_000_000, 3: 1}) == []
    assert packer.add(1, 0) == [(0, [0, 1, 2]), (1, [3])]


@pytest.mark.parametrize("seed", range(20))
def test_the_order_of_finishing_does_not_matter(seed):
    rng = random.Random(seed)
    sizes = {number: rng.choice([0, 0, rng.randrange(600_000), 2_000_000]) for number in range(rng.randint(1, 60))}
    wanted = closed(Packer(len(sizes), 1.0), sizes)
    assert [n for _, units in wanted for n in units] == list(sizes) and [number for number, _ in wanted] == list(
        range(len(wanted))
    )
    shuffled = dict(rng.sample(list(sizes.items()), len(sizes)))
    assert closed(Packer(len(sizes), 1.0), shuffled) == wanted


def test_a_packer_goes_on_where_a_run_stopped():
    sizes = dict(enumerate([600_000] * 9))
    wanted = closed(Packer(9, 1.0), sizes)
    rest = {number: size for number, size in sizes.items() if number >= 4}
    assert closed(Packer(9, 1.0, first=4, number=2), rest) == wanted[2:]


def test_a_shard_is_the_tar_that_tarfile_writes_at_once(tmp_path):
    units = made_units()
    wanted = by_tarfile(units)
    storage = made.run(tmp_path, units, megabytes=100)
    assert list(storage.names("shards")) == ["shard-00000-0000.parquet", "shard-00000-0000.tar"]
    assert storage.read("shards/shard-00000-0000.tar") == wanted
    assert ledger.facts(storage, "shards/shard-00000-0000.parquet") == {
        **{"group": 0, "number": 0, "first": 0, "last": 8, "attempt": 0},
        "bytes": len(wanted),
    }


def test_tarfile_webdataset_and_the_ledger_read_the_same(tmp_path):
    units = made_units()
    wanted = {s.key: dict(s.files) for samples in units for s in samples if s.alive}
    storage = made.run(tmp_path, units)
    tars = [storage.path(f"shards/{name}") for name in storage.names("shards") if name.endswith(".tar")]
    assert len(tars) > 2
    read = {s["__key__"]: s for s in webdataset.WebDataset(tars, shardshuffle=False)}
    assert list(read) == list(wanted)
    by_row = {row["key"]: dict(ledger.read_sample(storage, row)) for row in ledger.rows(storage) if row["verdict"] == "kept"}
    for key, files in wanted.items():
        for suffix, data in files.items():
            assert read[key][suffix] == data == by_row[key][f"{key}.{suffix}"]
    names = []
    for path in tars:
        with tarfile.open(path) as tar:
            names += tar.getnames()
    assert names == [name for row in by_row.values() for name in row]


def test_rows_are_in_planned_order_and_say_where_they_stand(tmp_path):
    units = made_units()
    planned = [s.key for samples in units for s in samples]
    storage = made.run(tmp_path, units)
    rows = list(ledger.rows(storage))
    assert [row["key"] for row in rows] == planned
    assert [row["unit"] for row in rows] == [u for u, samples in enumerate(units) for _ in samples]
    assert {row["shard"] for row in rows} == {n.removesuffix(".parquet") for n in storage.names("shards") if "parquet" in n}


def test_a_group_that_keeps_nothing_has_a_ledger_and_no_tar(tmp_path):
    storage = made.run(tmp_path, [[rejected("a")], [rejected("b")]])
    assert list(storage.names("shards")) == ["shard-00000-0000.parquet"]
    assert ledger.facts(storage, "shards/shard-00000-0000.parquet")["bytes"] == 0
    assert storage.folders("units") == []


def test_groups_do_not_share_a_shard(tmp_path):
    for group in (0, 1):
        storage = made.run(tmp_path, [[sample(f"g{group}")]], megabytes=100, group=group)
    assert [n for n in storage.names("shards") if "tar" in n] == ["shard-00000-0000.tar", "shard-00001-0000.tar"]
    assert [row["group"] for row in ledger.rows(storage)] == [0, 1]


class Killed(BaseException):
    """The process is gone: nothing of ours may catch it."""


@dataclass(frozen=True)
class Dying(Storage):
    """A storage under a process that is killed before its nth operation."""

    steps: list[int]

    def _step(self) -> None:
        self.steps[0] -= 1
        if self.steps[0] < 0:
            raise Killed

    def write(self, name, data):
        self._step()
        super().write(name, data)

    @contextmanager
    def writing(self, name):
        self._step()
        with super().writing(name) as file:
            yield file
            self._step()

    def read(self, name):
        self._step()
        return super().read(name)

    def join(self, parts, name, tail=b""):
        self._step()
        super().join(parts, name, tail)

    def remove(self, *names):
        for name in names:
            self._step()
            super().remove(name)

    def remove_folder(self, folder):
        for name in self.names(folder):
            self.remove(f"{folder}/{name}")
        self._step()
        super().remove_folder(folder)


def go_on(storage: Storage, units: list[list[Sample]], order: list[int]) -> None:
    """What a driver does: look where the run stands, run what is not done, pack what can be packed."""
    state = pack.state(storage, [(0, len(units))])[0]
    packer = Packer(len(units), 0.008, state.first, state.number)

    def finished(number: int, size: int) -> None:
        for shard, members in packer.add(number, size):
            pack.pack(storage, 0, shard, members, last=members[-1] == len(units) - 1)

    for number, size in state.finished.items():
        finished(number, size)
    for number in order:
        if number >= state.first and number not in state.finished:
            finished(number, made.write(storage, number, units[number])["bytes"])


def test_a_kill_at_any_step_changes_nothing(tmp_path):
    order = random.Random(1).sample(range(5), 5)
    go_on(Storage.at(tmp_path / "whole"), made_units(5), order)
    wanted = contents(tmp_path / "whole")
    assert sum(name.endswith(".tar") for name in wanted) >= 2 and not any("units" in name for name in wanted)
    died = 0
    for steps in range(1000):
        out = tmp_path / f"killed{steps}"
        try:
            go_on(Dying(str(out), [steps]), made_units(5), order)
            break
        except Killed:
            died += 1
        (out / "shards").mkdir(parents=True, exist_ok=True)
        (out / "shards" / ".shard-00000-0000.tar.0123456789abcdef.tmp").write_bytes(b"half")
        seen = [row["key"] for row in ledger.rows(Storage.at(out))]
        assert len(seen) == len(set(seen)), "a reader sees no row twice, whenever it looks"
        go_on(Storage.at(out), made_units(5), order[::-1])
        assert contents(out) == wanted, f"killed at step {steps}"
        assert not (out / "units").exists() or not list((out / "units").iterdir())
    assert died > 25


def test_killed_again_and_again(tmp_path):
    go_on(Storage.at(tmp_path / "whole"), made_units(), list(range(9)))
    for pace in (20, 26, 33):
        out = tmp_path / f"pace{pace}"
        for _ in range(100):
            try:
                go_on(Dying(str(out), [pace]), made_units(), list(range(9)))
                break
            except Killed:
                continue
        assert contents(out) == contents(tmp_path / "whole")


def test_what_a_late_worker_writes_of_a_packed_unit_is_cleared_away(tmp_path):
    units = made_units()
    storage = made.run(tmp_path, units)
    wanted = contents(tmp_path)
    made.write(storage, 2, made_units()[2])
    assert len(list(ledger.rows(storage))) == sum(map(len, units))
    pack.state(storage, [(0, len(units))])
    assert contents(tmp_path) == wanted


def test_the_same_call_again_goes_on_wherever_it_was_killed(tmp_path):
    """As when the worker that packs is lost, and its task is given to another."""

    def written(folder: Path) -> Storage:
        for number, samples in enumerate(made_units(3)):
            made.write(Storage.at(folder), number, samples)
        return Storage.at(folder)

    pack.pack(written(tmp_path / "whole"), 0, 0, range(3), last=True)
    for steps in range(100):
        storage = written(tmp_path / f"killed{steps}")
        try:
            pack.pack(Dying(storage.root, [steps]), 0, 0, range(3), last=True)
            break
        except Killed:
            pack.pack(storage, 0, 0, range(3), last=True)
        assert contents(storage.local()) == contents(tmp_path / "whole")
    assert steps > 8


def test_where_a_run_stands(tmp_path):
    units = made_units()
    storage = Storage.at(tmp_path)
    sizes = {number: made.write(storage, number, units[number])["bytes"] for number in (0, 1, 2, 4, 5)}
    pack.pack(storage, 0, 0, [0, 1])
    made.write(storage, 1, made_units()[1])  # by a late worker
    (tmp_path / "units" / "00000" / "000006.tar").write_bytes(b"of a unit that was killed before its ledger")
    found = pack.state(storage, [(0, 9), (1, 4)])
    assert found == {0: pack.State(1, 2, {n: sizes[n] for n in (2, 4, 5)}), 1: pack.State(0, 0, {})}
    assert [name for name in storage.names("units/00000") if name < "000002"] == []


def test_a_shard_is_not_packed_before_the_one_before_it(tmp_path):
    """Else its ledger would say that the units before it are packed, too, and they would be cleared away."""
    storage = Storage.at(tmp_path)
    for number in range(2):
        made.write(storage, number, [sample(f"s{number}")])
    with pytest.raises(Infrastructure, match="not packed before"):
        pack.pack(storage, 0, 1, [1], last=True)
    assert pack.pack(storage, 0, 0, [0]) and pack.pack(storage, 0, 1, [1], last=True)
