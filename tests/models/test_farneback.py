from __future__ import annotations

import cv2
import numpy as np
import pytest

from curation.models.farneback import farneback
from tests.models.frames import at


def scene(height: int, width: int, shift: tuple[int, int] = (0, 0)) -> np.ndarray:
    """A man in a car who moves with it by so many pixels (x, y)."""
    (man,) = at("carphone_pristine.mp4", [0])
    man = cv2.resize(man, (width + 80, height + 80), interpolation=cv2.INTER_CUBIC)
    top, left = 40 - shift[1], 40 - shift[0]
    return np.ascontiguousarray(man[top : top + height, left : left + width])


def fastest(flow: np.ndarray) -> float:
    """What Dync-D looks at: the mean length of the fastest twentieth, px."""
    lengths = np.sort(np.linalg.norm(flow, axis=2).ravel())
    return float(lengths[-(lengths.size // 20) :].mean())


@pytest.mark.parametrize("shift", [(3, 0), (0, -7), (12, 5)])
def test_a_known_motion_is_measured_in_pixels_of_the_frame(shift: tuple[int, int]) -> None:
    flow = farneback(scene(200, 300), scene(200, 300, shift))
    assert flow.shape == (200, 300, 2)
    assert fastest(flow) == pytest.approx(np.hypot(*shift), rel=0.1)
    moving = np.linalg.norm(flow, axis=2) > np.hypot(*shift) / 2
    assert np.median(flow[moving], 0) == pytest.approx(shift, abs=0.3)


def test_large_frames_are_shrunk_and_their_motion_is_not() -> None:
    flow = farneback(scene(512, 600), scene(512, 600, (16, 4)))
    assert flow.shape == (256, 300, 2)
    assert fastest(flow) == pytest.approx(np.hypot(16, 4), rel=0.1)


def test_what_stands_still_does_not_move() -> None:
    assert fastest(farneback(scene(200, 300), scene(200, 300))) < 0.3
