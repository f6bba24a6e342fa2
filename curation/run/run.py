"""The main job: plan if needed, run what is not done, say what became of every clip."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation import console, recipe
from curation.fingerprint import changes, digest
from curation.inputs.open import open_input
from curation.look import decisions, report
from curation.recipe import Recipe
from curation.run import ending, plan
from curation.run.engine import NOT_ALL_DONE, Driver, EngineError, Stopped
from curation.run.local import Local
from curation.run.worker import Job
from curation.shards import forget as forgetting
from curation.shards import pack, repair, sessions
from curation.shards import tally as tallies
from curation.shards.planned import Plan, open_plan
from curation.storage import Storage
from curation.store import store

NOTED = 60.0
"""Seconds between two notes of what the shards add up to, at least."""
TOO_MANY_FAILED = 3
"""Exit status of a run of whose clips more failed than the recipe's `max_failed` bears."""


def make_plan(path: str, input_name: str, out: str, *, videos: str | None = None, limit: int | None = None) -> Plan:
    """`curation plan`: write `OUT/plan/`, or find the finished one that was made from the same. Raises `Interrupted` as `run`."""
    ending.heed()
    chosen, storage = recipe.find(path), Storage.at(out)
    with storage.claim():
        chosen.resolve(_state(storage).get("recipe"))
        return _planned(chosen, input_name, storage, videos, limit, None)


def run(
    path: str,
    input_name: str,
    out: str,
    *,
    videos: str | None = None,
    limit: int | None = None,
    local: bool = False,
    address: str | None = None,
) -> int:
    """`curation run`: returns the exit status. Raises `Interrupted` when a signal ends it."""
    ending.heed()
    chosen, storage = recipe.find(path), Storage.at(out)
    with storage.claim():
        chosen.resolve(_state(storage).get("recipe"))
        planned = _planned(
            chosen, input_name, storage, videos, limit, None if local else address or os.environ.get("RAY_ADDRESS")
        )
        return _execute(chosen, planned, storage, local, address)


def retry(out: str, *, local: bool = False, address: str | None = None) -> int:
    """`curation retry`: run the clips that failed in a stage again, and what is not done. Returns the exit status."""
    ending.heed()
    storage = Storage.at(out)
    planned = open_plan(storage)
    if planned is None or not storage.exists("recipe.yaml"):
        raise EngineError(f"{out} holds no run: there is no plan or no recipe in it")
    with storage.claim(), _own_recipe(storage) as chosen:
        chosen.resolve(_state(storage).get("recipe"))
        store.fetch(chosen.plan_models(), console.say)
        cluster = None if local else address or os.environ.get("RAY_ADDRESS")
        planned = plan.append_retry(chosen, planned, _failed(planned), address=cluster)
        return _execute(chosen, planned, storage, local, address)


def forget(out: str, keys: Collection[str], file: Path | None = None, by_decision: bool = False) -> forgetting.Forgotten:
    """`curation forget`: of these keys, which must be there, of those in a file, and of those that `decisions.csv` drops."""
    storage = Storage.at(out)
    planned = open_plan(storage)
    if planned is None:
        raise EngineError(f"{out} holds no run: there is no plan in it")
    listed = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()] if file else []
    listed += decisions.dropped(storage) if by_decision else []
    with storage.claim():
        return forgetting.forget(storage, planned, keys, [key for key in listed if key])


def _failed(planned: Plan) -> pa.Array:
    """Keys of the clips that failed, but for those that an unfinished retry is to run in any case."""
    units = {group.group: group.units for group in planned.groups if group.attempt}
    pending = [group for group, found in pack.state(planned.storage, units.items()).items() if found.first < units[group]]
    waiting = pa.array([key for group in pending for key in _clips(planned, group)], pa.string())
    failed = tallies.failed_clips(planned.storage)
    return failed.filter(pc.invert(pc.is_in(failed, value_set=waiting)))


@contextmanager
def _own_recipe(storage: Storage) -> Iterator[Recipe]:
    """The recipe a run was made with, which may lie in an object store."""
    with tempfile.TemporaryDirectory(prefix="curation-") as folder:
        path = Path(folder, "recipe.yaml")
        path.write_bytes(storage.read("recipe.yaml"))
        yield recipe.load(path)


def _state(storage: Storage) -> dict[str, Any]:
    """What the run in this directory was begun with; empty when there is none."""
    return json.loads(storage.read("run.json")) if storage.exists("run.json") else {}


def _planned(
    chosen: Recipe, input_name: str, storage: Storage, videos: str | None, limit: int | None, address: str | None
) -> Plan:
    wanted = plan.identity(chosen, input_name, limit)
    if done := open_plan(storage):
        plan.check(storage, done.info, wanted)
        return done
    clips = open_input(input_name, videos)
    store.fetch(chosen.plan_models(), console.say)
    with console.counting("plan", limit) as count:
        try:
            made = plan.make_plan(chosen, clips, storage, wanted, videos=videos, limit=limit, progress=count.add, address=address)
        except ending.Interrupted as told:
            told.done = count.line()
            raise
    found = ", ".join(f"{k} {v}" for k, v in made.info["verdicts"].items())
    units = sum(group.units for group in made.groups)
    console.say(f"planned {made.clips} clips in {units} units ({found or 'the input holds no clip'})")
    return made


def begin(chosen: Recipe, planned: Plan, storage: Storage) -> Job:
    """Take the run directory for this recipe and plan, or raise `EngineError` naming what changed."""
    for folder in ("", "plan"):
        storage.sweep(folder)  # what a killed run began to write
    fingerprint = json.loads(json.dumps(chosen.fingerprint()))
    state = {"recipe": fingerprint, "plan": planned.info["hash"]}
    if before := _state(storage):
        if changed := changes(before, state):
            where = storage.path("").rstrip("/")
            raise EngineError(f"{where} was made with something else ({'; '.join(changed)}): take another --output, or delete it")
    else:
        storage.write("run.json", json.dumps(state, indent=1))
    storage.write("recipe.yaml", chosen.path.read_bytes())  # with what decides no byte as it is now: limits, placement
    forgetting.go_on(storage, planned)
    holes = repair.clear(storage, ((group.group, group.units) for group in planned.groups))
    attempts = {group.group: group.attempt for group in planned.groups if group.attempt}
    return Job(
        storage,
        {
            "version": fingerprint["version"],
            "recipe": digest(fingerprint),
            "models": fingerprint["models"],
            "libraries": fingerprint["libraries"],
        },
        chosen.owners(),
        attempts,
        {group: tallies.kept_keys(storage, _clips(planned, group)) for group in {*attempts, *holes}},
        holes,
        chosen.shards.sidecar,
    )


def _clips(planned: Plan, group: int) -> list[str]:
    return [sample.key for _, samples in planned.units(group) for sample in samples]


def _execute(chosen: Recipe, planned: Plan, storage: Storage, local: bool, address: str | None) -> int:
    job = begin(chosen, planned, storage)
    store.fetch(chosen.models(), console.say)
    clock = sessions.Clock(storage)
    stopped = ""
    with console.counting("run", planned.clips, [s.name for s in chosen.clips]) as count:
        executor = Local(chosen, job, count.step) if local else _on_ray(chosen, job, count.step, address)
        ending.heed()
        driver = Driver(
            job,
            planned,
            executor,
            Told(count, storage, clock),
            max_failed=chosen.limits.max_failed,
            megabytes=chosen.shards.megabytes,
        )
        try:
            driver.run()
        except Stopped as error:
            stopped = str(error)
        except ending.Interrupted as told:
            told.done = count.line()
            raise
        finally:
            with suppress(OSError):
                clock.note(count.done)
            executor.close()
    seconds = clock.seconds
    tally = tallies.tally(storage, keep=True)
    print(console.summary(tally, planned.clips, seconds, count.done, driver.aside, stopped))
    report.write_at_end(storage)
    if driver.too_many_failed:
        return TOO_MANY_FAILED
    if stopped or driver.aside:
        return NOT_ALL_DONE
    repair.done(storage)
    if not tally.accounted or tally.planned != planned.clips:
        raise EngineError(f"{planned.clips} clips were planned, {tally.planned} are in the ledgers of {storage.path('')}")
    return 0


class Told:
    """What the driver tells of finished units: shown, and now and then noted in `summary.json` and `sessions.json` for who looks
    into a run that is still going; counting takes a twentieth of the time at most."""

    def __init__(self, count: console.Counting, storage: Storage, clock: sessions.Clock):
        self._count, self._storage, self._clock = count, storage, clock
        self._next = time.monotonic() + NOTED

    def __call__(self, found: dict[str, int]) -> None:
        self._count.add(found.pop("clips"), found)
        if (begun := time.monotonic()) > self._next:
            with suppress(OSError):  # it is noted at the end, too
                self._clock.note(self._count.done)
                tallies.note(self._storage)
            self._next = time.monotonic() + max(NOTED, 20 * (time.monotonic() - begun))


def _on_ray(chosen: Recipe, job: Job, step: Any, address: str | None) -> Any:
    from curation.run.cluster import OnRay  # what needs Ray is not imported with --local

    try:
        return OnRay(chosen, job, step, address)
    except SystemExit as error:  # how Ray heeds SIGTERM until it has started
        raise ending.Interrupted(signal.SIGTERM) from error
