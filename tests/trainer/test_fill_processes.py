"""Videos of a folder over real processes: torchrun's, and tasks of a Ray cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from curation.trainer import make, run
from curation.trainer.errors import TrainerError
from curation.trainer.make import Asked
from tests.conftest import ROOT
from tests.trainer import recipes

pytestmark = [pytest.mark.trainer, pytest.mark.slow]


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    shards = recipes.shards(folder / "run")
    recipe = recipes.write(folder / "train.yaml", folder / "minilm", training={"steps": 2, "processes": 2})
    run.train(str(recipe), [str(shards)], folder / "out", None)
    (folder / "prompts.yaml").write_text("[{prompt: a dog}, {prompt: a cat}, {prompt: a man in the rain}, {prompt: snow}]")
    make.sample(str(recipe), folder / "out", folder / "one", make.One(), Asked(batch=4), prompts=folder / "prompts.yaml")
    return folder


def apart(a: Path, b: Path) -> set[str]:
    """Files that are not the same: what was made at once with others may differ by rounding, and is decoded."""
    names = sorted(path.name for path in a.iterdir())
    assert names == sorted(path.name for path in b.iterdir())
    return {
        name
        for name in names
        if name.endswith(".mp4") and abs(make.middle(a / name).astype(int) - make.middle(b / name).astype(int)).max() > 6
    }


def test_torchruns_processes_make_a_slice_each(world):
    command = [str(Path(sys.executable).with_name("torchrun")), "--nproc-per-node=2", "--standalone", "--no-python"]
    command += [str(Path(sys.executable).with_name("curation")), "sample", str(world / "train.yaml")]
    command += ["--checkpoint", str(world / "out"), "--prompts", str(world / "prompts.yaml"), "--output", str(world / "two")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert not apart(world / "one", world / "two")


def test_a_clusters_tasks_make_a_slice_each(world, cluster, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    given = [str(world / "train.yaml"), world / "out", world / "ray", make.One(), Asked(address=cluster.address)]
    make.sample(*given, prompts=world / "prompts.yaml")
    assert not apart(world / "one", world / "ray") and not ray.is_initialized()
    (world / "ray/00-a-dog.mp4").unlink()
    (world / "out" / "checkpoints").rename(world / "out" / "moved")
    with pytest.raises(TrainerError, match="is no training run"):
        make.sample(*given, prompts=world / "prompts.yaml")
    (world / "out" / "moved").rename(world / "out" / "checkpoints")
    make.sample(*given, prompts=world / "prompts.yaml")
    assert not apart(world / "one", world / "ray"), "what was lost is made again"
