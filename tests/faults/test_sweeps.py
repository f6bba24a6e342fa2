"""Sweeps: the n-th read or write of a small run fails, n = 1, 2, 3 … until the run gets through (SQLite's way); and runs that are
killed at several points, by workers and clips a unit. A coarse sieve in CI, every number with `make test-faults`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from curation.inputs.files import InputError
from curation.recipe import RecipeError
from curation.run import run, worker
from curation.run.engine import BrokenError, EngineError
from curation.run.plan import PlanError
from curation.storage import StorageError
from tests import videos
from tests.faults.conftest import CLIPS, Ground
from tests.faults.disk import Disk
from tests.runs import leftovers, rows, tars

pytestmark = pytest.mark.faults
ONE_LINE = (OSError, InputError, RecipeError, EngineError, BrokenError, PlanError, StorageError)
"""What the command says in one line."""
RECIPE = """
clips:
  - split_shots: {detector: none, min_seconds: 0.1}
  - sample_frames: {}
units: {clips: 1}
limits: {max_failed: 1.0}
shards: {megabytes: 0.001}
"""


class Small:
    """A run of three clips in this process."""

    def __init__(self, folder: Path):
        self.folder, self.out = folder, folder / "out"
        (folder / "in").mkdir()
        for i in range(3):
            videos.write([videos.picture(100 * i + n) for n in range(12)], folder / "in" / f"v{i}.mp4")
            (folder / "in" / f"v{i}.txt").write_text(f"A man talks, number {i}.")
        (folder / "recipe.yaml").write_text(RECIPE)
        self.disk = Disk(folder)
        assert self.run(self.disk) == 0
        self.whole = tars(self.out)
        assert len(self.whole) == 3 and self.disk.count > 50 and self.disk.unsynced == []

    def run(self, disk: Disk) -> object:
        """Its exit status, or what ended it."""
        with disk.failing():
            try:
                return run.run(str(self.folder / "recipe.yaml"), str(self.folder / "in"), self.out, local=True)
            except ONE_LINE as error:
                return error

    def lose_power(self, disk: Disk) -> int:
        """The same in a process that ends at the operation: nothing is cleared up after it. Its exit status."""
        disk.fails = lambda: os._exit(9)
        if not (child := os.fork()):
            with suppress(BaseException):
                self.run(disk)
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def sweep(self, stride: int, broken: Callable[[int], object], allowed: tuple[object, ...]) -> None:
        for number in range(1, self.disk.count + 1, stride):
            shutil.rmtree(self.out)
            ended = broken(number)
            assert ended in allowed or isinstance(ended, ONE_LINE), (number, ended)
            done = self.run(Disk(self.folder))
            same = done == 0 and tars(self.out) == self.whole
            assert same, (number, ended, done)
            assert [row["verdict"] for row in rows(self.out)] == ["kept"] * 3, (number, ended)
            assert leftovers(self.out) == [], (number, ended)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Small:
    monkeypatch.setattr(worker, "PAUSES", (0.0, 0.0))
    return Small(tmp_path)


STRIDES = pytest.mark.parametrize("stride", [pytest.param(1, marks=pytest.mark.long), 11])


@STRIDES
@pytest.mark.timeout(1800)
def test_the_nth_operation_fails_once(small: Small, stride: int) -> None:
    small.sweep(stride, lambda number: small.run(Disk(small.folder, number)), (0, 4))


@STRIDES
@pytest.mark.timeout(1800)
def test_all_fail_from_the_nth_on(small: Small, stride: int) -> None:
    small.sweep(stride, lambda number: small.run(Disk(small.folder, number, for_good=True)), (4,))


@STRIDES
@pytest.mark.timeout(1800)
def test_power_is_lost_at_the_nth(small: Small, stride: int) -> None:
    small.sweep(stride, lambda number: small.lose_power(Disk(small.folder, number)), (9,))


GRID = [(workers, clips, units) for workers in (1, 2, 4) for clips in (1, 2, 5) for units in (1, 2, 4)]


@pytest.mark.parametrize(
    "workers, clips, units",
    [pytest.param(*case, marks=() if case in ((1, 5, 1), (2, 1, 4)) else pytest.mark.long) for case in GRID],
)
@pytest.mark.timeout(400)
def test_killed_by_workers_units_and_point(ground: Ground, workers: int, clips: int, units: int) -> None:
    ground.recipe(clips, workers)
    killed = ground.begin()
    ground.wait(killed, clips * min(units, (CLIPS - 1) // clips))
    killed.kill()
    killed.wait()
    assert ground.orphans() == []
    done = ground.run()
    assert done.returncode == 0, done.stderr
    if clips == 2:
        ground.judge("kill_grid")
    else:  # other units, so other shards
        assert sorted(row["key"] for row in rows(ground.out)) == sorted(ground.members)
        assert leftovers(ground.out) == []
        whole = tars(ground.out)
        shutil.rmtree(ground.out)
        assert ground.run("--local").returncode == 0
        same = tars(ground.out) == whole
        assert same
