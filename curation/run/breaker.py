"""The breaker: a worker on which everything fails is broken, whatever its errors are called."""

from __future__ import annotations

from collections.abc import Iterable

from curation.sample import Sample

ENOUGH = 8
"""Sources in a row whose clips all fail at one stage, with errors of no known kind, before the worker is taken for broken."""


class Tripped(Exception):
    """This worker is taken for broken: what it last said of clips is not to be believed."""


class Breaker:
    """One worker's. Errors that tell what is wrong with a clip (`DataError`) are no concern of it, nor is a source that fails
    with all of its clips."""

    def __init__(self) -> None:
        self.streaks: dict[str, dict[str, str]] = {}
        """By stage: the sources that failed since the last clip that did not, each with its error."""

    def watch(self, stage: str, touched: Iterable[Sample]) -> None:
        """Note how clips fared at a stage, in order. Raises `Tripped`."""
        streak = self.streaks.setdefault(stage, {})
        for sample in touched:
            verdict = sample.verdict
            if not (verdict.unforeseen and verdict.stage == stage):
                streak.clear()
                continue
            streak[str(sample.meta["source"].get("path") or sample.key)] = verdict.detail
            if len(streak) >= ENOUGH:
                raise Tripped(f"{stage} failed on {len(streak)} sources in a row, the last time with {verdict.detail}")

    @property
    def is_open(self) -> bool:
        """Whether the last clip at some stage failed so: it may be the first of a streak."""
        return any(self.streaks.values())
