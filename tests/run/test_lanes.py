from __future__ import annotations

from dataclasses import dataclass

import pytest

from curation.recipe import Step
from curation.run.lanes import Lane, PlacementError, lanes
from curation.run.lanes import place as place_lanes
from curation.stage import Resources, Stage


@dataclass(kw_only=True)
class OnCpu(Stage):
    """Any CPU stage."""


@dataclass(kw_only=True)
class OnGpu(Stage):
    """Any GPU stage."""

    resources = Resources(cpus=1, gpus=0.5)


@dataclass(kw_only=True)
class ManyUnits(Stage):
    """Holds an engine that answers many."""

    def units(self) -> int:
        return 4


@dataclass(kw_only=True)
class Promises(Stage):
    """Makes its member at the end."""

    resources = Resources(memory=2.0)
    promises = writes = ("mp4",)


def place(stages, cpus, gpus):
    return place_lanes([Lane([Step(s)], s.share, s.workers, s.units()) for s in stages], cpus, gpus)


def names(*steps: Step) -> list[str]:
    return [lane.name for lane in lanes(steps)]


def test_neighbours_that_need_the_same_share_a_lane():
    cpu, promise = OnCpu(), Promises()
    assert names(Step(promise), Step(cpu), Step(promise, redeem=True)) == ["promises+on_cpu"]
    assert names(Step(promise), Step(OnGpu()), Step(cpu), Step(promise, redeem=True)) == ["promises", "on_gpu", "on_cpu+promises"]
    assert names(Step(OnCpu(workers=2)), Step(promise), Step(cpu)) == ["on_cpu", "promises+on_cpu"]
    assert names(Step(cpu), Step(ManyUnits())) == ["on_cpu", "many_units", "write"], "an engine does not wait for a disk"
    assert names(Step(OnGpu())) == ["on_gpu", "write"]


def test_a_lane_asks_for_the_most_cpus_and_all_the_memory():
    lane = lanes([Step(Promises()), Step(OnCpu()), Step(Promises(), redeem=True)])[0]
    assert (lane.cpus, lane.memory) == (1.0, 3.0)


def test_one_lane_has_a_worker_per_core_and_leaves_room_for_rays_own_tasks():
    (pool,) = place([OnCpu()], cpus=2, gpus=0)
    assert (pool.least, pool.most) == (2, 2) and 2 * pool.cpus <= 1
    (pool,) = place([OnCpu()], cpus=64, gpus=0)
    assert (pool.least, pool.most) == (64, 64) and 64 * pool.cpus <= 63


def test_memory_bounds_the_workers():
    (pool,) = place_lanes([Lane([Step(Promises())])], cpus=16, gpus=0, memory=9.0)
    assert (pool.least, pool.most) == (4, 4) and pool.memory == 2_000_000_000


def test_gpu_lanes_grow_to_the_gpus_that_are_there():
    made = place([OnCpu(), OnGpu(gpus=0.25), AlsoOnGpu(gpus=0.75)], cpus=64, gpus=8)
    assert [pool.least for pool in made[1:]] == [6, 6], "Ray fills one GPU after the other: the first two hold eight quarters"
    assert [pool.least for pool in place([OnGpu(gpus=0.5), AlsoOnGpu(gpus=0.5)], cpus=64, gpus=8)] == [8, 8]
    made = place([OnGpu(gpus=0.05), AlsoOnGpu(gpus=0.2)], cpus=64, gpus=1)
    assert [pool.least for pool in made] == [4, 4]


def test_engines_are_not_multiplied():
    assert [pool.most for pool in place([ManyUnits(), OnCpu()], cpus=16, gpus=0)] == [1, 15]


def test_every_lane_gets_a_worker_at_once_even_on_one_core():
    pools = place([OnCpu(), OnCpu(), OnCpu()], cpus=1, gpus=0)
    assert sum(p.least * p.cpus for p in pools) <= 1
    assert all(p.least == p.most == 1 for p in pools)


def test_lanes_without_a_number_grow_into_what_is_left():
    pools = place([OnCpu(workers=4), OnCpu(), OnCpu()], cpus=16, gpus=0)
    assert [(p.least, p.most) for p in pools] == [(4, 4), (1, 11), (1, 11)]


def test_the_recipe_may_say_how_many():
    pools = place([OnCpu(), OnGpu(workers=2)], cpus=16, gpus=1)
    assert (pools[1].least, pools[1].most, pools[1].gpus) == (2, 2, 0.5)


def test_what_does_not_fit_is_refused_with_the_numbers():
    with pytest.raises(PlacementError, match=r"needs 1 GPUs \(on_gpu 2 × 0.5\), there are 0"):
        place([OnCpu(), OnGpu(workers=2)], cpus=16, gpus=0)
    with pytest.raises(PlacementError, match="lower `workers`"):
        place([OnCpu(workers=100)], cpus=2, gpus=0)


@dataclass(kw_only=True)
class AlsoOnGpu(Stage):
    """Another GPU stage."""


@pytest.mark.parametrize("parts", [[0.6, 0.4], [0.35, 0.05, 0.3, 0.3], [0.5] * 2, [0.1] * 10])
def test_parts_that_add_up_to_one_share_a_gpu(parts):
    assert [p.gpus for p in place([OnGpu(gpus=part, workers=1) for part in parts], cpus=16, gpus=1)] == parts


@pytest.mark.parametrize(
    "parts, gpus, complaint",
    [
        ([0.6, 0.6], 1, r"needs 1.2 GPUs \(on_gpu 1 × 0.6, also_on_gpu 1 × 0.6\), there are 1$"),
        ([0.6, 0.6], 0, r"there are 0: take a recipe for CPUs \(embedded\), or a machine with a GPU"),
        ([(2, 0.6), 0.6], 2, r"do not share 2 GPUs .*: when also_on_gpu asks for 0.6, 0.4, 0.4 are left"),
        ([0.5, 2], 3, None),
        ([0.5, 2], 2.5, r"do not share 2 GPUs .*: when also_on_gpu asks for 2, 1, 0.5 are left"),
        ([0.5, 1.5], 4, "a part of one GPU or several whole ones, not gpus: 1.5"),
        ([-0.5, 0.5], 4, "not gpus: -0.5"),
    ],
)
def test_parts_that_no_gpu_can_hold_are_refused(parts, gpus, complaint):
    (workers, first), second = parts[0] if isinstance(parts[0], tuple) else (1, parts[0]), parts[1]
    stages = [OnGpu(workers=workers, gpus=first), AlsoOnGpu(gpus=second)]
    if complaint is None:
        assert place(stages, cpus=16, gpus=gpus)
    else:
        with pytest.raises(PlacementError, match=complaint):
            place(stages, cpus=16, gpus=gpus)
