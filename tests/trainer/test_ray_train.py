from __future__ import annotations

import json

import pytest
import ray

from curation.trainer import checkpoint, run
from curation.trainer.errors import TrainerError
from tests.trainer import recipes

pytestmark = [pytest.mark.trainer, pytest.mark.slow]


def test_ray_train_trains_as_torchrun_does(cluster, tmp_path, monkeypatch):
    """Two workers of a running cluster; they join one group, write one checkpoint, and what they cannot do is one line."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    shards = recipes.shards(tmp_path / "run")
    recipe = recipes.write(tmp_path / "train.yaml", tmp_path / "minilm", training={"processes": 2})
    run.train(str(recipe), [str(shards)], tmp_path / "out", cluster.address)
    lines = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert checkpoint.steps(tmp_path / "out") == [2, 4]
    assert len(list(checkpoint.folder(tmp_path / "out", 4).glob("*.distcp"))) == 2, "each wrote its shards"
    more = recipes.write(tmp_path / "more.yaml", tmp_path / "minilm", training={"processes": 200})
    with pytest.raises(TrainerError, match="training.processes: 200, the cluster at .* has 2 CPUs"):
        run.train(str(more), [str(shards)], tmp_path / "more", cluster.address)
    assert not ray.is_initialized(), "also where it refuses"
