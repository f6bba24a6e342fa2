from __future__ import annotations

import numpy as np

from curation.models.boxes import iou, nms


def test_iou_of_apart_half_and_same() -> None:
    boxes = np.array([[20, 20, 30, 30], [0, 5, 10, 15], [0, 0, 10, 10]], float)
    np.testing.assert_allclose(iou(boxes[2], boxes), [0, 50 / 150, 1])


def test_nms_keeps_the_best_of_each_place_in_order() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 1, 10, 11], [50, 50, 60, 60]], float)
    assert nms(boxes, np.array([0.5, 0.6, 0.9]), 0.5) == [2, 1]
    assert nms(boxes, np.array([0.6, 0.6, 0.9]), 0.5) == [2, 0]
    assert nms(boxes, np.array([0.5, 0.6, 0.9]), 0.9) == [2, 1, 0]
    assert nms(np.zeros((0, 4)), np.zeros(0), 0.5) == []
