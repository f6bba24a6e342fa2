"""The one abstraction: a stage takes samples and gives samples, and says what it reads, writes and holds."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from curation.faults import DataError, StageBug, is_infrastructure, one_line
from curation.limits import Limits, watchdog
from curation.sample import FAILED, REJECTED, Sample, Verdict

IN_HAND = 2
"""Units that a worker on a GPU takes at once where its stage bears that: while the network has one, the pictures of the other are
decoded, resized or encoded. Not measured yet."""
T = TypeVar("T")
Result = Sample | list[Sample] | Exception


class Reject(Exception):
    """Raised (or returned in a batch) by a stage: the clip is sound, but not wanted. `reason` is a snake_case word."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(reason)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Resources:
    """What one worker of a stage holds: logical CPUs, GPUs (fractions allowed), GB of memory; and how many samples it takes at
    once."""

    cpus: float = 1.0
    gpus: float = 0.0
    memory: float = 1.0
    batch: int = 1


@dataclass(frozen=True)
class Window:
    """Small pictures of a clip, evenly spaced from its first to its last frame: how many, and the most pixels of a long side."""

    frames: int = 0
    side: int = 0

    def __or__(self, other: Window) -> Window:
        """What serves both."""
        return Window(max(self.frames, other.frames), max(self.side, other.side))


@dataclass(kw_only=True)
class Stage:
    """Base of every stage. Its fields are the knobs of the recipe, the class attributes are facts about it.

    `reads` and `writes` are patterns of members in `Sample.files` ("frame?.jpg"); `reads` may also hold "caption", "source" (the
    clip's video is still outside) and names of stages whose metadata is needed. A stage always owns `meta[stage.name]`, which
    reaches KEY.json and the ledger under its name by itself, and the members it writes. Members in `promises` (among `writes`)
    are not made with the others but by `redeem_batch`, of what is kept in the end, or just before a stage that reads them.
    """

    resources: ClassVar[Resources] = Resources()
    reads: ClassVar[tuple[str, ...]] = ()
    writes: ClassVar[tuple[str, ...]] = ()
    promises: ClassVar[tuple[str, ...]] = ()
    twice: ClassVar[bool] = False
    """Whether it may stand under `plan:` and under `clips:`: what it has judged it lets be."""

    limits = Limits()
    """What the run bears of a clip: the recipe's own."""

    workers: int | None = None
    """Workers of this stage; None lets the engine choose by the machine."""
    gpus: float | None = None
    """GPUs per worker; None takes the stage's own figure."""

    @property
    def name(self) -> str:
        return stage_name(type(self))

    @property
    def share(self) -> float:
        """GPUs that a worker of it holds; one that holds none sees none."""
        return self.resources.gpus if self.gpus is None else self.gpus

    def models(self) -> tuple[str, ...]:
        """Names in the store of the models these knobs need."""
        return ()

    def own_files(self) -> dict[str, str | Path]:
        """Files and folders that are not the store's, by the knob that names them: their content is part of the run's
        fingerprint."""
        weights = getattr(self, "weights", None)
        return {"weights": weights} if weights else {}

    def resolve(self) -> None:
        """Once, by the driver: decide what depends on the machine ("auto"), so that all workers do the same. What is decided is
        part of the run's fingerprint."""

    def units(self) -> int:
        """Units that one worker takes at once, each on a thread of its own. Above 1, `process_batch` must bear several callers:
        for what waits for an engine or a server that answers many at a time. In one process (`--local`) it is one by one."""
        return 1

    def window(self) -> Window:
        """The small pictures (`_window.NN.jpg`) it wants of each clip."""
        return Window()

    def serve(self, window: Window) -> None:
        """What the stages after this one want; for the stage that makes it."""

    def watch(self, samples: Sequence[Sample]) -> AbstractContextManager[None]:
        """For work on these samples: past what the run bears it is interrupted, and ends as their error. `apply` watches what it
        calls; a stage that takes apart what it is given watches each part."""
        return watchdog.watch(self.limits.left(samples), self.name, (sample.key for sample in samples))

    def load(self) -> None:
        """Once per worker, before the first sample: heavy imports and weights."""

    def close(self) -> None:
        """When a worker ends, loaded or not: let go of what would outlive it (an engine's memory, its processes)."""

    def process(self, sample: Sample) -> Sample | list[Sample]:
        """Work on one sample; several out when it divides. Raise `Reject` to drop it, `DataError` when its data are at fault."""
        raise NotImplementedError(f"{type(self).__name__} has neither process nor process_batch")

    def process_batch(self, samples: Sequence[Sample]) -> Sequence[Result]:
        """Work on several at once: one result per input, in order. A result may be an exception: that sample alone ends.

        One that works on samples together may add to their `seconds` what it spent on each; what is left is shared alike.
        """
        return [_timed(self, sample) for sample in samples]

    def redeem_batch(self, samples: Sequence[Sample]) -> Sequence[Result]:
        """Make the promised members of samples, as `process_batch`; on a worker that may not have loaded the stage."""
        raise NotImplementedError(f"{type(self).__name__} promises members and has no redeem_batch")


def stage_name(cls: type[Stage]) -> str:
    """`CropFaces` → `crop_faces`, the name in recipes, metadata and ledgers."""
    return snake(cls.__name__)


def snake(name: str) -> str:
    """`CropFaces` → `crop_faces`, `OSError` → `os_error`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def apply(
    stage: Stage,
    samples: Iterable[Sample],
    before: Callable[[Sequence[Sample]], None] = lambda _: None,
    *,
    redeem: bool = False,
) -> list[Sample]:
    """Run `stage` on the samples that are still alive, in its batch size; the others pass through, order is kept.

    An error of the data is the verdict of the one sample it belongs to, and so is one that nobody foresaw; a batch that raises is
    run again sample by sample. `before` is called with the samples about to be touched. With `redeem` the stage makes the members
    it promised. Raises what is our side's fault (`faults.is_infrastructure`), with no verdict given to the samples in hand, and
    `StageBug` when the stage writes what it did not declare.
    """
    work = stage.redeem_batch if redeem else stage.process_batch
    samples = list(samples)
    alive = [s for s in samples if s.alive]
    done: dict[int, list[Sample]] = {}
    size = max(1, stage.resources.batch)
    for batch in (alive[i : i + size] for i in range(0, len(alive), size)):
        before(batch)
        spent = [s.seconds.get(stage.name, 0.0) for s in batch]
        start = time.perf_counter()
        results = _run_batch(stage, work, batch)
        took = time.perf_counter() - start
        own = [s.seconds.get(stage.name, 0.0) - was for s, was in zip(batch, spent, strict=True)]
        rest = max(0.0, took - sum(own)) / len(batch)
        for sample, outputs, was, mine in zip(batch, results, spent, own, strict=True):
            for output in outputs:
                output.seconds[stage.name] = (was + mine + rest) / len(outputs)
            done[id(sample)] = outputs
    return list(chain.from_iterable(done.get(id(s), [s]) for s in samples))


def _run_batch(stage: Stage, work: Callable[[Sequence[Sample]], Sequence[Result]], batch: Sequence[Sample]) -> list[list[Sample]]:
    known = [(set(s.files), set(s.meta)) for s in batch]
    results = _caught(stage, work, batch, batch)
    if isinstance(results, Exception):
        if len(batch) > 1:
            return [_run_batch(stage, work, [sample])[0] for sample in batch]
        results = [results]
    if len(results) != len(batch):
        raise StageBug(f"{stage.name} gave {len(results)} results for {len(batch)} samples")
    for result in results:
        if isinstance(result, Exception) and is_infrastructure(result):
            raise result
    return [_settle(stage, *args) for args in zip(batch, results, known, strict=True)]


def _settle(stage: Stage, sample: Sample, result: Result, known: tuple[set[str], set[str]]) -> list[Sample]:
    if isinstance(result, Exception):
        return [sample.drop(verdict_of(stage.name, result))]
    outputs = [result] if isinstance(result, Sample) else result
    if not outputs:
        raise StageBug(f"{stage.name} lost {sample.key}: a stage gives at least one sample for each it takes")
    files, meta = known
    for output in outputs:
        for member in output.files.keys() - files:
            if not any(fnmatchcase(member, pattern) for pattern in stage.writes):
                raise StageBug(f"{stage.name} wrote {member!r} but declares writes={stage.writes}")
        if extra := output.meta.keys() - meta - {stage.name}:
            raise StageBug(f"{stage.name} wrote metadata of others: {sorted(extra)}")
    return outputs


def verdict_of(stage: str, error: Exception) -> Verdict:
    """What an error says of a sample: rejected, failed by its data, or failed for a reason that nobody foresaw."""
    if isinstance(error, Reject):
        return Verdict(REJECTED, stage, error.reason, error.detail)
    if isinstance(error, DataError):
        return Verdict(FAILED, stage, error.reason, error.detail)
    return Verdict(FAILED, stage, snake(type(error).__name__), one_line(error), unforeseen=True)


def _timed(stage: Stage, sample: Sample) -> Result:
    start = time.perf_counter()
    result = _caught(stage, stage.process, sample, [sample])
    sample.seconds[stage.name] = sample.seconds.get(stage.name, 0.0) + time.perf_counter() - start
    return result


def _caught(stage: Stage, work: Callable[[Any], T], argument: Any, samples: Sequence[Sample]) -> T | Exception:
    """What the work on samples gives, or the error that belongs to them; the code's or our side's fault passes through."""
    try:
        with stage.watch(samples):
            return work(argument)
    except StageBug:
        raise
    except Exception as error:  # noqa: BLE001 the only broad except: whatever a clip provokes belongs to that clip
        if is_infrastructure(error):
            raise
        return error
