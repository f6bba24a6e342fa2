"""However training is spread over processes, it is the same training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from curation.trainer import checkpoint
from curation.trainer import config as configs
from curation.trainer.conditions import Parts
from curation.trainer.memory import memory
from curation.trainer.model import DiT
from tests.conftest import ROOT
from tests.trainer import recipes
from tests.trainer.parallel_world import STOPPED, WORLDS, trained

pytestmark = pytest.mark.trainer


def recipe(folder: Path, name: str, **training: Any) -> Path:
    model = {"width": 64, "heads": 4, "window": 8}
    knobs = {"steps": 3, "save_every": 3, "lr": 1e-4, "warmup": 2, "start": str(folder / "start.safetensors"), **training}
    return recipes.write(folder / f"{name}.yaml", folder / "minilm", model=model, training=knobs)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process has trained, with all clips of a step in one batch."""
    folder = tmp_path_factory.mktemp("world")
    one = recipe(folder, "one")
    model = DiT(Parts(configs.load(one), torch.device("cpu")).size)
    draw = torch.Generator().manual_seed(0)
    for parameter in model.parameters():  # gates of zero would hide most of it
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=draw)
    save_file({name: parameter.detach() for name, parameter in model.named_parameters()}, folder / "start.safetensors")
    trained(one, folder / "one", parts=1)
    return folder


def several(folder: Path, world: int) -> Path:
    for name, knobs in WORLDS[world].items():
        recipe(folder, name, **knobs)
    command = [sys.executable, "-m", "tests.trainer.parallel_world", str(folder), str(world)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.fixture(scope="module")
def two(folder: Path) -> Path:
    return several(folder, 2)


@pytest.fixture(scope="module")
def four(folder: Path) -> Path:
    return several(folder, 4)


def lines(folder: Path, name: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / name / "log.jsonl").read_text().splitlines()]


def said(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in sorted(folder.glob(f"{name}-?.json"))]


def finite(lines: list[dict[str, float]], kind: str) -> list[float]:
    assert lines[1]["loss"] is lines[1]["norm"] is None
    return [line[kind] for line in (lines[0], lines[2])]


def compare(folder: Path, name: str) -> None:
    """Losses, norms and averaged weights of the same steps are those of one process; the second, whose velocity is not finite in
    the last process, is left out by all."""
    found, one = lines(folder, name), lines(folder, "one")
    assert [line["skipped"] for line in found] == [line["skipped"] for line in one] == [0, 1, 0]
    for kind in ("loss", "norm", "rate"):
        assert finite(found, kind) == pytest.approx(finite(one, kind), abs=1.1e-5), kind
    ours, theirs = (checkpoint.weights(folder / n) for n in (name, "one"))
    start = checkpoint.weights(folder / "start.safetensors")
    for parameter in theirs:
        torch.testing.assert_close(ours[parameter], theirs[parameter], atol=1e-5, rtol=1e-5, msg=parameter)
        assert not torch.equal(theirs[parameter], start[parameter]), f"{parameter} is not trained"


@pytest.mark.parametrize("name", ["replicas", "context"])
def test_two_processes_train_as_one_does(two, name):
    compare(two, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", WORLDS[4])
def test_four_processes_train_as_one_does(four, name):
    compare(four, name)


def test_stopped_by_sigterm_another_number_of_processes_goes_on(two):
    """One of two sharded processes gets the signal; both end after the step, with a checkpoint; a lone process does the rest."""
    for found in said(two, STOPPED):
        assert found["said"] == "stopped by SIGTERM; step 2 is saved, the same command goes on" and found["steps"] == [2]
    trained(two / f"{STOPPED}.yaml", two / STOPPED, parts=1)
    assert checkpoint.steps(two / STOPPED) == [2, 3]
    compare(two, STOPPED)


def test_shards_take_the_memory_that_is_reckoned(two):
    config = configs.load(two / f"{STOPPED}.yaml")
    size = Parts(config, torch.device("cpu")).size
    held = said(two, STOPPED)[0]["held"]
    found = memory(size, config.training.parallel, 2, clips=1, tokens=15, text_tokens=6, half=False)
    assert (held["model"], held["average"]) == (found.weights, found.averages)
    assert held["exp_avg"] + held["exp_avg_sq"] == found.moments


def test_bfloat16_is_close(two):
    found, one = lines(two, "half"), lines(two, "one")
    assert finite(found, "loss") == pytest.approx(finite(one, "loss"), rel=2e-3)
    assert finite(found, "norm") == pytest.approx(finite(one, "norm"), rel=2e-2)
    assert lines(two, "half") != lines(two, "context"), "it is another arithmetic"
