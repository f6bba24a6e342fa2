from __future__ import annotations

import cv2
import numpy as np
import pytest

from curation.models import cutout


def box(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros((120, 160), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def disc() -> np.ndarray:
    return cv2.circle(np.zeros((120, 160), np.uint8), (80, 60), 40, 1, -1).astype(bool)


@pytest.mark.parametrize(
    "mask, expected",
    [
        pytest.param(disc(), 0.01, id="what is round hardly touches its box"),
        pytest.param(disc() & box(0, 0, 100, 120), 0.27, id="cut off by an upright line"),
        pytest.param(disc() & box(0, 40, 160, 120), 0.25, id="cut off by a level line"),
        pytest.param(box(0, 0, 100, 120), 0.27, id="three sides are the frame's"),
        pytest.param(box(0, 0, 160, 120), 0.0, id="all sides are the frame's"),
        pytest.param(box(0, 0, 0, 0), 0.0, id="nothing"),
    ],
)
def test_a_straight_line_that_is_not_the_frames_clips(mask: np.ndarray, expected: float) -> None:
    assert cutout.clipped(mask) == pytest.approx(expected, abs=0.03)


def test_a_silhouette_is_dark_and_a_black_cat_is_not_if_a_tenth_of_it_shines() -> None:
    image = np.full((120, 160, 3), 220, np.uint8)
    image[disc()] = 15
    assert cutout.brightness(image, disc()) == 15
    image[55:65, 60:100] = 90
    assert cutout.brightness(image, disc()) == 15, "400 of 5,025 pixels"
    image[50:70, 60:100] = 90
    assert cutout.brightness(image, disc()) == 90, "800"
    assert cutout.brightness(image, box(0, 0, 0, 0)) == 0


def test_a_share_counts_what_is_inside_and_not_the_rim() -> None:
    of = np.zeros((60, 80), bool)
    of[30:32] = True
    assert cutout.share(box(40, 20, 120, 100), of) == pytest.approx(2 / 36, abs=0.002)
    of[:] = False
    of[10], of[49] = True, True
    assert cutout.share(box(40, 20, 120, 100), of) == 0
    assert cutout.share(box(0, 0, 0, 0), of) == 0
