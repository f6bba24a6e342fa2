"""Lanes: neighbouring stages that one worker runs one after the other, how many workers each gets, and what each asks Ray for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, inf

from curation.recipe import Step

CROWD = 10
"""Workers per CPU beyond which a recipe is refused rather than squeezed."""


class PlacementError(Exception):
    """One line: what the recipe needs and what the cluster has."""


@dataclass
class Lane:
    """Steps that share a worker: samples do not travel between them. One without steps only writes units.

    `cpus` is the largest that a stage of it asks for, `memory` (GB) the sum; `gpus` that of its only stage; `workers` and `units`
    (how many a worker takes at once) likewise.
    """

    steps: list[Step]
    gpus: float = 0.0
    workers: int | None = None
    units: int = 1

    @property
    def name(self) -> str:
        """Its stages, each once: `split_shots+sample_frames`."""
        return "+".join(dict.fromkeys(step.stage.name for step in self.steps)) or "write"

    @property
    def cpus(self) -> float:
        return max((step.stage.resources.cpus for step in self.steps), default=1.0)

    @property
    def memory(self) -> float:
        stages = {step.stage.name: step.stage.resources.memory for step in self.steps}
        return sum(stages.values()) or 1.0

    @property
    def grows(self) -> bool:
        """Whether more workers are better: not of what holds a GPU or an engine, nor where the recipe says how many."""
        return not (self.workers or self.gpus or self.units > 1)


@dataclass(frozen=True)
class Pool:
    """An actor pool: between `least` and `most` workers, each with so many logical CPUs and GPUs, and bytes of memory."""

    least: int
    most: int
    cpus: float
    gpus: float
    memory: int = 0


def lanes(steps: Sequence[Step]) -> list[Lane]:
    """A lane of its own for each stage on a GPU, each that takes several units at once and each with `workers`; each run of the
    others is one. Units are written by the last, which is none that holds a GPU or an engine."""
    made: list[Lane] = []
    shared = False  # whether the last lane takes further steps
    for step in steps:
        stage = step.stage
        alone = not step.redeem and bool(stage.share or stage.workers or stage.units() > 1)
        if alone:
            made.append(Lane([step], stage.share, stage.workers, stage.units()))
        elif shared:
            made[-1].steps.append(step)
        else:
            made.append(Lane([step]))
        shared = not alone
    if made[-1].gpus or made[-1].units > 1:
        made.append(Lane([]))
    return made


def place(lanes: Sequence[Lane], cpus: float, gpus: float, memory: float = inf) -> list[Pool]:
    """One pool per lane such that all of them run at once: a lane that waits for a worker would block the others for ever.

    Lanes on GPUs get as many workers as all of them fit side by side; those that grow share what CPUs are left. About one CPU is
    left to Ray's own tasks: on a small machine workers ask for less than they use. `memory`: GB of the cluster.
    Raises `PlacementError` when it does not fit.
    """
    least = _on_gpus(lanes, gpus)
    need = sum(n * lane.cpus for n, lane in zip(least, lanes, strict=True))
    if need > cpus * CROWD:
        raise PlacementError(f"the recipe's workers ask for {need:g} CPUs, there are {cpus:g}: lower `workers`")
    growing = [lane for lane in lanes if lane.grows]
    spare = max(0.0, cpus - need)
    spare_memory = memory - sum(n * lane.memory for n, lane in zip(least, lanes, strict=True))
    more = [_more(lane, spare, spare_memory) if lane.grows else 0 for lane in lanes]
    if len(growing) == 1:  # there is nobody to share with: it starts at full size
        least = [n + m for n, m in zip(least, more, strict=True)]
        more = [0] * len(lanes)
    total = sum(n * lane.cpus for n, lane in zip(least, lanes, strict=True))
    squeeze = min(1.0, max(cpus - 1, cpus / 2) / total)
    tight = min(1.0, 0.9 * memory / sum(n * lane.memory for n, lane in zip(least, lanes, strict=True)))
    return [
        Pool(n, n + m, _allowed(lane.cpus * squeeze), lane.gpus, int(lane.memory * tight * 1e9))
        for lane, n, m in zip(lanes, least, more, strict=True)
    ]


def _more(lane: Lane, cpus: float, memory: float) -> int:
    return max(0, min(floor(cpus / lane.cpus), floor(min(memory / lane.memory, 1e6))))


def _allowed(cpus: float) -> float:
    """What Ray takes: part of one CPU, in ten-thousandths, or whole ones."""
    return float(floor(cpus)) if cpus >= 1 else floor(cpus * 10_000) / 10_000


def _on_gpus(lanes: Sequence[Lane], gpus: float) -> list[int]:
    """Workers of each lane: of those on GPUs as many as fit side by side. Raises `PlacementError` when one of each does not."""
    together = sum(lane.gpus for lane in lanes if not lane.workers)
    fixed = sum(lane.gpus * lane.workers for lane in lanes if lane.workers)
    each = max(1, floor((gpus - fixed) / together + 1e-9)) if together else 1
    for count in range(each, 0, -1):
        workers = [lane.workers or (count if lane.gpus else 1) for lane in lanes]
        try:
            _check_gpus(lanes, workers, gpus)
            return workers
        except PlacementError:
            if count == 1:
                raise
    raise AssertionError("count ends at 1")


def _check_gpus(lanes: Sequence[Lane], workers: Sequence[int], gpus: float) -> None:
    """Raise `PlacementError` when the GPUs are too few, or enough and yet no way to share them: a worker's part is of one GPU."""
    need = sum(n * lane.gpus for n, lane in zip(workers, lanes, strict=True))
    users = ", ".join(f"{lane.name} {n} × {lane.gpus:g}" for lane, n in zip(lanes, workers, strict=True) if lane.gpus)
    if need > gpus + 1e-9:
        none = "" if gpus else ": take a recipe for CPUs (embedded), or a machine with a GPU"
        raise PlacementError(f"the recipe needs {need:g} GPUs ({users}), there are {gpus:g}{none}")
    for lane in lanes:
        if lane.gpus < 0 or (lane.gpus > 1 and lane.gpus % 1):
            raise PlacementError(f"{lane.name}: a worker takes a part of one GPU or several whole ones, not gpus: {lane.gpus:g}")
    free = [1.0] * int(gpus + 1e-9)
    for lane, count in zip(lanes, workers, strict=True):
        part = lane.gpus
        for _ in range(count if part else 0):
            if part > 1:
                fits = [i for i, left in enumerate(free) if left == 1.0][: int(part)]
            else:
                fits = [i for _, i in sorted((left, i) for i, left in enumerate(free) if left >= part - 1e-9)][:1]
            if len(fits) < max(1, int(part)):
                left = ", ".join(f"{left:g}" for left in sorted(free, reverse=True))
                wanted = f"when {lane.name} asks for {part:g}, {left} are left"
                raise PlacementError(f"the workers' parts do not share {len(free)} GPUs ({users}): {wanted}")
            for i in fits:
                free[i] = round(free[i] - min(part, 1.0), 6)
