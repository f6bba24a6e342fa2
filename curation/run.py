"""The main job: plan if needed, run what is not done, say what became of every clip."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from curation import console, engine, plan, recipe, store
from curation.inputs.open import open_input
from curation.plan import Plan
from curation.recipe import Recipe

TOO_MANY_FAILED = 3
"""Exit status of a run whose failed share passes the recipe's `max_failed`."""


def make_plan(path: str, input_name: str, out: Path, *, videos: str | None = None, limit: int | None = None) -> Plan:
    """`curation plan`: write `OUT/plan/`, or find the finished one that was made from the same."""
    chosen = recipe.find(path)
    with _claimed(out):
        return _planned(chosen, input_name, out, videos, limit)


def run(
    path: str,
    input_name: str,
    out: Path,
    *,
    videos: str | None = None,
    limit: int | None = None,
    local: bool = False,
    address: str | None = None,
) -> int:
    """`curation run`: returns the exit status."""
    chosen = recipe.find(path)
    with _claimed(out):
        planned = _planned(chosen, input_name, out, videos, limit)
        return _execute(chosen, planned, out, local, address)


def retry(out: Path, *, local: bool = False, address: str | None = None) -> int:
    """`curation retry`: run the clips that failed in a clip stage again, and nothing else. Returns the exit status."""
    planned = plan.open_plan(out)
    if planned is None or not (out / "recipe.yaml").exists():
        raise engine.EngineError(f"{out} holds no run: there is no plan or no recipe in it")
    with _claimed(out):
        return _execute(recipe.load(out / "recipe.yaml"), planned, out, local, address, again=True)


@contextmanager
def _claimed(out: Path) -> Iterator[None]:
    """The run directory, for one driver at a time."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise engine.EngineError(f"--output {out}: {error.strerror}") from error
    try:
        with FileLock(out / ".lock", timeout=0):
            yield
    except Timeout as error:
        raise engine.EngineError(f"another run is at work in {out}") from error


def _planned(chosen: Recipe, input_name: str, out: Path, videos: str | None, limit: int | None) -> Plan:
    wanted = plan.identity(chosen, input_name, limit)
    if done := plan.open_plan(out):
        plan.check(done, wanted)
        return done
    clips = open_input(input_name, videos)
    store.fetch(chosen.plan_models(), console.say)
    with console.counting("plan", limit) as count:
        made = plan.make_plan(chosen, clips, out, wanted, limit=limit, progress=count.add)
    found = ", ".join(f"{k} {v}" for k, v in made.info["verdicts"].items())
    console.say(f"planned {made.clips} clips in {made.units} units ({found or 'the input holds no clip'})")
    return made


def _execute(chosen: Recipe, planned: Plan, out: Path, local: bool, address: str | None, *, again: bool = False) -> int:
    provenance = engine.prepare(out, chosen, planned)
    job = engine.Job(out.resolve(), Plan(planned.folder.resolve(), planned.info), provenance, local, again)
    todo = job.todo()
    store.fetch(chosen.models(), console.say)
    start = time.monotonic()
    bars = console.is_terminal()
    with console.counting("run", planned.clips, [s.name for s in chosen.clips], quiet=bars and not local) as count:

        def report(found: dict[str, int]) -> None:
            count.add(found.pop("planned"), found)

        if todo and local:
            engine.run_local(chosen, job, todo, report, count.step)
        elif todo:
            engine.run_ray(chosen, job, todo, report, address=address, bars=bars)
    seconds = time.monotonic() - start
    tally = engine.tally(out, planned)
    video = tally.video_seconds * count.done / max(1, tally.planned)
    print(console.summary(tally, seconds, count.done, video))
    return TOO_MANY_FAILED if tally.failed > chosen.shards.max_failed * tally.planned else 0
