from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from curation.benchmark.metrics import Video
from curation.benchmark.metrics.dync_d import DyncD, moves, strength, stride
from tests.benchmark.metrics.cases import case


def test_frames_are_an_eighth_of_a_second_apart_halves_to_the_even_number() -> None:
    assert [stride(fps) for fps in (2, 8, 11.9, 12, 20, 23.976, 24, 28, 30)] == [1, 1, 1, 2, 2, 3, 3, 4, 4]


def test_the_fastest_twentieth_of_pixels_decides() -> None:
    flow = np.zeros((10, 20, 2), np.float32)
    flow[0, :10] = (3, 4)
    assert strength(flow) == pytest.approx(5)
    flow[0, 0] = 0
    assert strength(flow) == pytest.approx(4.5)
    assert strength(np.full((2, 3, 2), 1.0)) == pytest.approx(2**0.5)


def test_a_quarter_of_the_frames_must_move_halves_to_the_even_number() -> None:
    def needed(frames: int) -> int:
        pairs = frames - 1
        return next(n for n in range(pairs + 2) if moves([9.0] * n + [0.0] * (pairs - n), frames, 256))

    assert [needed(frames) for frames in (2, 3, 4, 6, 8, 10, 14, 16)] == [0, 1, 1, 2, 2, 2, 4, 4]
    assert not moves([], 1, 256)


def test_the_threshold_is_six_pixels_of_a_short_side_of_256() -> None:
    assert not moves([6.0] * 3, 4, 256) and moves([6.01] * 3, 4, 256)
    assert not moves([3.0] * 3, 4, 128) and moves([3.01] * 3, 4, 128)


def test_a_video_is_looked_at_in_its_own_rate_and_side(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def flow(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        seen.append((int(a[0, 0, 0]), int(b[0, 0, 0])))
        return np.full((136, 264, 2), 3.0)  # 4.24 px, between the thresholds of sides of 128 and 256

    metric, clip = DyncD(flow, column="mine"), case(tmp_path)
    frames = np.zeros((8, 128, 256, 3), np.uint8) + np.arange(8, dtype=np.uint8)[:, None, None, None]
    assert metric.score(Video(frames, 24.0), clip, {}) == {"mine": 1.0}
    assert seen == [(0, 3), (3, 6)]
    assert metric.score(Video(frames[:2], 24.0), clip, {}) == {"mine": "one_frame"}
    assert DyncD(flow, share=9 / 256).score(Video(frames, 24.0), clip, {}) == {"dync_d": 0.0}
