"""The loop, in this process and in several, with tiny networks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from curation.trainer import checkpoint, run
from curation.trainer.errors import TrainerError
from tests.conftest import ROOT
from tests.trainer import recipes

pytestmark = pytest.mark.trainer


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recipes.shards(tmp_path_factory.mktemp("shards") / "run")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("texts") / "minilm"


def trained(folder: Path, shards: Path, texts: Path, name: str = "out", **sections: dict[str, Any]) -> Path:
    """Train and return the output."""
    file = recipes.write(folder / f"{name}.yaml", texts, **sections)
    run.train(str(file), [str(shards)], folder / name, None)
    return folder / name


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]


def end(out: Path, step: int = 4) -> bytes:
    return (checkpoint.folder(out, step) / checkpoint.WEIGHTS).read_bytes()


@pytest.mark.parametrize(
    "knobs",
    [
        {},
        pytest.param({"new_layers_first": 2}, marks=pytest.mark.slow),
        pytest.param({"new_layers_first": 3, "warmup": 3, "precision": "bf16"}, marks=pytest.mark.slow),
    ],
    ids=["plain", "switched at the stop", "switched after it"],
)
def test_a_resumed_run_ends_with_the_same_bytes(tmp_path, shards, texts, knobs):
    whole = trained(tmp_path, shards, texts, "whole", training=knobs)
    trained(tmp_path, shards, texts, "parts", training=knobs | {"steps": 2})
    assert checkpoint.steps(tmp_path / "parts") == [2]
    parts = trained(tmp_path, shards, texts, "parts", training=knobs)
    assert losses(parts) == losses(whole) and len(losses(whole)) == 4
    assert end(parts) == end(whole)


def test_workers_of_the_loader_resume_too(tmp_path, shards, texts):
    data = {"data": {"workers": 2}}
    whole = trained(tmp_path, shards, texts, "whole", **data)
    trained(tmp_path, shards, texts, "parts", training={"steps": 2}, **data)
    assert end(trained(tmp_path, shards, texts, "parts", **data)) == end(whole)


def test_a_finished_run_is_left_alone(tmp_path, shards, texts):
    out = trained(tmp_path, shards, texts)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    trained(tmp_path, shards, texts)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")} == before and len(losses(out)) == 4


def test_another_recipe_is_refused_by_name(tmp_path, shards, texts):
    trained(tmp_path, shards, texts)
    with pytest.raises(TrainerError, match=r"training\.lr: 0\.001 → 0\.002"):
        trained(tmp_path, shards, texts, training={"lr": 2e-3})
    with pytest.raises(TrainerError, match="shards:"):
        trained(tmp_path, shards / "shards", texts)


def test_a_half_written_checkpoint_does_not_count(tmp_path, shards, texts):
    out = trained(tmp_path, shards, texts, training={"steps": 2})
    torn = checkpoint.folder(out, 3)
    torn.with_name(f".{torn.name}.tmp").mkdir()
    assert checkpoint.steps(out) == [2]
    trained(tmp_path, shards, texts)
    assert checkpoint.steps(out) == [2, 4]


def test_the_log_goes_on_behind_the_checkpoint(tmp_path, shards, texts):
    out = trained(tmp_path, shards, texts, training={"steps": 3})
    (out / "log.jsonl").open("a").write(
        '{"step": 4, "loss": 7}\n{"step": 5, "lo'
    )  # a run that was killed after step 3's checkpoint
    assert len(losses(trained(tmp_path, shards, texts))) == 4 and losses(out)[3] != 7


@pytest.mark.slow
def test_only_the_newest_checkpoints_stay(tmp_path, shards, texts):
    assert checkpoint.steps(trained(tmp_path, shards, texts, training={"save_every": 1, "keep": 2})) == [3, 4]


@pytest.mark.parametrize("layers", ["backbone", "personalization"])
def test_a_stage_changes_its_own_layers_alone(tmp_path, shards, texts, layers):
    first = trained(tmp_path, shards, texts, "first", training={"steps": 2})
    second = trained(tmp_path, shards, texts, "second", training={"layers": layers, "start": str(first), "ema": 0.0})
    before, after = checkpoint.weights(first), checkpoint.weights(second)
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert changed and all(("personalization" in name) == (layers == "personalization") for name in changed)


@pytest.mark.slow
def test_stages_follow_each_other(tmp_path, shards, texts):
    """V1's: a backbone without personalization layers, then those alone; they start where they change nothing."""
    first = trained(tmp_path, shards, texts, "one", model={"personalization": False}, training={"ema": 0.0})
    assert not any("personalization" in name for name in checkpoint.weights(first))
    second = trained(tmp_path, shards, texts, "two", training={"layers": "personalization", "start": str(first), "ema": 0.0})
    before, after = checkpoint.weights(first), checkpoint.weights(second)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert any(value.any() for name, value in after.items() if "personalization.modulation" in name)


def test_a_start_that_does_not_fit_is_one_line(tmp_path, shards, texts):
    first = trained(tmp_path, shards, texts, "one", training={"steps": 1})
    with pytest.raises(TrainerError, match="does not fit this model: .* and [0-9]+ more"):
        trained(tmp_path, shards, texts, "two", model={"width": 64}, training={"start": str(first)})
    with pytest.raises(TrainerError, match="is no training run"):
        trained(tmp_path, shards, texts, "three", training={"start": str(tmp_path)})


@pytest.mark.slow
def test_cached_latents_train_the_same(tmp_path, shards, texts):
    still = {"start": "first"}
    plain = trained(tmp_path, shards, texts, "plain", data=still)
    cached = trained(tmp_path, shards, texts, "cached", data=still, encoders={"cache": True})
    files = list((shards / "cache").rglob("*.safetensors"))
    assert losses(cached) == losses(plain) and files
    again = trained(tmp_path, shards, texts, "again", data=still, encoders={"cache": True})
    assert end(again) == end(cached) == end(plain)
    with pytest.raises(TrainerError, match="start: first"):
        trained(tmp_path, shards, texts, "moving", encoders={"cache": True})


def test_samples_are_made_on_the_way(tmp_path, shards, texts):
    out = trained(tmp_path, shards, texts, training={"steps": 2, "sample_every": 2})
    assert {path.name for path in (out / "samples").iterdir()} == {"step-00000002.mp4", "step-00000002.png"}


@pytest.mark.slow
def test_it_learns(tmp_path, shards, texts):
    """Two clips' worth of numbers on a still picture: the error of a guess falls below what nothing learnt gives."""
    knobs = {"steps": 60, "save_every": 60, "lr": 5e-3, "max_norm": 1.0, "ema": 0.9}
    found = losses(trained(tmp_path, shards, texts, training=knobs, data={"buckets": recipes.BUCKETS[:1], "start": "first"}))
    assert sum(found[-10:]) < 0.8 * sum(found[:10])


def test_no_shards_is_one_line_and_leaves_nothing(tmp_path, texts):
    with pytest.raises(TrainerError, match="no shards at .*nowhere"):
        trained(tmp_path, tmp_path / "nowhere", texts)
    assert not (tmp_path / "out").exists()


def test_what_is_not_installed_is_one_line(tmp_path, shards, texts):
    file = recipes.write(tmp_path / "train.yaml", texts)
    hide = "import sys; sys.modules['tensorboard'] = None; from curation.cli import main; main()"
    command = [sys.executable, "-c", hide, "train", str(file), "--shards", str(shards), "--output", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "pip install 'curation[train]'" in done.stderr.splitlines()[-1]


def torchrun(folder: Path, shards: Path, texts: Path, how: str, steps: int, name: str = "") -> subprocess.CompletedProcess[str]:
    training = {"parallel": how, "steps": steps, "new_layers_first": 1, "sample_every": 2}
    file = recipes.write(folder / f"{how}{name}.yaml", texts, training=training)
    command = [str(Path(sys.executable).with_name("torchrun")), "--nproc-per-node=2", "--standalone", "--no-python"]
    command += [str(Path(sys.executable).with_name("curation")), "train", str(file), "--shards", str(shards)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    there = {"cwd": ROOT, "env": environment, "capture_output": True, "text": True, "timeout": 300}
    return subprocess.run([*command, "--output", str(folder / f"{how}{name}")], **there)


@pytest.mark.slow
def test_several_processes_train_one_model(tmp_path, shards, texts):
    """Replicated and sharded: the same losses; stopped and resumed: the same bytes."""
    for how in ("ddp", "fsdp"):
        for steps in (2, 4):
            done = torchrun(tmp_path, shards, texts, how, steps)
            assert done.returncode == 0, done.stderr[-2000:]
        done = torchrun(tmp_path, shards, texts, how, 4, "-whole")
        assert done.returncode == 0, done.stderr[-2000:]
        assert end(tmp_path / how) == end(tmp_path / f"{how}-whole")
    assert losses(tmp_path / "ddp") == pytest.approx(losses(tmp_path / "fsdp"), rel=1e-4)
    pictures = [(tmp_path / how / "samples" / "step-00000004.png").exists() for how in ("ddp", "fsdp")]
    assert all(pictures), "the averaged weights take the place of replicas and of shards alike"
