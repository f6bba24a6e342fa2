"""What a person at a terminal sees: bars on a terminal, plain lines elsewhere, and the closing summary."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from curation import store
from curation.shards import Tally

EVERY = 5.0
"""Seconds between two plain lines."""


def wide() -> RichConsole:
    """For tables on standard output: as wide as the terminal, and wide enough for a file or a pipe."""
    console = RichConsole()
    return console if console.is_terminal else RichConsole(width=200)


def is_terminal() -> bool:
    return sys.stderr.isatty()


def say(text: str) -> None:
    """A line about the work, beside the results: standard error."""
    print(text, file=sys.stderr, flush=True)


class Counting:
    """So many of something are done: a bar when the total is known and this is a terminal, else a line now and then."""

    def __init__(self, what: str, total: int | None, stages: list[str] | None = None, *, quiet: bool = False):
        self.what, self.total, self.done, self.quiet = what, total, 0, quiet
        self.start = self.last = time.monotonic()
        self.found: Counter[str] = Counter()
        self.progress: Progress | None = None
        if is_terminal() and not quiet:
            columns = (
                TextColumn("{task.description:20}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
            )
            self.progress = Progress(*columns, console=RichConsole(stderr=True))
            self.tasks: dict[str, TaskID] = {name: self.progress.add_task(name, total=total) for name in [*(stages or []), what]}
            self.progress.start()

    def step(self, name: str, count: int) -> None:
        """`count` more have reached the stage `name`."""
        if self.progress:
            self.progress.advance(self.tasks[name], count)

    def add(self, count: int, found: dict[str, int] | None = None) -> None:
        """`count` more are finished; `found` says as what."""
        self.done += count
        self.found.update(found or {})
        if self.progress:
            self.progress.advance(self.tasks[self.what], count)
        elif not self.quiet and time.monotonic() - self.last > EVERY:
            self.last = time.monotonic()
            say(self.line())

    def line(self) -> str:
        of = f"/{self.total}" if self.total else ""
        rate = self.done / max(1e-6, time.monotonic() - self.start)
        return f"{self.what}: {self.done}{of} clips, {rate:.1f}/s" + "".join(f", {k} {v}" for k, v in self.found.items())

    def close(self) -> None:
        if self.progress:
            self.progress.stop()


@contextmanager
def counting(what: str, total: int | None, stages: list[str] | None = None, *, quiet: bool = False) -> Iterator[Counting]:
    """A `Counting` that is taken down whatever happens; a quiet one counts for somebody else's bars."""
    count = Counting(what, total, stages, quiet=quiet)
    try:
        yield count
    finally:
        count.close()


def summary(tally: Tally, seconds: float, clips: int, video_seconds: float) -> str:
    """The closing lines of a run: what became of every clip, why, and how fast. `clips` and `video_seconds` are this run's."""
    lines = [f"planned {tally.planned} = kept {tally.kept} + rejected {tally.rejected} + failed {tally.failed}"]
    if tally.samples != tally.kept:
        lines[0] += f"   ({tally.samples} samples: clips that were split into shots give several)"
    for (status, stage, reason), count in sorted(
        tally.reasons.items(), key=lambda item: (item[0][0] != "rejected", -item[1], item[0])
    ):
        lines.append(f"  {status:8} {count:6}  {stage}: {reason}")
    if clips:
        rate = f"{clips / seconds:.2f} clips/s, {video_seconds / seconds:.1f} seconds of video per second"
        lines.append(f"{clips} clips in {seconds:.1f} s: {rate}")
    else:
        lines.append("nothing was left to do")
    spent = ", ".join(f"{name} {value:.1f}" for name, value in tally.stage_seconds.items())
    return "\n".join([*lines, f"worker seconds per stage: {spent}"] if spent else lines)


def models_table() -> None:
    """What the store knows: name, whether it is here, size, licence, source."""
    table = Table()
    for column in ("model", "here", "MB", "licence", "source", "what it is"):
        table.add_column(column, overflow="fold")
    for name in store.names():
        entry = store.entry(name)
        size = sum(file.size or 0 for file in entry.pinned) / 1e6
        here = "yes" if store.is_present(name) else "no"
        table.add_row(name, here, f"{size:.1f}", entry.licence, entry.source, entry.description)
    wide().print(table)
