"""One plan for all processes: step → bucket → clips, from the seed and the step alone.

A step has one shape. Its bucket is drawn ∝ weight; its clips are the next of the bucket's list: all clips that the bucket takes,
shuffled anew each time the list is through, so that every batch is full and what is left over begins the next round. Any process
can say what any step holds without having seen those before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from curation.buckets import Bucket
from curation.trainer.clips import Clips
from curation.trainer.errors import TrainerError
from curation.trainer.seeds import seed

BLOCK = 1000
"""Clips among which several runs have exactly their shares."""
ROUNDS = 6
"""Of the Feistel network that shuffles: a permutation of which any element is known without the others."""


@dataclass(frozen=True)
class Range:
    """The clips of one run that a bucket takes, in the order of rows."""

    firsts: np.ndarray
    ends: np.ndarray
    """int64: first row of each range, and how many clips there are up to its end."""
    salt: int

    @property
    def size(self) -> int:
        return int(self.ends[-1])

    def rows(self, places: np.ndarray) -> np.ndarray:
        """Rows of the n-th clips drawn, n counted from 0 over all rounds."""
        rounds, within = np.divmod(places.astype(np.uint64), np.uint64(self.size))
        found = permuted(within, self.size, mixed(rounds + np.uint64(self.salt))).astype(np.int64)
        which = np.searchsorted(self.ends, found, side="right")
        return self.firsts[which] + found - np.r_[0, self.ends][which]


class Plan:
    """What every step of a training run holds."""

    def __init__(self, clips: Clips, buckets: Sequence[Bucket], number: int):
        """`number`: the run's seed. Raises `TrainerError` when no bucket has clips."""
        self.clips, self.number = clips, number
        self.lists: dict[Bucket, list[Range]] = {}
        self.mixes: dict[Bucket, np.ndarray] = {}
        for place, bucket in enumerate(buckets):
            named = [(run, clips.fitting(run, place)) for run in range(len(clips.runs))]
            if there := [(run, ranges) for run, ranges in named if ranges]:
                self.lists[bucket] = [_range(ranges, seed(number, bucket.name, run)) for run, ranges in there]
                weights = np.array([clips.runs[run].weight for run, _ in there])
                self.mixes[bucket] = _apportioned(weights, seed(number, bucket.name, "mix"))
        self.buckets = list(self.lists)
        """Those that have clips."""
        self.empty = [bucket for bucket in buckets if bucket not in self.lists]
        if not self.buckets:
            why = ", ".join(f"{count} {reason}" for reason, count in clips.passed_over.most_common()) or "there are none"
            raise TrainerError(f"data: no clip suits any bucket ({why}): take shorter or smaller buckets, or `upscale`")
        self._drawn = self._nth = np.zeros(0, np.int64)

    def bucket(self, step: int) -> Bucket:
        """The shape of a step, from 0."""
        self._draw(step)
        return self.buckets[self._drawn[step]]

    def rows(self, step: int, slots: Sequence[int] | None = None, attempt: int = 0) -> np.ndarray:
        """The clips of a step, rows of `clips`: those in `slots`, or all in slot order, as many as its bucket's batch.

        `attempt`: after so many that could not be read, those that take their place: of the same slots so many batches on.
        """
        bucket = self.bucket(step)
        chosen = np.arange(bucket.batch) if slots is None else np.array(slots, np.int64)
        return self._at(bucket, (self._nth[step] + attempt) * bucket.batch + chosen)

    def count(self, bucket: Bucket) -> int:
        """Clips that a bucket takes."""
        return sum(one.size for one in self.lists[bucket])

    def share(self, bucket: Bucket) -> float:
        """Of the steps, 0 to 1."""
        return bucket.weight / sum(b.weight for b in self.buckets)

    def described(self, steps: int) -> str:
        """One line: clips, and how often the whole training passes over each bucket's."""
        passes = [
            f"{b.name} {self.count(b):,} clips × {steps * self.share(b) * b.batch / self.count(b):.2g}" for b in self.buckets
        ]
        missing = f"; no clip fills {', '.join(b.name for b in self.empty)}" if self.empty else ""
        over = "".join(f", {count:,} {reason}" for reason, count in self.clips.passed_over.most_common())
        return f"{len(self.clips):,} clips{over}; passes: {', '.join(passes)}{missing}"

    def _at(self, bucket: Bucket, places: np.ndarray) -> np.ndarray:
        """Rows of the n-th clips of a bucket, over all its runs."""
        mix, ranges = self.mixes[bucket], self.lists[bucket]
        blocks, within = np.divmod(places, BLOCK)
        run, nth, each = mix["run"][within], mix["nth"][within], mix["each"][within]
        found = np.empty(len(places), np.int64)
        for number, one in enumerate(ranges):
            mine = run == number
            found[mine] = one.rows(blocks[mine] * each[mine] + nth[mine])
        return found

    def _draw(self, step: int) -> None:
        """Draw the buckets of all steps up to this one; those drawn before stay."""
        if step < len(self._drawn):
            return
        count = max(1024, 2 * (step + 1))
        numbers = np.random.Generator(np.random.PCG64(seed(self.number, "buckets"))).random(count)
        weights = np.cumsum([bucket.weight for bucket in self.buckets])
        self._drawn = np.minimum(np.searchsorted(weights / weights[-1], numbers, side="right"), len(weights) - 1)
        self._nth = np.empty(count, np.int64)
        for number in range(len(self.buckets)):
            mine = self._drawn == number
            self._nth[mine] = np.arange(mine.sum())


def _range(ranges: Sequence[tuple[int, int]], salt: int) -> Range:
    firsts, lasts = np.array(ranges, np.int64).T
    return Range(firsts, np.cumsum(lasts - firsts), salt & (2**62 - 1))


def _apportioned(weights: np.ndarray, number: int) -> np.ndarray:
    """Of each of a block's places: whose clip it takes, the how many-th of the block's, and how many the block takes of that run.

    By largest remainders, at least one of each run, in an order that the seed draws."""
    exact = weights / weights.sum() * BLOCK
    counts = np.maximum(1, np.floor(exact)).astype(np.int64)
    while counts.sum() != BLOCK:
        counts[np.argmax(exact - counts) if counts.sum() < BLOCK else np.argmax(counts)] += 1 if counts.sum() < BLOCK else -1
    run = np.repeat(np.arange(len(counts)), counts)
    np.random.Generator(np.random.PCG64(number)).shuffle(run)
    block = np.zeros(BLOCK, [("run", np.int64), ("nth", np.int64), ("each", np.int64)])
    block["run"], block["each"] = run, counts[run]
    for one in range(len(counts)):
        block["nth"][run == one] = np.arange(counts[one])
    return block


def mixed(x: np.ndarray) -> np.ndarray:
    """Splitmix64's finaliser over uint64."""
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def permuted(places: np.ndarray, size: int, salts: np.ndarray) -> np.ndarray:
    """Where `places` in 0 … size − 1 go, uint64, one permutation per salt: a Feistel network over the next even power of two,
    walked until it comes back into the range."""
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    low = (np.uint64(1) << half) - np.uint64(1)
    found, todo = places.astype(np.uint64), np.arange(len(places))
    while len(todo):
        left, right = found[todo] >> half, found[todo] & low
        with np.errstate(over="ignore"):
            for turn in range(ROUNDS):
                key = salts[todo] + np.uint64(turn) * np.uint64(0x9E3779B97F4A7C15)
                left, right = right, left ^ (mixed(mixed(key) + right) & low)
        found[todo] = left << half | right
        todo = todo[found[todo] >= size]
    return found
