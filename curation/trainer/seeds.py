"""Random numbers that depend on nothing but what they are for: no global state, no time, no order of calls."""

from __future__ import annotations

import hashlib

import torch


def seed(*parts: int | str) -> int:
    """63 bits of the sha256 of `parts`, which say what is drawn: the run's seed, the epoch, a sample's key, a purpose."""
    return int.from_bytes(hashlib.sha256("\0".join(map(str, parts)).encode()).digest()[:8], "big") >> 1


def generator(*parts: int | str) -> torch.Generator:
    """A generator on the CPU, seeded with `seed(*parts)`."""
    return torch.Generator().manual_seed(seed(*parts))


def uniforms(count: int, source: torch.Generator) -> list[float]:
    """`count` numbers in [0, 1), all drawn at once, so that how many of them are used does not shift what follows."""
    return torch.rand(count, dtype=torch.float64, generator=source).tolist()
