"""The same videos on a Ray cluster: tasks that know nothing of each other, one on each GPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from curation.trainer.errors import TrainerError
from curation.trainer.fill import How, Job, part
from curation.trainer.ray_train import joined


def run(jobs: Sequence[Job], how: How, folder: Path, address: str, processes: int) -> None:
    """`folder`, and what the jobs read, are paths that every node sees. A task whose node is lost is begun again elsewhere, and
    passes over what is there. Raises `TrainerError`."""
    import ray
    from ray.exceptions import RayError, RayTaskError

    with joined(address) as there:
        gpus = int(there.get("GPU", 0))
        count = min(len(jobs), gpus or processes)
        task = ray.remote(_part).options(num_gpus=1 if gpus else 0, num_cpus=1)
        given = ray.put((list(jobs), how, str(folder.absolute())))
        try:
            ray.get([task.remote(given, number, count) for number in range(count)])
        except RayTaskError as error:
            raise TrainerError(f"a worker could not go on: {str(error.cause or error).strip().splitlines()[-1]}") from error
        except RayError as error:
            raise TrainerError(f"the cluster at {address}: {str(error).strip().splitlines()[0]}") from error


def _part(given: tuple[list[Job], How, str], number: int, count: int) -> None:
    jobs, how, folder = given
    part(jobs, how, Path(folder), number, count)
