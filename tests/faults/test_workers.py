"""Workers that die, hang or do not load, and the clips that make them."""

from __future__ import annotations

import time

import pytest

from tests.faults.conftest import Ground
from tests.runs import rows

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]


@pytest.mark.parametrize("how", ["segfault", "exit", "killed", "no_memory"])
def test_a_worker_dies_once(ground: Ground, how: str) -> None:
    done = ground.run(**ground.orders(**{ground.key(5): how}))
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    ground.judge(f"worker_{how}")


@pytest.mark.parametrize("how", ["segfault", "exit", "killed"])
def test_a_clip_ends_every_worker(ground: Ground, how: str) -> None:
    done = ground.run(**ground.orders(once=False, **{ground.key(5): how}))
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    ground.judge("clip_poisoned", failed={ground.key(5): "split_shots worker_died"})


@pytest.mark.parametrize("fault, how", [("clip_spins", "spin"), ("clip_hangs", "sleep")])
def test_work_that_does_not_end(ground: Ground, fault: str, how: str) -> None:
    ground.recipe(seconds_per_clip=6.0)
    done = ground.run(**ground.orders(once=False, **{ground.key(5): how}))
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    ground.judge(fault, failed={ground.key(5): "sabotage too_slow"})


def test_work_that_hangs_in_the_only_process(ground: Ground) -> None:
    ground.recipe(seconds_per_clip=6.0)
    orders = ground.orders(once=False, **{ground.key(5): "sleep"})
    hung = ground.run("--local", **orders)
    assert hung.returncode == 4 and "Traceback" not in hung.stderr
    said = f"curation: sabotage does not come to an end with {ground.key(5)}, so this process ends; the same command goes on"
    assert hung.stderr.splitlines()[-1] == said and len(rows(ground.out)) < 12
    done = ground.run("--local", **orders)
    assert done.returncode == 0, done.stderr
    ground.judge("clip_hangs_local", failed={ground.key(5): "sabotage too_slow"})


@pytest.mark.parametrize(
    "fault, how, status", [("worker_cannot_load", "raise", 2), ("worker_dies_loading", "segfault", 2)], ids=["raises", "dies"]
)
def test_a_stage_that_cannot_be_loaded(ground: Ground, fault: str, how: str, status: int) -> None:
    begun = time.monotonic()
    refused = ground.run(**ground.orders(once=False, load=how))
    assert refused.returncode == status and "Traceback" not in refused.stderr, refused.stderr
    assert refused.stderr.splitlines()[-1].startswith("curation: ") and time.monotonic() - begun < 120
    done = ground.run()
    assert done.returncode == 0, done.stderr
    ground.judge(fault)
