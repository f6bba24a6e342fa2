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
NOT_ALL_DONE = 4
"""Exit status of a run that had to set units aside, or could not go on: the same command does the rest."""
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
    """Which units are still to be run."""

    plan: Plan
    groups: dict[int, frozenset[int]]
    """Group → the numbers of its units that are to be run."""

    def loads(self) -> Iterator[tuple[str, bytes]]:
        """Name and packed samples of each, in planned order, read as they are asked for."""
        for group, wanted in self.groups.items():
            for unit, samples in self.plan.units(group):
                if unit.number in wanted:
                    yield unit.name, Load.of(samples).packed()

    def __len__(self) -> int:
        return sum(map(len, self.groups.values()))


@dataclass
class Stretch:
    """Units of a group that are packed one after the other: those behind its newest shard, or a hole before it."""

    packer: Packer
    ready: list[tuple[int, list[int]]] = field(default_factory=list)
    """Shards that can be packed. They are one at a time in a group, so that they come to be in order."""


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
        self._ends = {group.group: {unit: number for number, unit in group.ends} for group in self.plan.groups if group.ends}
        self._holes = self.job.holes
        self._stretches: dict[int, list[Stretch]] = {}
        self._packing: set[int] = set()
        self._blocked: set[int] = set()
        """Groups of which a shard could not be packed: none that follows it may be, or its units would pass for packed."""
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
            if not self.aside:
                self._holes = {}
            if not self._again:
                return

    def _left(self) -> Todo:
        """What is not done; the leftovers of a run that was killed while it packed are swept."""
        left: dict[int, frozenset[int]] = {}
        self._stretches, self._blocked = {}, set()
        for group, found in state(self.job.storage, self._units.items()).items():
            units, holes = self._units[group], self._holes.get(group, [])
            wanted = frozenset(range(found.first, units)) - found.finished.keys()
            wanted |= {unit for hole in holes for unit in range(hole.first, hole.last + 1)}
            if wanted or found.first < units:
                left[group] = wanted
                stretches = [(hole.last + 1, hole.first, hole.number) for hole in holes]
                stretches += [(units, found.first, found.number)] * (found.first < units)
                ends = self._ends.get(group, {})
                self._stretches[group] = [
                    Stretch(Packer(to, self.megabytes, first, number, ends=ends)) for to, first, number in stretches
                ]
                for unit, size in found.finished.items():
                    self._add(group, unit, size)
        self._pack(*left)
        return Todo(self.plan, left)

    def _add(self, group: int, unit: int, size: int) -> None:
        stretch = next(stretch for stretch in self._stretches[group] if unit < stretch.packer.units)
        stretch.ready += stretch.packer.add(unit, size)

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
        self._add(unit.group, unit.number, counts.pop("bytes"))
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
            stretch = next((stretch for stretch in self._stretches[group] if stretch.ready), None)
            if stretch and group not in self._packing | self._blocked:
                number, units = stretch.ready.pop(0)
                self._packing.add(group)
                last = units[-1] == self._units[group] - 1 and len(self._stretches[group]) == 1
                self.executor.pack(group, number, units, last)

    def _note(self, ended: list[tuple[int, str]]) -> None:
        for group, error in ended:
            self._packing.discard(group)
            if error:
                self.aside[f"shards of group {group}"] = error
                self._blocked.add(group)  # its units wait, finished as they are, for the next run

    def _pack_rest(self) -> None:
        """No unit is to come: pack what can be, and wait for it."""
        self._pack(*self._stretches)
        while self._packing:
            self._note(self.executor.packed(wait=True))
            self._pack(*self._stretches)
