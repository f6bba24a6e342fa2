"""Farnebäck's dense optical flow (OpenCV), without a network."""

from __future__ import annotations

import cv2
import numpy as np

SHORT_SIDE = 256
"""Pixels to which a larger frame is shrunk; MP states its threshold at this side (PAPER.md §6)."""
LEVELS = 4
"""Of its pyramid; the other numbers are OpenCV's example's."""


def farneback(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Flow of two uint8 RGB frames of one size: float32 [h, w, 2] (x, y), in pixels of the frames, at the size it was measured
    at."""
    height, width = first.shape[:2]
    scale = min(1.0, SHORT_SIDE / min(height, width))
    size = max(16, round(width * scale)), max(16, round(height * scale))
    a, b = (cv2.resize(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA) for f in (first, second))
    flow = cv2.calcOpticalFlowFarneback(
        a, b, None, pyr_scale=0.5, levels=LEVELS, winsize=15, iterations=3, poly_n=5, poly_sigma=1.2, flags=0
    )
    return flow * np.array([width / size[0], height / size[1]], np.float32)
