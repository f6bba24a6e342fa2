"""Keys of clips, told apart while they stream by."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np

from curation.inputs.rows import STAGE as INPUTS
from curation.sample import FAILED, REJECTED, Sample, Verdict

BATCH = 2048
"""Keys that are looked up together."""


class Keys:
    """The keys that came by: one that was there before gets a new name, and is rejected as `duplicate_key` unless it failed."""

    def __init__(self) -> None:
        self.seen = _Seen()

    def know(self, keys: list[str]) -> None:
        """Those of a finished part, with the names that were given in it."""
        self.seen.add(keys)

    def unique(self, samples: Iterable[Sample], position: int) -> Iterator[Sample]:
        """`position`: of the first sample in the input. New names depend on it, and not on where planning began."""
        samples = iter(samples)
        while batch := list(islice(samples, BATCH - position % BATCH)):
            seen = self.seen.add([s.key for s in batch])
            doubles = [pair for pair, double in zip(enumerate(batch, start=position), seen, strict=True) if double]
            while doubles:
                self._rename(doubles)
                seen = self.seen.add([sample.key for _, sample in doubles])
                doubles = [pair for pair, double in zip(doubles, seen, strict=True) if double]
            position += len(batch)
            yield from batch

    def _rename(self, doubles: list[tuple[int, Sample]]) -> None:
        for position, sample in doubles:
            sample.key = sample.meta["source"]["clip"] = f"{sample.key}_duplicate{position}"
            if sample.verdict.status != FAILED:
                sample.verdict = Verdict(REJECTED, INPUTS, "duplicate_key")


class _Seen:
    """The keys that came by, as 64-bit hashes in sorted runs of doubling length: eight bytes a key (70 million: 560 MB)."""

    def __init__(self) -> None:
        self.runs: list[np.ndarray] = []

    def add(self, keys: list[str]) -> list[bool]:
        """Whether each key was there before it."""
        digests = b"".join(hashlib.blake2b(key.encode(), digest_size=8).digest() for key in keys)
        hashes = np.frombuffer(digests, np.uint64)
        run, first = np.unique(hashes, return_index=True)
        double = np.ones(len(keys), bool)
        double[first] = False
        for old in self.runs:
            place = np.searchsorted(old, hashes).clip(max=len(old) - 1)
            double |= old[place] == hashes
        while self.runs and len(self.runs[-1]) <= len(run):
            run = np.union1d(self.runs.pop(), run)
        self.runs.append(run)
        return double.tolist()
