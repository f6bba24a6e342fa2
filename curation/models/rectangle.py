"""The rectangle that stands still over what moves, if there is one: the outline of a picture in a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import cv2
import numpy as np

STEP = 16.0
"""Grey levels across an edge."""
CHANGE = 8.0
"""Grey levels by which a pixel changes from one picture to the next when something moves there."""
ASIDE = 4
"""Pixels from an edge to what lies beside it."""
STRIP = 9
"""Pixels beside an edge, and along it, in which something moves."""
BEST = 5
"""Upright and level lines of which rectangles are tried."""
APART = 6
"""Pixels between two of them."""
AREA = (0.02, 0.92)
"""Of a rectangle, as a share of the frame."""


def measures(greys: Sequence[np.ndarray], detail: np.ndarray) -> dict[str, float]:
    """Of evenly spaced grey pictures of one clip, and their `detail`. `rectangle` is how well the best one is seen, 0 to 1:
    along its weakest side that is no side of the frame an edge stays while something moves beside it; `rectangle_mean` the
    same along all of them; `rectangle_two`, `rectangle_three` that of the best with as many such sides. Of the best: `sides`,
    how many of four those are; `rectangle_area`; `inside_moves`, `outside_moves`: how much changes; `sharper`: how much more
    detail there is inside, as a logarithm; `outside_detail`: how far from one colour the outside is."""
    stack = np.stack(greys).astype(np.float32)
    changes = (np.abs(np.diff(stack, axis=0)) > CHANGE).mean(axis=0) if len(stack) > 1 else np.zeros_like(stack[0])
    upright, level = _standing(stack, changes), _standing(stack.transpose(0, 2, 1), changes.T)
    found = list(_rectangles(upright, level))
    if not found:
        return dict.fromkeys(NAMES, 0.0)
    weakest, mean, _, box = max(found)
    left, top, right, bottom = box
    inside = np.zeros(changes.shape, bool)
    inside[top:bottom, left:right] = True
    frame = changes.shape[1], changes.shape[0]
    values = (
        weakest,
        mean,
        *(max((one[0] for one in found if one[2] >= sides), default=0.0) for sides in (2, 3)),
        sum(side not in (0, end) for side, end in zip(box, (*frame, *frame), strict=True)) / 4,
        float(inside.mean()),
        float(changes[inside].mean()),
        float(changes[~inside].mean()),
        float(np.log((np.median(detail[inside]) + 0.5) / (np.median(detail[~inside]) + 0.5))),
        float(min(1.0, np.median(detail[~inside]) / 8)),
    )
    return dict(zip(NAMES, values, strict=True))


def detail(greys: Sequence[np.ndarray]) -> np.ndarray:
    """How much is to be seen at each pixel of grey pictures of one clip: the Laplacian's mean size, in grey levels, [H, W]."""
    return np.mean([np.abs(cv2.Laplacian(grey, cv2.CV_32F)) for grey in greys], axis=0)


NAMES = (
    *("rectangle", "rectangle_mean", "rectangle_two", "rectangle_three", "sides", "rectangle_area"),
    *("inside_moves", "outside_moves", "sharper", "outside_detail"),
)


def _standing(stack: np.ndarray, changes: np.ndarray) -> np.ndarray:
    """For each pixel how surely an upright edge stays there over what moves at one of its sides, float32 [H, W], 0 to 1."""
    edges = np.zeros_like(stack)
    edges[:, :, 1:-1] = np.abs(stack[:, :, 2:] - stack[:, :, :-2]) > STEP
    seen = cv2.dilate(edges.mean(axis=0), np.ones((1, 3), np.uint8))
    beside = (_shifted(seen, ASIDE) + _shifted(seen, -ASIDE)) / 2
    near = cv2.blur(changes, (STRIP, STRIP))
    aside = 2 + STRIP // 2
    moves = np.maximum(_shifted(near, aside), _shifted(near, -aside))
    return np.clip(seen - beside, 0, 1) * np.clip(3 * moves, 0, 1)


def _shifted(plane: np.ndarray, by: int) -> np.ndarray:
    return np.roll(plane, by, axis=1)


def _rectangles(upright: np.ndarray, level: np.ndarray) -> Iterator[tuple[float, float, int, tuple[int, int, int, int]]]:
    """How well each is seen, at its weakest side and in the mean; its sides that are none of the frame's; left, top, right,
    bottom. `level` is transposed."""
    height, width = upright.shape
    down, across = (np.pad(np.cumsum(plane, axis=0), ((1, 0), (0, 0))) for plane in (upright, level))
    columns, rows = _lines(upright), _lines(level)
    for left, right in combinations(columns, 2):
        for top, bottom in combinations(rows, 2):
            area = (right - left) * (bottom - top) / (width * height)
            if not AREA[0] < area < AREA[1]:
                continue
            own = [(down[bottom, x] - down[top, x]) / (bottom - top) for x in (left, right) if 0 < x < width]
            own += [(across[right, y] - across[left, y]) / (right - left) for y in (top, bottom) if 0 < y < height]
            if own:
                yield float(min(own)), float(np.mean(own)), len(own), (left, top, right, bottom)


def _lines(plane: np.ndarray) -> list[int]:
    """The sides of the frame and the places of the upright lines that are seen best, in order."""
    height, width = plane.shape
    profile = plane.sum(axis=0)
    profile[:APART] = profile[width - APART :] = 0
    found = [0, width]
    for _ in range(BEST):
        at = int(profile.argmax())
        if profile[at] < 0.05 * height:
            break
        found.append(at)
        profile[max(0, at - APART) : at + APART + 1] = 0
    return sorted(found)
