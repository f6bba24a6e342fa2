from __future__ import annotations

import numpy as np
import pytest

from curation.models.boxes import Box, area, around, bounds, iou, nms, patch, same_place, squared

ODD = [
    (639.6, 10, 640, 50),
    (640, 10, 640, 50),
    (10.2, 5.2, 10.4, 5.4),
    (-40, -30, -5, -1),
    (700, 500, 900, 800),
    (30, 30, 10, 10),
]
"""Boxes that a network may give for a frame of 640×360: slivers at the rim, none within it, without area, inside out."""


def test_iou_of_apart_half_and_same() -> None:
    boxes = np.array([[20, 20, 30, 30], [0, 5, 10, 15], [0, 0, 10, 10]], float)
    np.testing.assert_allclose(iou(boxes[2], boxes), [0, 50 / 150, 1])
    assert iou((0, 0, 10, 10), [(10, 0, 20, 10), (5, 0, 15, 10)]).tolist() == pytest.approx([0, 1 / 3])
    assert iou((0, 0, 10, 10), []).shape == (0,)


def test_places() -> None:
    man = (0, 0, 10, 20)
    assert same_place(man, [man, (1, 0, 11, 20), (0, 0, 10, 9)]).all(), "a head and shoulders are part of the whole man"
    assert not same_place((0, 0, 100, 100), [(40, 40, 60, 90)])[0], "a child before a man is not"
    assert same_place(man, []).shape == (0,)


@pytest.mark.parametrize("box", ODD)
def test_a_degenerate_box_shows_at_least_a_pixel(box: Box) -> None:
    image = np.zeros((360, 640, 3), np.uint8)
    assert min(patch(image, box).shape) >= 1 and max(patch(image, box).shape[:2]) <= 40
    left, top, right, bottom = around(box, 640, 360, 0.15)
    assert 0 <= left < right <= 640 and 0 <= top < bottom <= 360
    assert area(box) >= 0 and same_place(box, [box])[0]
    assert iou(box, [box, (0, 0, 640, 360)]).max() <= 1


def test_a_patch_is_the_box_to_the_nearest_pixel() -> None:
    image = np.arange(20 * 30).reshape(20, 30)
    assert np.array_equal(patch(image, (2.4, 3.6, 9.6, 8.4)), image[4:8, 2:10])
    assert np.array_equal(patch(image, (-5, -5, 100, 100)), image)


def test_nms_keeps_the_best_of_each_place_in_order() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 1, 10, 11], [50, 50, 60, 60]], float)
    assert nms(boxes, np.array([0.5, 0.6, 0.9]), 0.5) == [2, 1]
    assert nms(boxes, np.array([0.6, 0.6, 0.9]), 0.5) == [2, 0]
    assert nms(boxes, np.array([0.5, 0.6, 0.9]), 0.9) == [2, 1, 0]
    assert nms(np.zeros((0, 4)), np.zeros(0), 0.5) == []


@pytest.mark.parametrize(
    "box, margin, square",
    [
        ((100, 100, 200, 200), 0.0, (100, 100, 200, 200)),
        ((100, 140, 200, 160), 0.0, (100, 100, 200, 200)),
        ((100, 100, 200, 200), 0.1, (90, 90, 210, 210)),
        ((0, 0, 20, 100), 0.5, (0, 0, 110, 150)),
        ((630, 350, 640, 360), 0.1, (629, 349, 640, 360)),
        ((639.6, 359.6, 640, 360), 0.0, (639, 359, 640, 360)),
    ],
)
def test_a_square_around_a_box(box: tuple[float, float, float, float], margin: float, square: tuple[int, int, int, int]) -> None:
    assert squared(box, 640, 360, margin) == square


def test_the_bounds_of_a_mask() -> None:
    mask = np.zeros((20, 30), bool)
    mask[3, 7] = mask[9, 4] = True
    assert bounds(mask) == (4, 3, 8, 10) and all(type(side) is int for side in bounds(mask))
    assert bounds(np.ones((20, 30), bool)) == (0, 0, 30, 20)
