"""`evaluate` on Ray: an actor for each GPU, or for each core where there is none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError
from ray.util import ActorPool

from curation.benchmark.case import Case
from curation.benchmark.scoring import Job, Scorer
from curation.run.cluster import connect

RETRIES = 1
"""Times that a video is tried again after its worker has died; then it is left without scores."""


class Actor:
    """A worker in a process of its own."""

    def __init__(self, job: Job, share: float):
        from curation.models import device

        self._scorer = Scorer(job, device.pick(share))

    def score(self, item: tuple[Case, Path]) -> Path:
        return self._scorer(*item)


def score(job: Job, items: Sequence[tuple[Case, Path]], address: str | None) -> Iterator[Path | None]:
    """The part of each, as they are done; None for one that has ended its worker each time. Raises `EngineError` where there is
    no cluster, and what a metric raises."""
    cpus, gpus, _ = connect(address)
    try:
        share, workers = (1, int(gpus)) if gpus >= 1 else (0, max(1, int(cpus)))
        cls = ray.remote(num_cpus=1, num_gpus=share, max_restarts=-1, max_task_retries=RETRIES)(Actor)
        pool = ActorPool([cls.remote(job, float(share)) for _ in range(min(workers, len(items)))])
        for item in items:
            pool.submit(_submit, item)
        while pool.has_next():
            yield _result(pool)
    finally:
        ray.shutdown()


def _submit(actor: Any, item: tuple[Case, Path]) -> Any:
    return actor.score.remote(item)


def _result(pool: ActorPool) -> Path | None:
    try:
        return pool.get_next_unordered()
    except RayTaskError as error:
        raise error.cause from None
    except RayActorError:
        return None
