"""The loop, in this process and in several, with tiny networks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

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
        pytest.param({"warmup": 3, "precision": "bf16"}, marks=pytest.mark.slow),
    ],
    ids=["plain", "bf16"],
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


def test_what_was_encoded_before_trains_the_same(tmp_path, shards, texts):
    """Latents and embeddings out of sidecars: the same losses and bytes as when each step encodes."""
    still = {"start": "first"}
    plain = trained(tmp_path, shards, texts, "plain", data=still)
    recipe = {
        "clips": [
            {"encode_latents": {"codec": "dct", "dtype": "fp32", "buckets": recipes.BUCKETS}},
            {"encode_captions": {"encoder": "minilm", "weights": str(texts), "length": 24, "dtype": "fp32"}},
        ],
        "shards": {"sidecar": "latents"},
    }
    (tmp_path / "encode.yaml").write_text(yaml.safe_dump(recipe))
    arguments = [str(tmp_path / "encode.yaml"), "--input", str(shards), "--output", str(tmp_path / "beside"), "--local"]
    command = [sys.executable, "-c", "from curation.cli import main; main()", "run", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    file = recipes.write(tmp_path / "encoded.yaml", texts, data=still)
    run.train(str(file), [str(shards)], tmp_path / "encoded", None, [str(tmp_path / "beside")])
    assert losses(tmp_path / "encoded") == losses(plain) and end(tmp_path / "encoded") == end(plain)
    other = recipes.write(tmp_path / "other.yaml", texts, data=still, encoders={"text_length": 20})
    with pytest.raises(TrainerError, match="sidecars were written by the encoder minilm:.*:24, the recipe's is .*:20"):
        run.train(str(other), [str(shards)], tmp_path / "other", None, [str(tmp_path / "beside")])


def test_references_are_augmented_by_the_recipe(tmp_path, shards, texts):
    table, still = (
        end(trained(tmp_path, shards, texts, name, **knobs))
        for name, knobs in (("table", {}), ("still", {"augment": {"enabled": False}}))
    )
    assert table != still


def test_samples_are_made_on_the_way(tmp_path, shards, texts):
    out = trained(tmp_path, shards, texts, training={"steps": 2}, validation={"every": 2, "samples": 1})
    made = [path.relative_to(out / "samples").as_posix() for path in (out / "samples").rglob("*.*")]
    assert len(made) == 2 and all(re.fullmatch(r"step-00000002/00-trained-on-clip\d-\d\.(mp4|png)", name) for name in made)


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


def torchrun(folder: Path, shards: Path, texts: Path, steps: int, name: str) -> None:
    file = recipes.write(folder / f"{name}.yaml", texts, training={"steps": steps}, validation={"every": 2, "samples": 3})
    command = [str(Path(sys.executable).with_name("torchrun")), "--nproc-per-node=2", "--standalone", "--no-python"]
    command += [str(Path(sys.executable).with_name("curation")), "train", str(file), "--shards", str(shards)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    there = {"cwd": ROOT, "env": environment, "capture_output": True, "text": True, "timeout": 300}
    done = subprocess.run([*command, "--output", str(folder / name)], **there)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
def test_torchrun_trains_one_model_and_goes_on(tmp_path, shards, texts):
    for steps in (2, 4):
        torchrun(tmp_path, shards, texts, steps, "parts")
    torchrun(tmp_path, shards, texts, 4, "whole")
    assert end(tmp_path / "parts") == end(tmp_path / "whole") and losses(tmp_path / "parts") == losses(tmp_path / "whole")
    made = list((tmp_path / "whole/samples/step-00000004").glob("*.png"))
    assert len(made) == 3, "the averaged weights take the place of shards, and each process makes its share"


@pytest.mark.slow
def test_sigterm_ends_the_command_with_a_line_and_a_checkpoint(tmp_path, shards, texts):
    file = recipes.write(tmp_path / "train.yaml", texts, training={"steps": 10_000, "save_every": 10_000})
    command = [str(Path(sys.executable).with_name("curation")), "train", str(file), "--shards", str(shards)]
    with subprocess.Popen([*command, "--output", str(tmp_path / "out")], stderr=subprocess.PIPE, cwd=ROOT, text=True) as running:
        log = tmp_path / "out" / "log.jsonl"
        while running.poll() is None and not (log.exists() and log.read_text()):
            time.sleep(0.1)
        running.terminate()
        assert running.stderr is not None
        said, status = running.stderr.read(), running.wait(60)
    (step,) = checkpoint.steps(tmp_path / "out")
    assert status == 143 and f"curation: stopped by SIGTERM; step {step} is saved, the same command goes on" in said
