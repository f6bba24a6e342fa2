"""A run in this process: unit after unit, all stages in one lane."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from curation import console
from curation.faults import is_infrastructure, one_line
from curation.limits import watchdog
from curation.recipe import Recipe
from curation.run.book import LocalBook
from curation.run.breaker import Tripped
from curation.run.engine import NOT_ALL_DONE, BrokenError, Todo
from curation.run.lanes import Lane
from curation.run.worker import Job, MustLeave, Outcome, Worker
from curation.shards.pack import pack

ME = "local"
"""The only worker's name in the book."""


@dataclass(frozen=True)
class Clerk:
    """The way to the book: it is here."""

    book: LocalBook
    step: Callable[[dict[str, int]], None]

    def start(self, unit: str) -> tuple[int, dict[str, tuple[str, str]]]:
        return self.book.start(ME, unit)

    def touch(self, unit: str, key: str) -> None:
        self.book.touch(ME, unit, key)

    def done(self, unit: str) -> None:
        self.book.done(ME, unit)

    def trip(self) -> int:
        return self.book.trip(ME)

    def breaks(self, unit: str) -> bool:
        return self.book.breaks(unit)


class Local:
    """The executor of `--local`."""

    workers = 1

    def __init__(self, recipe: Recipe, job: Job, step: Callable[[dict[str, int]], None]):
        """`step`: told that so many more clips have reached a stage."""
        self.lane, self.job = Lane(recipe.steps()), job
        self.book = LocalBook(job.storage)
        self.clerk = Clerk(self.book, step)
        self._packed: list[tuple[int, str]] = []

    def outcomes(self, todo: Todo, settle: bool) -> Iterator[Outcome]:
        """One after the other. A worker that must leave is one whose stages are loaded anew."""
        job = replace(self.job, settle=settle)
        worker: Worker | None = None
        try:
            for unit, data in todo.loads():
                outcome = None
                while outcome is None:
                    worker = worker or self._begin(job)
                    try:
                        outcome = worker.run(unit, data)
                    except MustLeave:
                        self.book.leave(ME)
                        worker.close()
                        worker = None
                yield outcome
        except Tripped as trip:
            raise BrokenError(f"a worker and its successor are broken: {trip}") from trip
        finally:
            if worker:
                worker.close()

    def _begin(self, job: Job) -> Worker:
        self.book.enter(ME, uuid.uuid4().hex, "here")
        watchdog.stuck = self._stuck
        return Worker(self.lane, job, last=True, clerk=self.clerk)

    def _stuck(self, stage: str, keys: Sequence[str]) -> None:
        """Work does not end, so this process does, and the next one knows of which clip that was."""
        self.book.stuck(stage, keys)
        clips = keys[0] if len(keys) == 1 else f"{len(keys)} clips"
        console.say(f"curation: {stage} does not come to an end with {clips}, so this process ends; the same command goes on")
        os._exit(NOT_ALL_DONE)

    def pack(self, group: int, number: int, units: list[int], last: bool) -> None:
        try:
            pack(self.job.storage, group, number, units, last, self.job.sidecar)
            self._packed.append((group, ""))
        except Exception as error:
            if not is_infrastructure(error):
                raise
            self._packed.append((group, one_line(error)))

    def packed(self, *, wait: bool) -> list[tuple[int, str]]:
        ended, self._packed = self._packed, []
        return ended

    def close(self) -> None:
        """The run ends, well or not, but in an orderly way."""
        self.book.close()
