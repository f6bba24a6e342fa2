"""The caption stages of a plan, over batches of clips: on the processes of this machine, or on a Ray cluster."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache, partial
from itertools import chain, islice
from typing import Any, TypeVar

from curation.faults import Infrastructure, is_infrastructure, one_line
from curation.machine import cpus
from curation.recipe import Step
from curation.run.lanes import Lane, place
from curation.sample import Sample
from curation.stage import Stage, apply

B = TypeVar("B")
R = TypeVar("R")
BATCH = 2048
"""Clips a caption stage gets at once; also what one planning process works on."""


PAUSES = (1.0, 5.0, 15.0, 40.0)
"""Seconds before clips are tried again when our side broke under them."""
RESTARTS = 3
"""Times that an actor is started again, and its batch tried again, after its node has gone."""


def named(samples: Iterator[Sample], stages: list[Stage], workers: int | None, address: str | None = None) -> Iterator[Sample]:
    """The stages over batches, in order: in this process when there is little; else on the Ray cluster at `address`, or on as
    many processes as this one may use cores, or as the recipe's `workers`.

    What takes a GPU, or waits for an engine that serves many, has one process of its own (unless `workers` says more): there is
    one engine on the machine, and what it held is free when the plan is made. What a stage found before is not asked again.
    Raises `Infrastructure` when our side broke and pauses did not help: no clip is blamed for it.
    """
    if not stages:
        yield from samples
        return
    batches = iter(lambda: list(islice(samples, BATCH)), [])
    apart = any(stage.share or stage.units() > 1 for stage in stages)
    workers = min((stage.workers for stage in stages if stage.workers), default=workers or (1 if apart else cpus()))
    first = list(islice(batches, 2))
    if (len(first) < 2 or (workers == 1 and not address)) and not apart:
        try:
            for stage in stages:
                stage.load()
            for batch in (*first, *batches):
                yield from _batch(stages, batch)
        finally:
            for stage in stages:
                stage.close()
        return
    everything = chain(first, batches)
    if address:
        yield from _on_cluster(everything, stages, address)
        return
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_start, initargs=(stages,))
    try:
        yield from in_order(everything, 2 * workers, lambda batch: pool.submit(_work, batch), Future.result)
    except BrokenProcessPool as error:
        raise Infrastructure("a process of the caption stages has died, of memory or of a signal") from error
    finally:
        pool.shutdown(cancel_futures=True)


def in_order(batches: Iterable[B], most: int, submit: Callable[[B], Any], result: Callable[[Any], list[R]]) -> Iterator[R]:
    """Results in the order of the batches, of which at most so many are under way."""
    window: deque[Any] = deque()
    for batch in batches:
        window.append(submit(batch))
        if len(window) >= most:
            yield from result(window.popleft())
    while window:
        yield from result(window.popleft())


def _on_cluster(batches: Iterator[list[Sample]], stages: list[Stage], address: str) -> Iterator[Sample]:
    """On actors, as many as the cluster has room for and there are batches; each runs all the stages."""
    import ray
    from ray.exceptions import RayError, RayTaskError

    from curation.run.cluster import connect  # what needs Ray is imported with a cluster alone

    there = connect(address)
    try:
        lane = Lane(
            [Step(stage) for stage in stages],
            gpus=sum(s.share for s in stages),
            workers=min((s.workers for s in stages if s.workers), default=None),
            units=max(s.units() for s in stages),
        )
        pool = place([lane], *there)[0]
        options = {"num_cpus": pool.cpus, "num_gpus": pool.gpus, "memory": pool.memory}
        actor = ray.remote(**options, max_restarts=RESTARTS, max_task_retries=RESTARTS)(_Namer)
        actors: deque[Any] = deque()

        def submit(batch: list[Sample]) -> Any:
            actors.append(actor.remote(stages) if len(actors) < pool.most else actors.popleft())
            return actors[-1].work.remote(batch)

        yield from in_order(batches, 2 * pool.most, submit, ray.get)
    except RayTaskError as error:
        raise error.cause from None
    except RayError as error:
        raise Infrastructure(f"a worker of the caption stages has gone: {one_line(error)}") from error
    finally:
        ray.shutdown()


class _Namer:
    """An actor with the caption stages, loaded with its first batch: so that the driver hears what is wrong."""

    def __init__(self, stages: list[Stage]):
        self.stages, self.is_loaded = stages, False

    def work(self, samples: list[Sample]) -> list[Sample]:
        if not self.is_loaded:
            for stage in self.stages:
                stage.load()
            self.is_loaded = True
        return _batch(self.stages, samples)


_stages: list[Stage] = []
"""The caption stages of a planning process, loaded once."""


def _start(stages: list[Stage]) -> None:
    """Begin a planning process. It ends with its driver, however that ends: an engine it holds is left to nobody."""
    threading.Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()
    _stages[:] = stages


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


@cache
def _loaded() -> list[Stage]:
    """With the first batch and not before it: so that the driver hears what is wrong, not that a process has ended."""
    for stage in _stages:
        stage.load()
    return _stages


def _work(samples: list[Sample]) -> list[Sample]:
    return _batch(_loaded(), samples)


def _batch(stages: list[Stage], samples: list[Sample]) -> list[Sample]:
    """One stage after the other. What it has found of a clip before it is not asked again."""
    for stage in stages:
        known = [stage.name in sample.meta for sample in samples]
        if not any(known):
            samples = _through(stage, samples)
            continue
        fresh = iter(_through(stage, [s for s, is_known in zip(samples, known, strict=True) if not is_known]))
        samples = [s if is_known else next(fresh) for s, is_known in zip(samples, known, strict=True)]
    return samples


def _through(stage: Stage, samples: list[Sample]) -> list[Sample]:
    """A stage that takes several units at once gets the clips in so many parts."""
    if (threads := stage.units()) == 1 or not samples:
        return _patiently(stage, samples)
    size = -(-len(samples) // threads)
    with ThreadPoolExecutor(threads) as pool:
        parts = pool.map(partial(_patiently, stage), (samples[i : i + size] for i in range(0, len(samples), size)))
        return list(chain.from_iterable(parts))


def _patiently(stage: Stage, samples: list[Sample]) -> list[Sample]:
    """Apply a stage, as many clips at a time as it takes; again after a pause when our side breaks under them."""
    done: list[Sample] = []
    size = max(1, stage.resources.batch)
    for some in (samples[i : i + size] for i in range(0, len(samples), size)):
        data = pickle.dumps(some, protocol=5)
        for pause in (*PAUSES, None):
            try:
                done += apply(stage, some)
                break
            except Exception as error:
                if not is_infrastructure(error):
                    raise
                if pause is None:
                    raise Infrastructure(f"{stage.name}: {one_line(error)}") from error
                time.sleep(pause)
                some = pickle.loads(data)  # as they came; our own bytes, a moment old
    return done
