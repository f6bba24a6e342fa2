"""Sounds that say what time it is, so that what is heard of a clip can be checked against the truth."""

from __future__ import annotations

import io

import av
import numpy as np

SLOT, LOWEST, STEP, ROUND = 0.1, 400, 100, 40
"""A sound that says what time it is: in each slot of so many seconds a tone that is higher by so many Hz,
for a round of slots."""


def clock(seconds: float, rate: int = 44_100) -> np.ndarray:
    """float32 [2, samples]; to the right a fifth of the volume."""
    time = np.arange(round(seconds * rate)) / rate
    tone = np.sin(2 * np.pi * (LOWEST + STEP * (time // SLOT % ROUND)) * time).astype(np.float32)
    return np.stack([0.5 * tone, 0.1 * tone])


def heard(mp4: bytes) -> np.ndarray:
    """float32 [channels, samples] of an mp4, on the clock of its pictures; silence before it begins."""
    with av.open(io.BytesIO(mp4)) as file:
        frames = list(file.decode(audio=0))
    samples = np.concatenate([frame.to_ndarray() for frame in frames], 1)
    first = round(frames[0].pts * frames[0].time_base * frames[0].sample_rate)
    return np.pad(samples, ((0, 0), (first, 0))) if first > 0 else samples[:, -first:]


def slots(mp4: bytes) -> list[int | None]:
    """Which slot of the clock is heard in each tenth of a second; None for silence."""
    samples = heard(mp4)[0]
    size = round(SLOT * 48_000)
    found: list[int | None] = []
    for at in range(0, len(samples) - size // 2, size):
        part = samples[at : at + size][size // 8 : -size // 8]
        if np.abs(part).mean() < 0.01:
            found.append(None)
            continue
        peak = np.abs(np.fft.rfft(part * np.hanning(len(part)), 48_000)).argmax()
        found.append(round((peak - LOWEST) / STEP))
    return found
