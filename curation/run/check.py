"""`curation verify --address`: each ledger, with its tar, is a task of a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayTaskError, WorkerCrashedError

from curation.faults import Infrastructure, one_line
from curation.run.captions import in_order
from curation.run.cluster import connect
from curation.shards.verify import Checked, Checker, ends_its_reader

AHEAD = 4
"""Tasks for each CPU that are under way or waited for: what is found is told in order."""
RETRIES = 2
"""Times that a ledger is read again after its reader has ended."""


class OnCluster:
    """Checks ledgers on the cluster at an address. Raises `EngineError` where there is none."""

    def __init__(self, address: str):
        self.address = address

    def __call__(self, checker: Checker, names: list[str]) -> Iterator[Checked]:
        """What is found in each, in order. A file that ends whoever reads it is found, too."""
        cpus, _, _ = connect(self.address)
        try:
            everywhere = ray.put(checker)
            task = ray.remote(num_cpus=1, max_retries=RETRIES)(_check)
            most = AHEAD * max(1, int(cpus))
            yield from in_order(names, most, lambda name: (name, task.remote(everywhere, name)), _result)
        finally:
            ray.shutdown()


def _check(checker: Checker, name: str) -> Checked:
    return checker.check(name)


def _result(begun: tuple[str, Any]) -> list[Checked]:
    name, reference = begun
    try:
        return [ray.get(reference)]
    except RayTaskError as error:
        raise error.cause from None
    except WorkerCrashedError:
        return [ends_its_reader(name)]
    except OutOfMemoryError as error:
        raise Infrastructure(f"a reader was ended: {one_line(error)}") from error
