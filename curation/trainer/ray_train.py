"""The same training under Ray Train, for clusters that already run Ray."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from curation.trainer.config import Config
from curation.trainer.errors import TrainerError


@contextmanager
def joined(address: str) -> Iterator[dict[str, float]]:
    """Join the cluster at an address; what it has, by kind. It is left whatever happens."""
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(address=address, log_to_driver=True, logging_level="ERROR")
    try:
        yield ray.cluster_resources()
    finally:
        ray.shutdown()


def run(config: Config, shards: list[str], out: Path, address: str, sidecars: Sequence[str] = ()) -> None:
    """Train on the workers of the cluster at `address`: `training.processes` of them, one GPU each where the cluster has GPUs.

    `shards` and `out` are paths that every worker sees. Raises `TrainerError` when a worker could not go on.
    """
    from ray.train import RunConfig, ScalingConfig
    from ray.train.base_trainer import TrainingFailedError
    from ray.train.torch import TorchTrainer

    with joined(address) as there:
        processes = config.training.processes
        on_gpu = there.get("GPU", 0) > 0
        if there.get("GPU" if on_gpu else "CPU", 0) < processes:
            kind = "GPUs" if on_gpu else "CPUs"
            raise TrainerError(
                f"training.processes: {processes}, the cluster at {address} has {there.get(kind[:-1], 0):g} {kind}"
            )
        trainer = TorchTrainer(
            _work,
            train_loop_config={"config": config, "shards": shards, "out": str(out), "sidecars": list(sidecars)},
            scaling_config=ScalingConfig(num_workers=processes, use_gpu=on_gpu),
            run_config=RunConfig(name="curation", storage_path=str(out.absolute() / "ray")),
        )
        try:
            trainer.fit()
        except TrainingFailedError as error:
            lines = str(error.__cause__ or error).strip().splitlines()
            raise TrainerError(f"a training worker could not go on: {lines[-1]}") from error


def _work(settings: dict[str, Any]) -> None:
    from curation.trainer import run

    run.work(settings["config"], settings["shards"], Path(settings["out"]), settings["sidecars"])
