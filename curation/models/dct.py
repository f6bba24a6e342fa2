"""Orthonormal cosine transforms and how large their coefficients are in real clips: no weights, nothing to download."""

from __future__ import annotations

import math

import torch
from torch import Tensor

AMPLITUDE = (
    (14.398, 2.408, 1.330, 0.915),
    (2.677, 0.376, 0.187, 0.132),
    (1.658, 0.197, 0.119, 0.091),
)
DECAY = (2.159, 1.610, 1.454, 1.411)
"""Root mean square of the coefficient (c, t, y, x) of 4 frames × 8 × 8 pixels in [−1, 1]: AMPLITUDE[c][t] · (1+x+y)^−DECAY[t].

Fitted by `benchmarks/codec.py --fit` to the 128 largest of the 768, mean of their logarithms over 64×64, 128×128, 256×144 and
512×288, on 63 real clips (the Panda-70M extract and the sample videos); 14 % off (rms) there. Smaller frames hold finer detail:
between those sizes one coefficient differs by a factor of 1.5."""


def matrix(size: int) -> Tensor:
    """The DCT-II as an orthonormal matrix, frequency × position, float64. On (R, G, B): grey, R − B, and green against both."""
    frequency, position = torch.arange(size, dtype=torch.float64)[:, None], torch.arange(size, dtype=torch.float64)
    waves = torch.cos(math.pi * (2 * position + 1) * frequency / (2 * size)) * math.sqrt(2 / size)
    waves[0] /= math.sqrt(2)
    return waves


def basis(frames: int) -> Tensor:
    """All of 3 colours × `frames` × 8 × 8 pixels: orthonormal rows, one per coefficient in the order (c, t, y, x), float64."""
    found = torch.ones(1, 1, dtype=torch.float64)
    for size in (3, frames, 8, 8):
        found = torch.kron(found, matrix(size))
    return found


def spread(frames: int) -> list[float]:
    """The expected root mean square of every coefficient of `basis(frames)`, `frames` 4 or 1, for pixels in [−1, 1]."""
    still = math.sqrt(4 / frames)  # one frame is worth four that do not move, over the square root of their number
    return [
        AMPLITUDE[c][t] / still * (1 + x + y) ** -DECAY[t]
        for c in range(3)
        for t in range(frames)
        for y in range(8)
        for x in range(8)
    ]
