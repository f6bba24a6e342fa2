from __future__ import annotations

from dataclasses import dataclass

import pytest

from curation.placement import PlacementError, place
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


def test_engines_are_not_multiplied():
    assert [pool.most for pool in place([ManyUnits(), OnCpu()], cpus=16, gpus=0)] == [1, 15]


def test_every_stage_gets_a_worker_at_once_even_on_one_core():
    pools = place([OnCpu(), OnCpu(), OnCpu()], cpus=1, gpus=0)
    assert sum(p.least * p.cpus for p in pools) <= 1
    assert all(p.least == p.most == 1 for p in pools)


def test_pools_without_a_number_grow_into_what_is_left():
    pools = place([OnCpu(workers=4), OnCpu()], cpus=16, gpus=0)
    assert (pools[0].least, pools[0].most) == (4, 4)
    assert (pools[1].least, pools[1].most) == (1, 12)


def test_gpu_pools_start_at_full_size():
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
    assert [p.gpus for p in place([OnGpu(gpus=part) for part in parts], cpus=16, gpus=1)] == parts


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
