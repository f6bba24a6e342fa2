"""The loader: shards in, batches for training out, in an order that the seed alone decides and that can be taken up anywhere."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from curation.buckets import Bucket, check
from curation.fingerprint import changes
from curation.trainer import reading
from curation.trainer.batch import Batch, Ended, Position, Reference
from curation.trainer.errors import TrainerError
from curation.trainer.references import References
from curation.trainer.stream import Data, Item, Stream

__all__ = ["Batch", "Bucket", "Data", "Loader", "Position", "Reference"]

PATIENCE = 10
"""Epochs without a single batch after which the data are said not to suit the buckets."""


class Loader:
    """Iterates over the `Batch`es of one process.

    Shards are split by process, then by worker. An epoch of all of them together gives every sample once, those that no bucket
    takes or that do not decode being counted in `skipped`. Epochs follow each other without end, or stop after `epochs` (then
    processes may have different numbers of batches); at the end of its part a worker gives out incomplete batches.
    A process draws its buckets on its own, so in one step others may be at another shape: batch sizes level the work.
    """

    def __init__(
        self,
        shards: reading.Sources,
        data: Data,
        references: References | None = None,
        *,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        epochs: int | None = None,
        pin: bool = False,
    ):
        """`shards`: see `reading.urls`. `seed`: of all that is drawn. `rank`: this process, of `world`. `pin`: give batches in
        page-locked memory. Raises `TrainerError`."""
        try:
            check(data.table(), world)
        except ValueError as error:
            raise TrainerError(str(error)) from error
        self.shards = reading.urls(shards)
        self.buckets = [dataclasses.replace(b, batch=b.batch // world) for b in data.table()]
        self.data, self.references = data, references or References()
        self.seed, self.rank, self.world, self.epochs, self.pin = seed, rank, world, epochs, pin
        self.skipped: Counter[str] = Counter()
        """Clips passed over so far, by reason: too_short, too_small, too_much_cropped, no_metadata, undecodable."""
        self._done = [(0, 0)] * max(1, data.workers)
        self._turn = 0

    def __iter__(self) -> Iterator[Batch]:
        """Goes on after the last batch that was given out."""
        idle: Counter[int] | None = Counter()
        for item in self._items():
            if isinstance(item, TrainerError):
                raise item
            self._pass(item)
            if isinstance(item, Batch):
                idle = None
                yield item
            elif idle is not None:
                idle[item.position.worker] += 1
                self._check_use(idle)

    def _items(self) -> Iterator[Item]:
        at = (self.seed, self.rank, self.world, self._done, self._turn, self.epochs)
        stream = Stream(self.shards, self.buckets, self.data, self.references, *at)
        workers = self.data.workers
        yield from DataLoader(
            stream,
            batch_size=None,
            num_workers=workers,
            prefetch_factor=self.data.prefetch if workers else None,
            pin_memory=self.pin,
            generator=torch.Generator(),  # else it draws from the global one
        )

    def _pass(self, item: Batch | Ended) -> None:
        """Note where the item's worker stands after it, and whose turn it is: DataLoader asks its workers in turn."""
        at = item.position
        self._done[at.worker] = (at.epoch + 1, 0) if isinstance(item, Ended) else (at.epoch, at.index + 1)
        self._turn = (at.worker + 1) % len(self._done)
        self.skipped.update(item.skipped)

    def _check_use(self, idle: Counter[int]) -> None:
        if len(idle) == len(self._done) and min(idle.values()) >= PATIENCE:
            why = ", ".join(f"{count} {reason}" for reason, count in self.skipped.most_common()) or "the shards hold no samples"
            hint = "take shorter or smaller buckets, or `upscale`"
            raise TrainerError(f"data: no clip suits any bucket in {PATIENCE} epochs ({why}): {hint}")

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands after the batch it gave last, as plain JSON values: a few numbers per worker."""
        return {"of": self._identity(), "done": [list(d) for d in self._done], "turn": self._turn, "skipped": dict(self.skipped)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there: the batches that follow are the same as they would have been. Raises `TrainerError` when the state is
        of a loader that would give others."""
        changed = changes(state["of"], self._identity())
        if changed:
            raise TrainerError(f"cannot go on in the data where the checkpoint stood: {'; '.join(changed)}")
        self._done = [(epoch, index) for epoch, index in state["done"]]
        self._turn, self.skipped = state["turn"], Counter(state["skipped"])

    def _identity(self) -> dict[str, Any]:
        """All that decides the order and content of batches, as plain values. Where the shards lie does not."""
        names = "\n".join(url.rpartition("/")[2] for url in self.shards)
        knobs = dataclasses.asdict(self.data)
        del knobs["buckets"], knobs["workers"], knobs["prefetch"]
        return {
            "seed": self.seed,
            "rank": self.rank,
            "world": self.world,
            "workers": len(self._done),
            "shards": f"{len(self.shards)} ({hashlib.sha256(names.encode()).hexdigest()[:8]})",
            "data": knobs,
            "references": dataclasses.asdict(self.references),
            "buckets": {b.name: {"batch": b.batch * self.world, "weight": b.weight} for b in self.buckets},
        }
