"""Boxes in pixels: how far they overlap, which are one thing, what an image shows in them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1; right and bottom are exclusive. Several are an array N×4."""
SAME, PARTLY, NESTED = 0.5, 0.3, 0.9
"""IoU above which two boxes are one thing; IoU from which they are, too, if this share of the smaller lies in the larger."""


def area(box: Sequence[float]) -> float:
    """Of one box; 0 when it is turned inside out."""
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def iou(box: ArrayLike, boxes: ArrayLike) -> np.ndarray:
    """Intersection over union of one box with each of `boxes` (N×4): N floats in [0, 1]."""
    shared, own, theirs = _areas(box, boxes)
    return shared / np.maximum(own + theirs - shared, 1e-9)


def same_place(box: ArrayLike, boxes: ArrayLike) -> np.ndarray:
    """Whether one box and each of `boxes` (N×4), all of one class, are two findings of one thing: N bools. They are when they are
    near-duplicates, or one is a part nested in the other. A box is always at its own place, also one without area."""
    shared, own, theirs = _areas(box, boxes)
    overlap = shared / np.maximum(own + theirs - shared, 1e-9)
    nested = (overlap >= PARTLY) & (shared >= NESTED * np.minimum(own, theirs))
    return nested | (overlap >= SAME) | (np.asarray(box) == np.reshape(boxes, (-1, 4))).all(1)


def nms(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> list[int]:
    """Greedy non-maximum suppression: indices of the boxes kept, best first; ties keep their order."""
    order = np.argsort(-scores, kind="stable")
    keep: list[int] = []
    while len(order):
        keep.append(int(order[0]))
        order = order[1:][iou(boxes[order[0]], boxes[order[1:]]) <= threshold]
    return keep


def around(box: Box, width: int, height: int, margin: float) -> tuple[int, int, int, int]:
    """The box widened by `margin` of its sides on each side, rounded outward to whole pixels, cut at the frame;
    at least one pixel."""
    x0, y0, x1, y1 = box
    dx, dy = (x1 - x0) * margin, (y1 - y0) * margin
    left, top = min(width - 1, max(0, math.floor(x0 - dx))), min(height - 1, max(0, math.floor(y0 - dy)))
    right, bottom = min(width, math.ceil(x1 + dx)), min(height, math.ceil(y1 + dy))
    return left, top, max(left + 1, right), max(top + 1, bottom)


def squared(box: Box, width: int, height: int, margin: float) -> tuple[int, int, int, int]:
    """A square around a box with `margin` of its longer side on each side, as far as the frame reaches."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    half = (0.5 + margin) * max(box[2] - box[0], box[3] - box[1])
    left, top = min(width - 1, max(0, round(x - half))), min(height - 1, max(0, round(y - half)))
    return left, top, max(left + 1, min(width, round(x + half))), max(top + 1, min(height, round(y + half)))


def patch(image: np.ndarray, box: Box) -> np.ndarray:
    """What an image (H×W×…) shows in the box, rounded to whole pixels and cut at the frame. Also of a box without area or outside
    it is at least one pixel a side, two where the frame has them."""
    height, width = image.shape[:2]
    x0, y0 = min(width - 1, max(0, round(box[0]))), min(height - 1, max(0, round(box[1])))
    return image[y0 : max(y0 + 2, round(box[3])), x0 : max(x0 + 2, round(box[2]))]


def bounds(mask: np.ndarray) -> tuple[int, int, int, int]:
    """The box of what is True in a mask that is not empty."""
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1


def rounded(values: Iterable[float], digits: int) -> list[float]:
    """Coordinates as they stand in metadata."""
    return [round(float(value), digits) for value in values]


def _areas(box: ArrayLike, boxes: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What one box shares with each of `boxes`, its own area, and theirs."""
    one, many = np.asarray(box), np.reshape(boxes, (-1, 4))
    sides = np.minimum(one[2:], many[:, 2:]) - np.maximum(one[:2], many[:, :2])
    own, theirs = (np.prod((b[..., 2:] - b[..., :2]).clip(min=0), axis=-1) for b in (one, many))
    return np.prod(sides.clip(min=0), axis=1), own, theirs
