"""What a person at a terminal sees: bars on a terminal, plain lines elsewhere, and the closing summary."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from curation.shards.tally import Tally
from curation.store import store

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
    """So many of something are done: a bar for each stage on a terminal when the total is known, else a line now and then."""

    def __init__(self, what: str, total: int | None, stages: list[str] | None = None):
        self.what, self.total, self.done = what, total, 0
        self.start = self.last = time.monotonic()
        self.found: Counter[str] = Counter()
        self.reached: Counter[str] = Counter()
        self.progress: Progress | None = None
        self._lock = threading.Lock()  # work is told of by several threads
        if is_terminal():
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

    def step(self, steps: dict[str, int]) -> None:
        """So many more have reached each stage."""
        with self._lock:
            self.reached.update(steps)
            if self.progress:
                for name, count in steps.items():
                    self.progress.advance(self.tasks[name], count)
            else:
                self._line_now_and_then()

    def add(self, count: int, found: dict[str, int] | None = None) -> None:
        """`count` more are finished; `found` says as what."""
        with self._lock:
            self.done += count
            self.found.update(found or {})
            if self.progress:
                self.progress.advance(self.tasks[self.what], count)
            else:
                self._line_now_and_then()

    def _line_now_and_then(self) -> None:
        if time.monotonic() - self.last > EVERY:
            self.last = time.monotonic()
            say(self.line())

    def line(self) -> str:
        """`run: 12/60 clips, 0.8/s, kept 5, rejected 7; reached split_shots 16, sample_frames 9`."""
        of = f"/{self.total}" if self.total else ""
        rate = self.done / max(1e-6, time.monotonic() - self.start)
        found = "".join(f", {k} {v}" for k, v in self.found.items() if v)
        reached = ", ".join(f"{k} {v}" for k, v in self.reached.items())
        return f"{self.what}: {self.done}{of} clips, {rate:.1f}/s{found}{'; reached ' + reached if reached else ''}"

    def close(self) -> None:
        if self.progress:
            self.progress.stop()


@contextmanager
def counting(what: str, total: int | None, stages: list[str] | None = None) -> Iterator[Counting]:
    """A `Counting` that is taken down whatever happens."""
    count = Counting(what, total, stages)
    try:
        yield count
    finally:
        count.close()


SHOWN = 5
"""Units set aside that are told of one by one."""


def summary(tally: Tally, planned: int, seconds: float, clips: int, aside: dict[str, str], stopped: str) -> str:
    """The closing lines of a run: what became of every clip, why, and how fast. `clips` were finished in these `seconds`;
    `aside`: what our side broke, with its error; `stopped`: why the run ended early."""
    lines = [f"planned {planned} = kept {tally.kept} + rejected {tally.rejected} + failed {tally.failed}"]
    if left := planned - tally.planned:
        lines[0] += f" + not done {left}"
    if tally.samples != tally.kept:
        lines[0] += f"   ({tally.samples} samples: clips that were split into shots give several)"
    for (status, stage, reason), count in sorted(
        tally.reasons.items(), key=lambda item: (item[0][0] != "rejected", -item[1], item[0])
    ):
        lines.append(f"  {status:8} {count:6}  {stage}: {reason}")
    if clips:
        lines.append(f"{clips} clips in {seconds:.1f} s: {clips / seconds:.2f} clips/s")
    else:
        lines.append("nothing was left to do" if not left else "nothing was done")
    if spent := ", ".join(f"{name} {value:.1f}" for name, value in tally.stage_seconds.items()):
        lines.append(f"worker seconds per stage: {spent}")
    lines += [f"not done: {name}: {error}" for name, error in list(aside.items())[:SHOWN]]
    lines += [f"not done: {len(aside) - SHOWN} more"] * (len(aside) > SHOWN)
    lines += [f"stopped: {stopped}"] * bool(stopped)
    lines += ["the same command does what is not done"] * bool(left)
    return "\n".join(lines)


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
