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
