"""Run the units of a plan through the clip stages: on Ray Data, or in this process. Both give the same bytes.

A unit is one row of a Ray Dataset and each stage an actor pool; the streaming executor does the scheduling, the back-pressure
and the autoscaling. The last pool writes the shard. Errors are verdicts of samples, so only bugs stop a run.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation import recipe as recipes
from curation import shards
from curation.journal import Journal
from curation.placement import Pool, place
from curation.plan import Plan
from curation.recipe import Recipe
from curation.sample import FAILED, KEPT, Sample
from curation.stage import Stage, StageBug, apply


class EngineError(Exception):
    """One line: why this run cannot start or go on."""


@dataclass(frozen=True)
class Job:
    """All that a worker needs to know of a run; small, and pickled to every actor."""

    out: Path
    plan: Plan
    provenance: dict[str, Any]
    local: bool
    retry: bool = False
    run: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def shards(self) -> Path:
        return self.out / "shards"

    def todo(self) -> list[int]:
        """Units that have no ledger yet; with `retry`, those whose ledger holds a clip that failed at a clip stage."""
        if not self.retry:
            return [u for u in range(self.plan.units) if not shards.is_done(self.shards, u)]
        return [u for u in shards.units(self.shards) if _failed_clips(shards.ledger(self.shards, u, ["clip", "status", "stage"]))]

    def read(self, unit: int) -> list[Sample]:
        """The planned samples of a unit that are to be run."""
        samples = self.plan.unit(unit)
        if self.retry:
            again = _failed_clips(shards.ledger(self.shards, unit, ["clip", "status", "stage"]))
            samples = [s for s in samples if s.key in again]
        return samples

    def write(self, unit: int, samples: list[Sample]) -> dict[str, int]:
        """Publish a unit's shard and say what it holds. Raises `StageBug` when a planned clip got lost on the way."""
        found = {s.meta["source"]["clip"] for s in samples}
        old: list[shards.Record] = []
        if self.retry:
            rows = [r for r in shards.ledger(self.shards, unit) if r["clip"] not in found]
            old = [shards.Record(r, shards.read_sample(self.shards, r) if r["status"] == KEPT else []) for r in rows]
        records = [*old, *(shards.record(unit, s, self.provenance) for s in samples)]
        order = {s.key: i for i, s in enumerate(self.plan.unit(unit))}
        if order.keys() != {r.row["clip"] for r in records}:
            raise StageBug(f"unit {unit}: {len(order)} clips were planned, other ones came out")
        records.sort(key=lambda r: order[r.row["clip"]])  # stable: shots of a clip stay in their order
        shards.write(self.shards, unit, records)
        tally = shards.Tally()
        tally.add(r.row for r in records)
        return {"planned": tally.planned, "kept": tally.kept, "rejected": tally.rejected, "failed": tally.failed}


def _failed_clips(rows: list[dict[str, Any]]) -> set[str]:
    return {r["clip"] for r in rows if r["status"] == FAILED and r["stage"] != "inputs"}


@dataclass
class Worker:
    """One stage at work on units. The last one of a recipe also writes the shard."""

    stage: Stage
    job: Job
    last: bool

    def __post_init__(self) -> None:
        self.stage = copy(self.stage)  # the recipe's own stays free of weights, and so fit to travel
        self.seats, self.door = threading.Semaphore(self.stage.units()), threading.Lock()
        self.stage.load()

    def __del__(self) -> None:
        """Ray Data drops the worker before it ends its process; without Ray it goes with the run."""
        self.stage.close()

    def run(self, unit: int, samples: list[Sample], step: Callable[[int], None] = lambda _: None) -> list[Sample]:
        """Apply the stage; a sample that has killed a worker twice fails, and where one died all go one by one, and the unit
        alone: who dies then is known, also where a worker takes several units at once."""
        journal = Journal(self.job.out, unit, self.stage.name, self.job.run, any_run=self.job.local)
        alone = any(journal.suspect(s.key) for s in samples)
        with self._seat(self.stage.units() if alone else 1), journal:
            for sample in samples:
                if sample.alive and journal.killer(sample.key):
                    sample.drop(FAILED, self.stage.name, "worker died")

            def before(batch: Sequence[Sample]) -> None:
                journal.touch(batch)
                step(len(batch))

            step(sum(not s.alive for s in samples))
            if not alone:
                return apply(self.stage, samples, before)
            return [out for s in samples for out in apply(self.stage, [s], before)]

    @contextmanager
    def _seat(self, count: int) -> Iterator[None]:
        """So many of the seats that the units in this worker share. Who waits for all of them lets nobody pass."""
        with self.door:
            for _ in range(count):
                self.seats.acquire()
        try:
            yield
        finally:
            self.seats.release(count)

    def __call__(self, batch: Any) -> Any:
        """Ray Data's side: one row in, one row out; the samples travel pickled from actor to actor."""
        unit = batch["unit"][0].as_py()
        data = batch["data"][0].as_py()
        samples = self.run(unit, pickle.loads(data) if data else self.job.read(unit))  # our own bytes, never from disk
        if self.last:
            return pa.table({"unit": [unit], **{k: [v] for k, v in self.job.write(unit, samples).items()}})
        packed = pickle.dumps(samples, protocol=5)
        return pa.table({"unit": [unit], "data": pa.array([packed], pa.large_binary())})


Report = Callable[[dict[str, int]], None]


def run_local(recipe: Recipe, job: Job, todo: list[int], report: Report, step: Callable[[str, int], None]) -> None:
    """All stages in this process, unit after unit. `step(stage, count)`: so many more samples have reached a stage."""
    workers = [Worker(stage, job, last=False) for stage in recipe.clips]
    for unit in todo:
        samples = job.read(unit)
        for worker in workers:
            samples = worker.run(unit, samples, partial(step, worker.stage.name))
        report(job.write(unit, samples))


def run_ray(recipe: Recipe, job: Job, todo: list[int], report: Report, *, address: str | None, bars: bool) -> None:
    """The stages as actor pools of a Ray Dataset, on the cluster at `address` or on one started for this run."""
    from ray.exceptions import RayError

    with _cluster(recipe, address) as pools:
        try:
            for row in _dataset(recipe, job, todo, pools, bars).iter_rows():
                report({k: v for k, v in row.items() if k != "unit"})
        except RayError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, (StageBug, OSError)):
                raise cause from None
            lines = str(cause or error).strip().splitlines()
            raise EngineError(f"a worker could not go on: {lines[-1] if lines else type(error).__name__}") from error


def _dataset(recipe: Recipe, job: Job, todo: list[int], pools: list[Pool], bars: bool) -> Any:
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    logging.getLogger("ray.data").setLevel(logging.ERROR)  # after the import, which sets it up
    context = DataContext.get_current()
    context.enable_progress_bars = bars
    context.raise_original_map_exception = True
    context.target_max_block_size = None  # a unit is never split
    blocks = [pa.table({"unit": chunk, "data": pa.nulls(len(chunk), pa.large_binary())}) for chunk in _chunks(todo, 10_000)]
    dataset = ray.data.from_arrow(blocks)
    for i, (stage, pool) in enumerate(zip(recipe.clips, pools, strict=True)):
        threads = {"max_concurrent_calls_per_actor": n, "enable_true_multi_threading": True} if (n := stage.units()) > 1 else {}
        dataset = dataset.map_batches(
            type(stage.name, (Worker,), {}),  # Ray shows the class's name
            fn_constructor_kwargs={"stage": stage, "job": job, "last": i == len(recipe.clips) - 1},
            batch_size=1,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(min_size=pool.least, max_size=pool.most, **threads),
            num_cpus=pool.cpus,
            num_gpus=pool.gpus or None,
        )
    return dataset


def _chunks(units: list[int], most: int) -> Iterator[list[int]]:
    """One block per unit, and at most `most` blocks."""
    size = -(-len(units) // most)
    yield from (units[i : i + size] for i in range(0, len(units), size))


class _cluster:
    """Connect to Ray or start it, place the recipe, and leave; a cluster that was there before is left running."""

    def __init__(self, recipe: Recipe, address: str | None):
        self.recipe, self.address = recipe, address or os.environ.get("RAY_ADDRESS")

    def __enter__(self) -> list[Pool]:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its remarks go to Ray's own log files
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray

        quiet = {"log_to_driver": False, "logging_level": "ERROR"}
        try:
            if self.address:
                _knock(self.address)
                ray.init(address=self.address, **quiet)
                there = ray.cluster_resources()
                return place(self.recipe.clips, there.get("CPU", 0.0), there.get("GPU", 0.0))
            cpus = max(os.cpu_count() or 1, len(self.recipe.clips) + 1)
            ray.init(num_cpus=cpus, include_dashboard=False, **quiet)
            return place(self.recipe.clips, cpus, ray.cluster_resources().get("GPU", 0.0))
        except OSError as error:  # ConnectionError is one
            raise EngineError(f"no Ray cluster at {self.address}: {error}") from error

    def __exit__(self, *_: object) -> None:
        import ray

        ray.shutdown()


def _knock(address: str) -> None:
    """Raise OSError at once when nothing listens at `host:port`: Ray would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if port.isdecimal():
        socket.create_connection((host, int(port)), timeout=5).close()


def prepare(out: Path, recipe: Recipe, plan: Plan) -> dict[str, Any]:
    """Claim the run directory for this recipe and plan, or raise `EngineError` naming what changed. Returns the provenance."""
    fingerprint = json.loads(json.dumps(recipe.fingerprint()))
    state = {"recipe": fingerprint, "plan": plan.info["hash"]}
    file = out / "run.json"
    if file.exists():
        if changed := recipes.changes(json.loads(file.read_text()), state):
            raise EngineError(f"{out} was made with something else ({'; '.join(changed)}): take another --output, or delete it")
    else:
        (out / "recipe.yaml").write_text(recipe.path.read_text(encoding="utf-8"), encoding="utf-8")
        temporary = out / ".run.json"
        temporary.write_text(json.dumps(state, indent=1))
        temporary.replace(file)
    return {"version": fingerprint["version"], "recipe": recipes.digest(fingerprint), "models": fingerprint["models"]}


def tally(out: Path, plan: Plan) -> shards.Tally:
    """Count the whole run from its ledgers. Raises `EngineError` when a planned clip is in none of them."""
    total = shards.Tally()
    columns = ["clip", "status", "stage", "reason", "start", "end", "seconds"]
    for unit in shards.units(out / "shards"):
        total.add(shards.ledger(out / "shards", unit, columns))
    if total.planned != plan.clips or not total.accounted:
        raise EngineError(f"{plan.clips} clips were planned, {total.planned} are in the ledgers of {out}")
    return total
