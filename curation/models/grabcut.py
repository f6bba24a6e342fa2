"""Masks by GrabCut: colour models of inside and outside of a box, started from the box alone or from a prior such as a matte."""

from __future__ import annotations

import math

import cv2
import numpy as np

from curation.models.boxes import Box, around, bounds

SURE, LIKELY, NEVER = 0.9, 0.5, 0.05
"""Prior above which a pixel is fixed as foreground or starts as it, and below which it is fixed as background. Chosen by eye on
panda70m-mini: without NEVER, GrabCut leaks into backgrounds of the person's colours."""
CORE, REACH = 0.14, 0.56
"""Half axes, as shares of the box's sides, of the ellipse fixed as foreground and of the one that starts as it, without a prior.
By eye: leaving out the corners takes shadows off planes and jeeps; an ellipse of 0.42 loses bumpers and rims."""
CONTEXT = 0.3
"""Share of the box's sides seen around it as background."""
FRAYED = 0.005
"""Sigma, as a share of a mask's longer side, of the blur that straightens its outline; by eye: GrabCut frays what lies before
something of its own colour. A guided filter by the frame's colours does less."""
LEAST_BLUR = 0.8
"""Pixels that it is at least."""
SIDE = 448
"""Longest side in pixels that GrabCut works at; 320 takes half the time (0.05 against 0.09 s) and loses fingers."""


def grabcut(image: np.ndarray, box: Box, prior: np.ndarray | None = None, reach: float = REACH, side: int = SIDE) -> np.ndarray:
    """The thing in `box`: bool H×W of an RGB uint8 image, False outside the box; all False when there is nothing to tell apart.

    `prior`: float H×W in [0, 1], the probability of foreground; without one the middle of the box is taken as foreground,
    and what lies within `reach` of it as probably so. `side`: longest side in pixels to work at.
    Same input, same mask: the generator is seeded.
    """
    height, width = image.shape[:2]
    x0, y0, x1, y1 = around(box, width, height, CONTEXT)
    crop = image[y0:y1, x0:x1, ::-1]
    scale = min(1.0, side / max(1, *crop.shape[:2]))
    size = (max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale)))
    small = cv2.resize(np.ascontiguousarray(crop), size, interpolation=cv2.INTER_AREA)
    inner = np.zeros((size[1], size[0]), bool)
    a, b, c, d = ((v - o) * scale for v, o in zip(box, (x0, y0, x0, y0), strict=True))
    inner[max(0, math.floor(b)) : math.ceil(d), max(0, math.floor(a)) : math.ceil(c)] = True
    if prior is None:
        seeds = _seeds_of_box(inner, reach)
    else:
        seeds = _seeds_of_prior(inner, cv2.resize(prior[y0:y1, x0:x1], size, interpolation=cv2.INTER_AREA))
    full = np.zeros((height, width), bool)
    full[y0:y1, x0:x1] = cv2.resize(_cut(small, seeds), (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR) > 0.5
    return full & _filled(box, (height, width))


def tidy(mask: np.ndarray, smallest: float = 0.1) -> np.ndarray:
    """Remove specks and hairs, parts below `smallest` of the largest, holes below 1 % of what is left (by eye), and what frays
    its outline. bool H×W."""
    solid = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, parts, stats, _ = cv2.connectedComponentsWithStats(solid, connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    kept = ((areas > 0) & (areas >= smallest * areas.max()))[parts]
    _, gaps, stats, _ = cv2.connectedComponentsWithStats((~kept).astype(np.uint8), connectivity=4)
    holes = stats[:, cv2.CC_STAT_AREA] < 0.01 * kept.sum()
    holes[0] = False
    whole = kept | holes[gaps]
    if not whole.any():
        return whole
    x0, y0, x1, y1 = bounds(whole)
    return cv2.GaussianBlur(whole.astype(np.float32), (0, 0), max(LEAST_BLUR, FRAYED * max(x1 - x0, y1 - y0))) > 0.5


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two bool masks, in [0, 1]; 0 when both are empty."""
    union = np.count_nonzero(a | b)
    return float(np.count_nonzero(a & b) / union) if union else 0.0


def _filled(box: Box, shape: tuple[int, int]) -> np.ndarray:
    x0, y0, x1, y1 = around(box, shape[1], shape[0], 0)
    full = np.zeros(shape, bool)
    full[y0:y1, x0:x1] = True
    return full


def _seeds_of_box(inner: np.ndarray, reach: float) -> np.ndarray:
    """The middle is foreground, the box's corners start as background (shadows and ground), the rest of the box as foreground."""
    seeds = np.where(inner, cv2.GC_PR_BGD, cv2.GC_BGD).astype(np.uint8)
    if np.count_nonzero(~inner) < 0.02 * inner.size:  # the box is the frame: its rim is all we know of the background
        seeds[:2] = seeds[:, :2] = seeds[:, -2:] = cv2.GC_BGD
    if not inner.any():
        return seeds
    x0, y0, x1, y1 = bounds(inner)
    for share, seed in ((reach, cv2.GC_PR_FGD), (CORE, cv2.GC_FGD)):
        axes = max(1, round((x1 - x0) * share)), max(1, round((y1 - y0) * share))
        ellipse = cv2.ellipse(np.zeros(seeds.shape, np.uint8), ((x0 + x1) // 2, (y0 + y1) // 2), axes, 0, 0, 360, 1, -1)
        seeds[inner & (ellipse > 0) & (seeds != cv2.GC_BGD)] = seed
    return seeds


def _seeds_of_prior(inner: np.ndarray, prior: np.ndarray) -> np.ndarray:
    seeds = np.full(inner.shape, cv2.GC_BGD, np.uint8)
    seeds[inner & (prior >= NEVER)] = cv2.GC_PR_BGD
    seeds[inner & (prior > LIKELY)] = cv2.GC_PR_FGD
    seeds[inner & (prior > SURE)] = cv2.GC_FGD
    return seeds


def _cut(image: np.ndarray, seeds: np.ndarray, iterations: int = 4) -> np.ndarray:
    """Float32 0/1 of a BGR image. One side without a pixel cannot be modelled: then nothing is found."""
    inside = (seeds == cv2.GC_FGD) | (seeds == cv2.GC_PR_FGD)
    if inside.all() or not inside.any():
        return np.zeros(seeds.shape, np.float32)
    cv2.setRNGSeed(0)  # GrabCut starts from k-means, which draws from OpenCV's one generator
    cv2.grabCut(image, seeds, None, np.zeros((1, 65)), np.zeros((1, 65)), iterations, cv2.GC_INIT_WITH_MASK)
    return ((seeds == cv2.GC_FGD) | (seeds == cv2.GC_PR_FGD)).astype(np.float32)
