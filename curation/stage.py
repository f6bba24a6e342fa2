"""The one abstraction: a stage takes samples and gives samples, and says what it reads, writes and holds."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import chain
from typing import Any, ClassVar, TypeVar

from curation.sample import FAILED, REJECTED, Sample

T = TypeVar("T")
Result = Sample | list[Sample] | Exception


class Reject(Exception):
    """Raised (or returned in a batch) by a stage: the clip is sound, but not wanted. `reason` is a snake_case word."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


class StageBug(Exception):
    """A stage broke its own declaration. It stops the run: the fault is in the code, not in a clip."""


@dataclass(frozen=True)
class Resources:
    """What one worker of a stage holds: logical CPUs, GPUs (fractions allowed), and how many samples it takes at once."""

    cpus: float = 1.0
    gpus: float = 0.0
    batch: int = 1


@dataclass(kw_only=True)
class Stage:
    """Base of every stage. Its fields are the knobs of the recipe, the class attributes are facts about it.

    `reads` and `writes` are patterns of members in `Sample.files` ("frame?.jpg"); `reads` may also hold "caption", "source" (the
    clip's video is still outside) and names of stages whose metadata is needed. A stage always owns `meta[stage.name]`.
    """

    resources: ClassVar[Resources] = Resources()
    reads: ClassVar[tuple[str, ...]] = ()
    writes: ClassVar[tuple[str, ...]] = ()

    workers: int | None = None
    """Workers of this stage; None lets the engine choose by the machine."""
    gpus: float | None = None
    """GPUs per worker; None takes the stage's own figure."""

    @property
    def name(self) -> str:
        return stage_name(type(self))

    def models(self) -> tuple[str, ...]:
        """Names in the store of the models these knobs need."""
        return ()

    def units(self) -> int:
        """Units that one worker takes at once, each on a thread of its own. Above 1, `process_batch` must bear several callers:
        for what waits for an engine or a server that answers many at a time. In one process (`--local`) it is one by one."""
        return 1

    def load(self) -> None:
        """Once per worker, before the first sample: heavy imports and weights."""

    def close(self) -> None:
        """When a worker ends, loaded or not: let go of what would outlive it (an engine's memory, its processes)."""

    def process(self, sample: Sample) -> Sample | list[Sample]:
        """Work on one sample; several out when it divides. Raise `Reject` to drop it."""
        raise NotImplementedError(f"{type(self).__name__} has neither process nor process_batch")

    def process_batch(self, samples: Sequence[Sample]) -> Sequence[Result]:
        """Work on several at once: one result per input, in order. A result may be an exception: that sample alone ends."""
        return [_caught(self.process, sample) for sample in samples]


def stage_name(cls: type[Stage]) -> str:
    """`CropFaces` → `crop_faces`, the name in recipes, metadata and ledgers."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()


def one_line(error: BaseException) -> str:
    """An error as a ledger keeps it: type and message, one line, at most 300 characters."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:300] if text else type(error).__name__


def apply(stage: Stage, samples: Iterable[Sample], before: Callable[[Sequence[Sample]], None] = lambda _: None) -> list[Sample]:
    """Run `stage` on the samples that are still alive, in its batch size; the others pass through, order is kept.

    Every error ends as a verdict of the one sample it belongs to: a batch that raises is run again sample by sample.
    `before` is called with the samples about to be touched (the engine's journal).
    Raises `StageBug` when the stage writes what it did not declare.
    """
    samples = list(samples)
    alive = [s for s in samples if s.alive]
    done: dict[int, list[Sample]] = {}
    size = max(1, stage.resources.batch)
    for batch in (alive[i : i + size] for i in range(0, len(alive), size)):
        before(batch)
        start = time.perf_counter()
        results = _run_batch(stage, batch)
        each = (time.perf_counter() - start) / len(batch)
        for sample, outputs in zip(batch, results, strict=True):
            for output in outputs:
                output.seconds[stage.name] = each / len(outputs)
            done[id(sample)] = outputs
    return list(chain.from_iterable(done.get(id(s), [s]) for s in samples))


def _run_batch(stage: Stage, batch: Sequence[Sample]) -> list[list[Sample]]:
    known = [(set(s.files), set(s.meta)) for s in batch]
    results = _caught(stage.process_batch, batch)
    if isinstance(results, Exception):
        if len(batch) > 1:
            return [_run_batch(stage, [sample])[0] for sample in batch]
        results = [results]
    if len(results) != len(batch):
        raise StageBug(f"{stage.name} gave {len(results)} results for {len(batch)} samples")
    return [_settle(stage, *args) for args in zip(batch, results, known, strict=True)]


def _settle(stage: Stage, sample: Sample, result: Result, known: tuple[set[str], set[str]]) -> list[Sample]:
    if isinstance(result, Reject):
        return [sample.drop(REJECTED, stage.name, result.reason)]
    if isinstance(result, Exception):
        return [sample.drop(FAILED, stage.name, one_line(result))]
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


def _caught(work: Callable[[Any], T], argument: Any) -> T | Exception:
    try:
        return work(argument)
    except StageBug:
        raise
    except Exception as error:  # noqa: BLE001 the only broad except: whatever a clip provokes belongs to that clip
        return error
