"""Plain measures of a mask and of what it shows: none asks a network."""

from __future__ import annotations

import cv2
import numpy as np

from curation.models.boxes import bounds

LONG_SIDE = 256
"""Pixels to which a larger cut-out is shrunk before its sharpness is measured."""
RIM = 2
"""Pixels inside a mask's outline that may be what is behind it."""
BRIGHTEST = 90
"""Percentile of its grey levels that says how light a thing is: eyes, glasses and lamps are brighter."""


def truncation(mask: np.ndarray) -> float:
    """Share of the outline of a mask, bool H×W, that lies on the frame's border."""
    outline = _outline(mask)
    border = np.zeros_like(mask, dtype=bool)
    border[[0, -1]] = border[:, [0, -1]] = True
    return float(np.count_nonzero(outline & border) / np.maximum(1, np.count_nonzero(outline)))


def clipped(mask: np.ndarray) -> float:
    """The longest side of the box of a mask, bool H×W, that its outline runs along and the frame does not, as a share of the
    outline: what is round touches its box hardly, what a detector's box cuts off does so at length."""
    if not mask.any():
        return 0.0
    height, width = mask.shape
    x0, y0, x1, y1 = bounds(mask)
    sides = ((x0 > 0, mask[:, x0]), (x1 < width, mask[:, x1 - 1]), (y0 > 0, mask[y0]), (y1 < height, mask[y1 - 1]))
    longest = max((np.count_nonzero(side) for inside, side in sides if inside), default=0)
    return float(longest / np.count_nonzero(_outline(mask)))


def sharpness(image: np.ndarray, mask: np.ndarray) -> float:
    """Standard deviation of the Laplacian of an RGB uint8 image within a mask, in grey levels, at a long side of `LONG_SIDE` at
    most."""
    if not mask.any():
        return 0.0
    x0, y0, x1, y1 = bounds(mask)
    scale = min(1.0, LONG_SIDE / max(x1 - x0, y1 - y0))
    size = max(3, round((x1 - x0) * scale)), max(3, round((y1 - y0) * scale))
    grey = cv2.resize(cv2.cvtColor(image[y0:y1, x0:x1], cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)
    inside = cv2.resize(mask[y0:y1, x0:x1].astype(np.uint8), size, interpolation=cv2.INTER_NEAREST).astype(bool)
    return float(cv2.Laplacian(grey, cv2.CV_32F)[inside].std()) if inside.any() else 0.0


def brightness(image: np.ndarray, mask: np.ndarray) -> float:
    """The grey level of an RGB uint8 image that a tenth of a mask exceeds, 0 to 255; 0 of an empty mask."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[mask]
    return float(np.percentile(grey, BRIGHTEST)) if grey.size else 0.0


def share(mask: np.ndarray, of: np.ndarray) -> float:
    """Share of a mask, bool H×W, without its rim of `RIM` px, where another one of the same picture, of any size, is true."""
    small = cv2.resize(mask.astype(np.uint8), of.shape[::-1], interpolation=cv2.INTER_NEAREST)
    inner = cv2.erode(small, np.ones((2 * RIM + 1, 2 * RIM + 1), np.uint8)).astype(bool)
    return float(of[inner].mean()) if inner.any() else 0.0


def _outline(mask: np.ndarray) -> np.ndarray:
    padded = np.pad(mask, 1).astype(np.uint8)
    return (padded - cv2.erode(padded, np.ones((3, 3), np.uint8)))[1:-1, 1:-1].astype(bool)
