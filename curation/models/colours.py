"""Colour words: whether what is in a box has the colour its word names ("white car")."""

from __future__ import annotations

import re

import cv2
import numpy as np

from curation.models.boxes import Box, patch

_RANGES: dict[str, tuple[tuple[int, int], tuple[int, int], tuple[int, int]]] = {
    "red": ((170, 188), (90, 255), (50, 255)),
    "orange": ((3, 22), (110, 255), (80, 255)),
    "yellow": ((20, 35), (80, 255), (90, 255)),
    "golden": ((10, 32), (60, 255), (70, 255)),
    "green": ((36, 88), (50, 255), (40, 255)),
    "blue": ((90, 130), (60, 255), (40, 255)),
    "purple": ((125, 160), (40, 255), (40, 255)),
    "pink": ((150, 178), (40, 255), (120, 255)),
    "brown": ((5, 22), (50, 220), (30, 160)),
    "white": ((0, 180), (0, 50), (160, 255)),
    "silver": ((0, 180), (0, 45), (100, 220)),
    "gray": ((0, 180), (0, 45), (60, 190)),
    "black": ((0, 180), (0, 255), (0, 70)),
}
"""Hue (0 to 180, circular), saturation and value (0 to 255) as OpenCV counts them; usual ranges, widened for shade."""
_ALSO = {"grey": "gray", "gold": "golden", "blonde": "golden", "violet": "purple"}
ENOUGH = 0.3
"""Share of a thing's pixels that is as good as all: windows, tyres and shade are of other colours."""


def colour_of(phrase: str) -> str | None:
    """The one colour a phrase names, or None; of several it names none, since either may be meant."""
    words = [_ALSO.get(word, word) for word in re.findall(r"[a-z]+", phrase.lower())]
    named = {word for word in words if word in _RANGES}
    return named.pop() if len(named) == 1 else None


def shown(image: np.ndarray, box: Box, colour: str) -> float:
    """How far the middle ellipse of a box of an RGB uint8 image has the colour, in [0, 1]; 1 from `ENOUGH` of its pixels on."""
    small = cv2.resize(patch(image, box), (48, 48), interpolation=cv2.INTER_AREA)
    hsv = cv2.cvtColor(small, cv2.COLOR_RGB2HSV).astype(int)
    (first, last), saturation, value = _RANGES[colour]
    right = (hsv[..., 0] - first) % 180 <= last - first
    for channel, (low, high) in ((1, saturation), (2, value)):
        right &= (hsv[..., channel] >= low) & (hsv[..., channel] <= high)
    ellipse = cv2.ellipse(np.zeros((48, 48), np.uint8), (24, 24), (20, 20), 0, 0, 360, 1, -1).astype(bool)
    return min(1.0, float(right[ellipse].mean()) / ENOUGH)
