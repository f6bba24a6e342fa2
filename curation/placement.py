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

    Every stage starts with one worker, or the recipe's `workers`; those without a number may grow into the CPUs that are left.
    On a machine with fewer CPUs than workers, each asks for a fraction. Raises `PlacementError` when it does not fit.
    """
    least = [stage.workers or 1 for stage in stages]
    share = [stage.resources.gpus if stage.gpus is None else stage.gpus for stage in stages]
    need_gpus = sum(n * g for n, g in zip(least, share, strict=True))
    if need_gpus > gpus + 1e-9:
        users = ", ".join(f"{s.name} {n} × {g:g}" for s, n, g in zip(stages, least, share, strict=True) if g)
        raise PlacementError(f"the recipe needs {need_gpus:g} GPUs ({users}), there are {gpus:g}")
    need_cpus = sum(n * stage.resources.cpus for n, stage in zip(least, stages, strict=True))
    if need_cpus > cpus * CROWD:
        raise PlacementError(f"the recipe's workers ask for {need_cpus:g} CPUs, there are {cpus:g}: lower `workers`")
    squeeze = min(1.0, cpus / need_cpus)
    spare = int(cpus - need_cpus)
    return [
        Pool(n, n if stage.workers or g else n + max(0, spare), round(stage.resources.cpus * squeeze - 5e-5, 4), g)
        for stage, n, g in zip(stages, least, share, strict=True)
    ]
