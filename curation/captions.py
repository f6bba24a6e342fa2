"""The caption stages of a plan, over batches of clips, on the processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import cache, partial
from itertools import chain, islice
from typing import Any

from curation.sample import Sample
from curation.stage import Stage, apply

BATCH = 2048
"""Clips a caption stage gets at once; also what one planning process works on."""


def named(samples: Iterator[Sample], stages: list[Stage], workers: int | None) -> Iterator[Sample]:
    """The stages over batches, in order, on as many processes as the machine has cores, or as the recipe's `workers`; in this one
    when there is little. What takes a GPU, or waits for an engine that serves many, has one process of its own (unless `workers`
    says more): there is one engine on the machine, and what it held is free when the plan is made."""
    if not stages:
        yield from samples
        return
    batches = iter(lambda: list(islice(samples, BATCH)), [])
    apart = any(stage.gpus or stage.units() > 1 for stage in stages)
    workers = min((stage.workers for stage in stages if stage.workers), default=workers or (1 if apart else os.cpu_count()) or 1)
    first = list(islice(batches, 2))
    if (len(first) < 2 or workers == 1) and not apart:
        try:
            for stage in stages:
                stage.load()
            for batch in (*first, *batches):
                yield from _batch(stages, batch)
        finally:
            for stage in stages:
                stage.close()
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_start, initargs=(stages,))
    try:
        window: deque[Any] = deque(pool.submit(_work, batch) for batch in first)
        while window:
            while len(window) < 2 * workers and (batch := next(batches, [])):
                window.append(pool.submit(_work, batch))
            yield from window.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


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
    """One stage after the other; a stage that takes several units at once gets the batch in so many parts."""
    for stage in stages:
        if (threads := stage.units()) == 1:
            samples = apply(stage, samples)
            continue
        size = -(-len(samples) // threads)
        with ThreadPoolExecutor(threads) as pool:
            parts = pool.map(partial(apply, stage), (samples[i : i + size] for i in range(0, len(samples), size)))
        samples = list(chain.from_iterable(parts))
    return samples
