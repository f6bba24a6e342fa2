"""Who is being worked on: if a worker dies, its journal names the samples it held. Ray retries a dead worker's task for ever,
so a sample that kills its worker twice has to be known and left out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from curation.sample import Sample

DEATHS = 2
"""A sample that was being touched alone, or in a batch, when this many workers died is not tried again."""


class Journal:
    """The journal of one stage on one unit, in `OUT/.journal`. As a context manager: read, then removed when all went well.

    Deaths count within one `run` (the driver's), because who kills the driver kills its innocent workers too; with `any_run`
    they count always: a stage in the driver's own process has no other trace.

    A worker with several units at once has one journal for each, and when it dies all that it was touching is suspected. What is
    suspected must be run with nothing beside it in the worker (`Worker` sees to that): so the second death names one sample.
    """

    def __init__(self, out: Path, unit: int, stage: str, run: str, *, any_run: bool = False):
        self.path = out / ".journal" / f"{unit:06d}.{stage}.json"
        self.run, self.any_run = run, any_run
        self.deaths: Counter[str] = Counter()
        try:
            left = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return
        if any_run or left["run"] == run:
            self.deaths = Counter(left["deaths"])
            self.deaths.update(left["touching"])

    def __enter__(self) -> Journal:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None:
            self.path.unlink(missing_ok=True)

    def suspect(self, key: str) -> bool:
        return self.deaths[key] > 0

    def killer(self, key: str) -> bool:
        return self.deaths[key] >= DEATHS

    def touch(self, samples: Sequence[Sample]) -> None:
        """Note the samples that are about to be touched."""
        state = {"run": self.run, "deaths": self.deaths, "touching": [s.key for s in samples]}
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(state))
        temporary.replace(self.path)
