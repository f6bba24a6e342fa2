"""The driver of a run: what is left to do, what became of it, and which finished units form a shard.

The work itself is done by an `Executor`: in this process (`run.local`) or on Ray (`run.cluster`). Both give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from curation.ledger import Unit
from curation.run.worker import Job, Load, Outcome
from curation.shards.pack import Packer, state
from curation.shards.planned import Plan

AWAY = 3
"""Units set aside in a row, beyond one for each worker, with none finished between, after which the run stops: what all of them
need is away."""
EARLY = 1000
"""Clips after which a run does not wait for its end with `max_failed`."""


class EngineError(Exception):
    """One line: why this run cannot start or go on."""


class BrokenError(Exception):
    """One line: a worker is broken and so is its successor; what they said of clips was not believed."""


class Stopped(Exception):
    """The run ends early, one line says why; the command that started it goes on."""


@dataclass(frozen=True)
class Todo:
    """Which units are still to be run: of each group those from its first unpacked one on that have no unit file."""

    plan: Plan
    groups: dict[int, tuple[int, frozenset[int]]]
    """Group → its first unpacked unit, and the later ones that are finished."""

    def loads(self) -> Iterator[tuple[str, bytes]]:
        """Name and packed samples of each, in planned order, read as they are asked for."""
        for group, (first, finished) in self.groups.items():
            for unit, samples in self.plan.units(group):
                if unit.number >= first and unit.number not in finished:
                    yield unit.name, Load.of(samples).packed()

    def __len__(self) -> int:
        sizes = {group.group: group.units for group in self.plan.groups}
        return sum(sizes[group] - first - len(finished) for group, (first, finished) in self.groups.items())


class Executor(Protocol):
    """Who does the work."""

    workers: int

    def outcomes(self, todo: Todo, settle: bool) -> Iterator[Outcome]:
        """Run units, in any order of finishing. `settle`: a second look at what a first pass did not believe."""
        ...

    def pack(self, group: int, number: int, units: list[int], last: bool) -> None:
        """Begin to pack finished units into a shard; `last`: it is the group's last one."""
        ...

    def packed(self, *, wait: bool) -> list[tuple[int, str]]:
        """Groups whose pack has ended, each with the error that ended it or ""; with `wait` at least one."""
        ...


@dataclass
class Driver:
    """A run under way."""

    job: Job
    plan: Plan
    executor: Executor
    report: Callable[[dict[str, int]], None]
    max_failed: float
    megabytes: float
    """Of a shard."""
    aside: dict[str, str] = field(default_factory=dict)
    """Units that our side broke under, and shards that could not be packed, each with its error."""

    def __post_init__(self) -> None:
        self._units = {group.group: group.units for group in self.plan.groups}
        self._packers: dict[int, Packer] = {}
        self._ready: dict[int, list[tuple[int, list[int]]]] = {}
        """Group → shards that can be packed. They are one at a time, so that they come to be in order."""
        self._packing: set[int] = set()
        self._clips = self._failed = self._in_a_row = self._again = 0

    @property
    def too_many_failed(self) -> bool:
        """Whether more clips failed in this run than the recipe bears; those that failed while planning are not counted."""
        return self._failed > self.max_failed * self._clips

    def run(self) -> None:
        """Run what is not done, and pack. Raises `Stopped` when nothing works any more or too many clips fail."""
        for settle in (False, True):
            todo = self._left()
            self._again = 0
            self.aside = {}
            if len(todo):
                for outcome in self.executor.outcomes(todo, settle):
                    self._take(outcome)
            self._pack_rest()
            if not self._again:
                return

    def _left(self) -> Todo:
        """What is not done; the leftovers of a run that was killed while it packed are swept."""
        left: dict[int, tuple[int, frozenset[int]]] = {}
        for group, found in state(self.job.storage, self._units.items()).items():
            if found.first < self._units[group]:
                left[group] = (found.first, frozenset(found.finished))
                self._packers[group] = Packer(self._units[group], self.megabytes, found.first, found.number)
                self._ready[group] = []
                for unit, size in found.finished.items():
                    self._ready[group] += self._packers[group].add(unit, size)
        self._pack(*left)
        return Todo(self.plan, left)

    def _take(self, outcome: Outcome) -> None:
        if outcome.again:
            self._again += 1
        elif outcome.error:
            self.aside[outcome.unit] = outcome.error
            self._in_a_row += 1
            if self._in_a_row >= AWAY + self.executor.workers:
                raise Stopped(f"{self._in_a_row} units in a row could not be run: {outcome.error}")
        elif outcome.counts is not None:
            self._in_a_row = 0
            self._finished(Unit.of(outcome.unit), dict(outcome.counts))

    def _finished(self, unit: Unit, counts: dict[str, int]) -> None:
        self._ready[unit.group] += self._packers[unit.group].add(unit.number, counts.pop("bytes"))
        self._clips += counts["clips"]
        self._failed += counts["failed"] - counts.pop("came_failed")
        self.report(counts)
        self._pack(unit.group)
        if self._clips >= EARLY and self.too_many_failed:
            raise Stopped(f"{self._failed} of {self._clips} clips failed, more than max_failed: {self.max_failed:g} bears")

    def _pack(self, *groups: int) -> None:
        """Begin the next shard of each group that has one ready and none under way."""
        self._note(self.executor.packed(wait=False))
        for group in groups:
            if self._ready[group] and group not in self._packing:
                number, units = self._ready[group].pop(0)
                self._packing.add(group)
                self.executor.pack(group, number, units, units[-1] == self._units[group] - 1)

    def _note(self, ended: list[tuple[int, str]]) -> None:
        for group, error in ended:
            self._packing.discard(group)
            if error:
                self.aside[f"shards of group {group}"] = error
                self._ready[group] = []  # its units wait, finished as they are, for the next run

    def _pack_rest(self) -> None:
        """No unit is to come: pack what can be, and wait for it."""
        self._pack(*self._packers)
        while self._packing:
            self._note(self.executor.packed(wait=True))
            self._pack(*self._packers)
