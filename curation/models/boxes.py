"""Boxes: float arrays N×4 of xyxy pixels."""

from __future__ import annotations

import numpy as np


def iou(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union of one box (4,) with each of `boxes` (N×4): N floats in [0, 1]."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = np.prod(sides.clip(min=0), axis=1)
    both = np.prod(box[2:] - box[:2]) + np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) - shared
    return shared / np.maximum(both, 1e-9)


def nms(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> list[int]:
    """Greedy non-maximum suppression: indices of the boxes kept, best first; ties keep their order."""
    order = np.argsort(-scores, kind="stable")
    keep: list[int] = []
    while len(order):
        keep.append(int(order[0]))
        order = order[1:][iou(boxes[order[0]], boxes[order[1:]]) <= threshold]
    return keep
