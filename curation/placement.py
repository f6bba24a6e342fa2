"""How many workers each stage gets, and what each of them asks Ray for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from curation.stage import Stage

CROWD = 10
"""Workers per CPU beyond which a recipe is refused rather than squeezed."""


class PlacementError(Exception):
    """One line: what the recipe needs and what the cluster has."""


@dataclass(frozen=True)
class Pool:
    """An actor pool: between `least` and `most` workers, each with so many logical CPUs and GPUs."""

    least: int
    most: int
    cpus: float
    gpus: float


def place(stages: Sequence[Stage], cpus: float, gpus: float) -> list[Pool]:
    """One pool per stage such that all of them run at once: a stage that waits for a worker would block the others for ever.

    Every stage starts with one worker, or the recipe's `workers`; those without a number may grow into the CPUs that are left,
    but for those on a GPU and those that take several units at once: more of them would be more engines.
    On a machine with fewer CPUs than workers, each asks for a fraction. Raises `PlacementError` when it does not fit.
    """
    least = [stage.workers or 1 for stage in stages]
    share = [stage.resources.gpus if stage.gpus is None else stage.gpus for stage in stages]
    _check_gpus(stages, least, share, gpus)
    need_cpus = sum(n * stage.resources.cpus for n, stage in zip(least, stages, strict=True))
    if need_cpus > cpus * CROWD:
        raise PlacementError(f"the recipe's workers ask for {need_cpus:g} CPUs, there are {cpus:g}: lower `workers`")
    squeeze = min(1.0, cpus / need_cpus)
    spare = int(cpus - need_cpus)
    return [
        Pool(n, n if _fixed(stage, g) else n + max(0, spare), round(stage.resources.cpus * squeeze - 5e-5, 4), g)
        for stage, n, g in zip(stages, least, share, strict=True)
    ]


def _fixed(stage: Stage, gpus: float) -> bool:
    return bool(stage.workers or gpus or stage.units() > 1)


def _check_gpus(stages: Sequence[Stage], workers: Sequence[int], share: Sequence[float], gpus: float) -> None:
    """Raise `PlacementError` when the GPUs are too few, or enough and yet no way to share them: a worker's part is of one GPU."""
    need = sum(n * g for n, g in zip(workers, share, strict=True))
    users = ", ".join(f"{s.name} {n} × {g:g}" for s, n, g in zip(stages, workers, share, strict=True) if g)
    if need > gpus + 1e-9:
        none = "" if gpus else ": take a recipe for CPUs (embedded), or a machine with a GPU"
        raise PlacementError(f"the recipe needs {need:g} GPUs ({users}), there are {gpus:g}{none}")
    for stage, part in zip(stages, share, strict=True):
        if part < 0 or (part > 1 and part % 1):
            raise PlacementError(f"{stage.name}: a worker takes a part of one GPU or several whole ones, not gpus: {part:g}")
    free = [1.0] * int(gpus + 1e-9)
    for stage, count, part in zip(stages, workers, share, strict=True):
        for _ in range(count if part else 0):
            if part > 1:
                fits = [i for i, left in enumerate(free) if left == 1.0][: int(part)]
            else:
                fits = [i for _, i in sorted((left, i) for i, left in enumerate(free) if left >= part - 1e-9)][:1]
            if len(fits) < max(1, int(part)):
                left = ", ".join(f"{left:g}" for left in sorted(free, reverse=True))
                wanted = f"when {stage.name} asks for {part:g}, {left} are left"
                raise PlacementError(f"the workers' parts do not share {len(free)} GPUs ({users}): {wanted}")
            for i in fits:
                free[i] = round(free[i] - min(part, 1.0), 6)
