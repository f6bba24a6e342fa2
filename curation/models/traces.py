"""What a thing leaves in a picture outside its mask: what it holds or wears, and its shadow."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

SALIENT = 0.3
"""Saliency from which a pixel belongs to what stands out: thin things (the end of a canoe, a club) get no more."""
OWN = 0.6
"""Share of what stands out that must be in the mask for the rest of it to belong to that: so it adds two thirds of it at most. By
eye on 20 frames of panda70m-mini a canoe's end, hair and shoes lie above, a car's screen behind a hand and a rail below."""
FOOT, BESIDE, BELOW = 0.7, 0.75, 0.25
"""Where a shadow is looked for: from this share of a thing's height on, so many of its widths to either side, heights below."""
DARK = (0.25, 0.85)
"""Brightness of a shadow, as a share of the ground's; darker than that nothing lit by a sky is."""
TINT = 0.12
"""How far the shares of red, green and blue may lie from their mean: shadows are a little bluer, things another hue."""
EVEN = 0.6
"""Share of the ground that must be about as bright as its median, else it cannot tell a shadow."""
LARGEST = 0.3
"""A shadow's area, as a share of the thing's, above which it is taken for darker ground."""
CALM = 2.0
"""Sigma in pixels of the blur under which the ground is compared, at a long side of 640: grass and sand have dark grains."""


def belongings(saliency: NDArray[np.float32], mask: Mask) -> Mask:
    """The rest of what stands out and lies mostly in the mask, bool H×W; the mask itself is not part of it.

    `saliency`: [0, 1] H×W, as `u2net.U2Net` gives it. What stands out and lies mostly elsewhere is none of its.
    """
    _, parts = cv2.connectedComponents((saliency > SALIENT).astype(np.uint8), connectivity=8)
    share = np.bincount(parts[mask], minlength=parts.max() + 1) / np.maximum(np.bincount(parts.ravel()), 1)
    share[0] = 0
    return (share >= OWN)[parts] & ~mask


def shadow(image: Image, mask: Mask, reach: int) -> Mask:
    """Shadows of the mask's parts on even ground, bool H×W, outside the mask; nothing where there is none.

    A shadow is darker than the ground around the part's foot at the same hue, begins within `reach` pixels of the foot, ends in
    sight and is not large. `reach` also is how wide a rim of the mask is not asked what the ground looks like.
    """
    found = np.zeros_like(mask)
    calm = _calm(image, ~mask, CALM * max(mask.shape) / 640)
    near = cv2.dilate(mask.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1,) * 2)).astype(bool)
    _, parts, boxes, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    for number, (left, top, width, height, area) in enumerate(boxes[1:], 1):
        rows = slice(top + int(FOOT * height), min(len(mask), top + height + max(reach, int(BELOW * height))))
        aside = max(2 * reach, int(BESIDE * width))
        columns = slice(max(0, left - aside), min(mask.shape[1], left + width + aside))
        if top + height >= len(mask):  # its foot is out of sight
            continue
        part = _shadow(calm[rows, columns], mask[rows, columns], near[rows, columns], parts[rows, columns] == number, reach)
        if part.sum() <= LARGEST * area:
            found[rows, columns] |= part
    return found


def _calm(image: Image, where: Mask, sigma: float) -> NDArray[np.float32]:
    """Blurred within `where`, float32, above 0: what lies outside does not bleed in."""
    colours, weight = np.where(where[..., None], image, 0).astype(np.float32), where.astype(np.float32)
    return (cv2.GaussianBlur(colours, (0, 0), sigma) + 0.01) / (cv2.GaussianBlur(weight, (0, 0), sigma)[..., None] + 0.01)


def _shadow(calm: NDArray[np.float32], mask: Mask, near: Mask, foot: Mask, reach: int) -> Mask:
    none = np.zeros_like(mask)
    if not (~near).any():
        return none
    ground = np.median(calm[~near], axis=0)
    shares = calm / ground
    light = shares.mean(2)
    if (np.abs(light[~near] - 1) < 1 - DARK[1]).mean() < EVEN:
        return none
    dark = (light > DARK[0]) & (light < DARK[1]) & (np.abs(shares - light[..., None]).max(2) < TINT) & ~mask
    dark = cv2.morphologyEx(dark.astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    _, parts = cv2.connectedComponents(dark, connectivity=8)
    begins = cv2.dilate(foot.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach + 1,) * 2)).astype(bool)
    rim = np.ones_like(mask)
    rim[1:-1, 1:-1] = False
    belongs = set(np.unique(parts[begins])) - set(np.unique(parts[rim])) - {0}
    return np.isin(parts, sorted(belongs))
