"""A worker: the stages of one lane on units. It says what becomes of a unit; what becomes of its clips is in their verdicts."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from curation.faults import is_infrastructure, one_line
from curation.ledger import Unit
from curation.recipe import Step
from curation.run.book import GIVEN_UP
from curation.run.breaker import Breaker, Tripped
from curation.run.lanes import Lane
from curation.sample import FAILED, SHOT, Sample, Verdict
from curation.shards import unit as unit_files
from curation.shards.repair import Hole
from curation.stage import Stage, apply
from curation.storage import Storage

PAUSES = (1.0, 5.0, 25.0)
"""Seconds before a unit is tried again in the same worker, when our side broke under it."""


class Clerk(Protocol):
    """How a worker reaches the book (`run.book.Book`), wherever that is kept."""

    def start(self, unit: str) -> tuple[int, dict[str, tuple[str, str]]]: ...

    def touch(self, unit: str, key: str) -> None: ...

    def done(self, unit: str) -> None: ...

    def step(self, steps: dict[str, int]) -> None: ...

    def trip(self) -> int: ...

    def breaks(self, unit: str) -> bool: ...


@dataclass(frozen=True)
class Job:
    """All that a worker needs to know of a run; small, and pickled to every actor."""

    storage: Storage
    provenance: dict[str, Any]
    owners: dict[str, str]
    attempts: dict[int, int] = field(default_factory=dict)
    """Group → attempt, where it is not the first."""
    kept: dict[int, frozenset[str]] = field(default_factory=dict)
    """Group of a retry → keys that are in a shard already and are not written again."""
    holes: dict[int, list[Hole]] = field(default_factory=dict)
    """What of a group is to be made anew, before its newest shard; for the driver."""
    sidecar: str = ""
    """What follows the names of its shards, which are the input's."""
    settle: bool = False
    """A later pass over what an earlier one did not believe: a worker that is not broken says the same, and then it counts."""


@dataclass(frozen=True)
class Load:
    """A unit on its way: the samples, the keys that were planned, and how many of those had failed before the first stage."""

    samples: list[Sample]
    planned: list[str]
    came_failed: int

    @classmethod
    def of(cls, samples: list[Sample]) -> Load:
        return cls(samples, [s.key for s in samples], sum(s.verdict.status == FAILED for s in samples))

    def packed(self) -> bytes:
        return pickle.dumps(self, protocol=5)


@dataclass(frozen=True)
class Outcome:
    """What became of a unit in a lane. `data`: its packed `Load`, for the next lane. `counts`: of a unit that was written.

    `error`: our side broke under it, and it is set aside. `again`: it ended with a clip that failed as on a broken worker, and
    another one is to look at it.
    """

    unit: str
    data: bytes | None = None
    counts: dict[str, int] | None = None
    error: str = ""
    again: bool = False


class MustLeave(Exception):
    """This worker is to be replaced: by ending its process, or with `--local` by loading its stages anew."""


@dataclass
class Worker:
    """One lane at work. The last one of a recipe also writes units."""

    lane: Lane
    job: Job
    last: bool
    clerk: Clerk
    pause: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        own = {id(step.stage): copy(step.stage) for step in self.lane.steps}  # the recipe's stay free of weights, fit to travel
        self.steps = [Step(own[id(step.stage)], step.redeem) for step in self.lane.steps]
        self.seats, self.door = threading.Semaphore(self.lane.units), threading.Lock()
        self.breaker = Breaker()
        for stage in self._stages():
            stage.load()

    def close(self) -> None:
        for stage in self._stages():
            stage.close()

    def _stages(self) -> list[Stage]:
        """Those that work here; of others at most a promise is redeemed, which needs nothing loaded."""
        return [step.stage for step in self.steps if not step.redeem]

    def run(self, unit: str, data: bytes) -> Outcome:
        """Every step on the unit's samples. What our side breaks is tried again, after pauses: the steps from the samples as they
        came, the writing alone where that is what broke.

        Raises `MustLeave` when a new worker should try, and `StageBug` or `Tripped` when the run must end.
        """
        load: Load | None = None
        for pause in (*PAUSES, None):
            try:
                load = load or self._attempt(unit, data)
                outcome = self._finish(unit, load) if load else Outcome(unit, error=f"its worker died {GIVEN_UP} times")
                self.clerk.done(unit)
                return outcome
            except Tripped as trip:
                if self.job.settle or self.clerk.trip() > 1:
                    raise  # a second worker says the same
                raise MustLeave(str(trip)) from trip
            except Exception as error:
                if not is_infrastructure(error):
                    raise
                if pause is None:
                    return self._broke(unit, error, by_writing=load is not None)
                self.pause(pause)
        raise AssertionError("the last pause is None")

    def _broke(self, unit: str, error: Exception, by_writing: bool) -> Outcome:
        """Set the unit aside, after a new worker has tried too: what cannot be written needs none."""
        if not by_writing and self.clerk.breaks(unit):
            raise MustLeave(one_line(error)) from error
        self.clerk.done(unit)
        return Outcome(unit, error=one_line(error))

    def _attempt(self, unit: str, data: bytes) -> Load | None:
        """The unit after every step; None when it has cost so many workers that it is given up."""
        deaths, killers = self.clerk.start(unit)
        load: Load = pickle.loads(data)  # our own bytes, from the driver or the lane before, never from disk
        known = {SHOT.sub("", key): why for key, why in killers.items()} | killers  # a shot's fault is its clip's
        killers = {s.key: known[s.key] for s in load.samples if s.key in known}  # those of other units excuse none here
        if deaths >= GIVEN_UP and not killers:
            return None
        with self._seat(self.lane.units if deaths else 1):
            return replace(load, samples=self._carefully(unit, load.samples, killers) if deaths else self._through(load.samples))

    def _finish(self, unit: str, load: Load) -> Outcome:
        if self.breaker.is_open and not self.job.settle:
            return Outcome(unit, again=True)
        if not self.last:
            return Outcome(unit, data=load.packed())
        where = Unit.of(unit)
        attempt, kept = self.job.attempts.get(where.group, 0), self.job.kept.get(where.group, frozenset())
        about = (self.job.owners, self.job.provenance, load.planned, kept)
        counts = unit_files.write(self.job.storage, where, attempt, load.samples, *about)
        return Outcome(unit, counts=counts | {"came_failed": load.came_failed})

    def _through(self, samples: list[Sample]) -> list[Sample]:
        for step in self.steps:
            alive = [s for s in samples if s.alive]
            count = partial(self._count, step)
            samples = apply(step.stage, samples, count, redeem=step.redeem)
            self.breaker.watch(step.stage.name, alive)
        return samples

    def _count(self, step: Step, batch: Sequence[Sample]) -> None:
        if not step.redeem:
            self.clerk.step({step.stage.name: len(batch)})

    def _carefully(self, unit: str, samples: list[Sample], killers: dict[str, tuple[str, str]]) -> list[Sample]:
        """Clip by clip, so that the next death names one; those that are not to be tried again fail."""
        done: list[Sample] = []
        for sample in samples:
            if sample.alive and sample.key in killers:
                stage, reason = killers[sample.key]
                done.append(sample.drop(Verdict(FAILED, stage or self.lane.steps[0].stage.name, reason)))
                continue
            self.clerk.touch(unit, sample.key)
            done += self._through([sample])
        self.clerk.touch(unit, "")
        return done

    @contextmanager
    def _seat(self, count: int) -> Iterator[None]:
        """So many of the seats that the units in this worker share. Who waits for all of them lets nobody pass."""
        with self.door:
            for _ in range(count):
                self.seats.acquire()
        try:
            yield
        finally:
            self.seats.release(count)
