"""A run on Ray: each lane a pool of actors behind a Ray Dataset of units; on the cluster at an address or one started here."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from curation.faults import StageBug, is_infrastructure, one_line
from curation.limits import watchdog
from curation.machine import cpus
from curation.recipe import Recipe
from curation.run.book import LOADS, SharedBook
from curation.run.breaker import Tripped
from curation.run.engine import BrokenError, EngineError, Todo
from curation.run.feed import dataset_of
from curation.run.lanes import Lane, lanes, place
from curation.run.worker import Job, MustLeave, Outcome, Worker
from curation.shards.pack import pack
from curation.store.store import StoreError

POLL = 1.0
"""Seconds between two looks at how far the stages are."""
ROW = pa.schema(
    [("unit", pa.string()), ("data", pa.large_binary()), ("counts", pa.string()), ("error", pa.string()), ("again", pa.bool_())]
)
"""One unit on its way from lane to lane: `worker.Outcome`, `counts` as JSON."""


def connect(address: str | None) -> tuple[float, float, float]:
    """Join the Ray cluster at an address, or start one here. CPUs, GPUs and GB of memory that it has. Raises `EngineError`."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its remarks go to Ray's own log files
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")  # who asked for no GPU sees none
    address = address or os.environ.get("RAY_ADDRESS")
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address:
            _knock(address)
        with _hushed():
            if address:
                ray.init(address=address, **quiet)
            else:
                ray.init("local", num_cpus=cpus(), include_dashboard=False, **quiet)  # whatever else runs on this machine
    except OSError as error:  # ConnectionError is one
        raise EngineError(f"no Ray cluster at {address}: {error}") from error
    there = ray.cluster_resources()
    return there.get("CPU", 0.0), there.get("GPU", 0.0), there.get("memory", 0.0) / 1e9


@contextmanager
def _hushed() -> Iterator[None]:
    """Nothing that Ray's own core writes to standard error, and from then on no remark of it on workers that end: what becomes of
    them is said in this program's words."""
    ray._private.worker.print_to_stdstream = lambda *_, **__: None
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _knock(address: str) -> None:
    """Raise OSError at once when nothing listens at `host:port`: Ray would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if port.isdecimal():
        socket.create_connection((host, int(port)), timeout=5).close()


class Clerk:
    """A worker's way to the book. What must be known when it dies is waited for, what is only counted is not."""

    def __init__(self, book: Any):
        context = ray.get_runtime_context()
        self.book, self.me = book, context.get_actor_id()
        self._steps: Counter[str] = Counter()
        self._told, self._lock = time.monotonic(), threading.Lock()
        if ray.get(book.enter.remote(self.me, uuid.uuid4().hex, context.get_node_id())) >= LOADS:
            raise EngineError(f"a worker died {LOADS} times while it loaded")

    def start(self, unit: str) -> tuple[int, dict[str, tuple[str, str]]]:
        return ray.get(self.book.start.remote(self.me, unit))

    def touch(self, unit: str, key: str) -> None:
        ray.get(self.book.touch.remote(self.me, unit, key))

    def done(self, unit: str) -> None:
        self.book.done.remote(self.me, unit)
        self._tell()

    def step(self, steps: dict[str, int]) -> None:
        with self._lock:
            self._steps.update(steps)
        if time.monotonic() - self._told > POLL:
            self._tell()

    def _tell(self) -> None:
        with self._lock:
            steps, self._steps = dict(self._steps), Counter()
            self._told = time.monotonic()
        self.book.step.remote(steps)

    def trip(self) -> int:
        return ray.get(self.book.trip.remote(self.me))

    def breaks(self, unit: str) -> bool:
        return ray.get(self.book.breaks.remote(unit))

    def stuck(self, stage: str, keys: Sequence[str]) -> None:
        """Work does not end, so this process does: Ray starts another and gives it the unit again."""
        with suppress(RayError):
            ray.get(self.book.stuck.remote(stage, keys), timeout=30)
        os._exit(1)

    def leave(self) -> None:
        ray.get(self.book.leave.remote(self.me))


class Actor:
    """A worker as Ray Data calls it: one row in, one row out."""

    def __init__(self, lane: Lane, job: Job, last: bool, book: Any):
        self.clerk = Clerk(book)
        watchdog.stuck = self.clerk.stuck  # and not a method of this, which would never be let go of
        self.worker = Worker(lane, job, last, self.clerk)

    def __call__(self, batch: pa.Table) -> pa.Table:
        row = batch.to_pylist()[0]
        if row["error"] or row["again"]:
            return batch  # settled in a lane before
        try:
            outcome = self.worker.run(row["unit"], row["data"])
        except MustLeave:
            self.clerk.leave()
            os._exit(1)  # Ray starts another and gives it the unit again
        counts = json.dumps(outcome.counts) if outcome.counts else None
        values = [outcome.unit, outcome.data, counts, outcome.error, outcome.again]
        return pa.table([pa.array([v], field.type) for v, field in zip(values, ROW, strict=True)], schema=ROW)

    def __del__(self) -> None:
        """Ray Data drops the worker before it ends its process."""
        if hasattr(self, "worker"):
            self.worker.close()


def first_line(error: BaseException) -> str:
    """What an error says; below that Ray tells of its own."""
    return str(error).partition("\n")[0]


class OnRay:
    """The executor on Ray."""

    def __init__(self, recipe: Recipe, job: Job, step: Callable[[dict[str, int]], None], address: str | None):
        self.job = job
        self.lanes = lanes(recipe.steps())
        try:
            self.pools = place(self.lanes, *connect(address))
        except BaseException:
            ray.shutdown()
            raise
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self.book = ray.remote(num_cpus=0, scheduling_strategy=here)(SharedBook).remote()
        self._pack = ray.remote(num_cpus=0, max_retries=0)(pack)
        self._packs: dict[Any, int] = {}
        self._step, self._ended = step, threading.Event()
        self._watch = threading.Thread(target=self._count, daemon=True)
        self._watch.start()

    @property
    def workers(self) -> int:
        return sum(pool.most for pool in self.pools)

    def outcomes(self, todo: Todo, settle: bool) -> Iterator[Outcome]:
        try:
            for row in self._dataset(todo, replace(self.job, settle=settle)).iter_rows():
                counts = json.loads(row["counts"]) if row["counts"] else None
                yield Outcome(row["unit"], None, counts, row["error"] or "", bool(row["again"]))
        except Exception as error:
            raise self._one_line(error) from error

    def _dataset(self, todo: Todo, job: Job) -> Any:
        dataset = dataset_of(todo.loads, len(todo), ROW)
        for i, (lane, pool) in enumerate(zip(self.lanes, self.pools, strict=True)):
            at_once: dict[str, Any] = {}
            if lane.units > 1:
                at_once = {"max_concurrent_calls_per_actor": lane.units, "enable_true_multi_threading": True}
            elif not lane.gpus:  # a unit that waits at a busy worker could be with an idle one: Ray never moves it
                at_once = {"max_tasks_in_flight_per_actor": 1}
            dataset = dataset.map_batches(
                type(lane.name, (Actor,), {}),  # Ray shows the class's name
                fn_constructor_kwargs={"lane": lane, "job": job, "last": i == len(self.lanes) - 1, "book": self.book},
                batch_size=1,
                batch_format="pyarrow",
                compute=ActorPoolStrategy(min_size=pool.least, max_size=pool.most, **at_once),
                num_cpus=pool.cpus,
                num_gpus=pool.gpus or None,
                memory=pool.memory,
            )
        return dataset

    def _one_line(self, error: Exception) -> Exception:
        """What ended the dataset, as an error that the command can show."""
        cause: BaseException | None = getattr(error, "cause", None) or error  # Ray's own is of the cause's class too
        while cause is not None:
            if isinstance(cause, (StageBug, StoreError)):
                return type(cause)(first_line(cause))
            if isinstance(cause, Tripped):
                return BrokenError(f"a worker and its successor are broken: {first_line(cause)}")
            cause = getattr(cause, "cause", None) or cause.__cause__
        own = getattr(error, "cause", None)
        lines = str(own or error).strip().splitlines() or [type(error).__name__]
        return EngineError(f"a worker could not go on: {lines[0] if own else lines[-1]}")

    def pack(self, group: int, number: int, units: list[int], last: bool) -> None:
        self._packs[self._pack.remote(self.job.storage, group, number, units, last, self.job.sidecar)] = group

    def packed(self, *, wait: bool) -> list[tuple[int, str]]:
        ended: list[tuple[int, str]] = []
        ready, _ = ray.wait(list(self._packs), num_returns=1 if wait else len(self._packs), timeout=None if wait else 0)
        for reference in ready if self._packs else ():
            group = self._packs.pop(reference)
            try:
                ray.get(reference)
                ended.append((group, ""))
            except RayError as error:
                cause = getattr(error, "cause", None) or error
                if not is_infrastructure(cause) and not isinstance(error, ray.exceptions.WorkerCrashedError):
                    raise cause from None
                ended.append((group, one_line(cause)))
        return ended

    def _count(self) -> None:
        """Tell of the steps that workers report, until the run ends."""
        known: Counter[str] = Counter()
        while not self._ended.wait(POLL):
            try:
                now = Counter(ray.get(self.book.progress.remote(), timeout=10))
            except RayError:
                continue
            if more := now - known:
                self._step(dict(more))
            known = now

    def close(self) -> None:
        """Leave; a cluster that was there before is left running."""
        self._ended.set()
        self._watch.join(POLL)
        ray.shutdown()
