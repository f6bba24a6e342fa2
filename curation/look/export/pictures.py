"""Members as the pictures that others expect: uint8 arrays in OpenCV's order of colours, PNG bytes."""

from __future__ import annotations

import numpy as np


def decoded(data: bytes) -> np.ndarray:
    """BGRA of what has alpha, else BGR, H×W×4 or 3. Raises `ValueError` for what is no picture."""
    import cv2

    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if pixels is None or pixels.ndim != 3:
        raise ValueError("no picture")
    return pixels


def cutout(data: bytes) -> np.ndarray:
    """BGRA, also of one that fills its box: WebP stores no alpha then."""
    pixels = decoded(data)
    return pixels if pixels.shape[2] == 4 else with_alpha(pixels, np.ones(pixels.shape[:2], bool))


def png(pixels: np.ndarray) -> bytes:
    import cv2

    return cv2.imencode(".png", pixels)[1].tobytes()


def with_alpha(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """BGRA of BGR and a bool mask of its size."""
    return np.dstack([pixels[..., :3], np.where(mask, 255, 0).astype(np.uint8)])


def on_white(bgra: np.ndarray, aspect: float) -> np.ndarray:
    """BGR of a BGRA cut-out on white, in the middle of the smallest picture with width / height = `aspect` that holds it."""
    height, width = bgra.shape[:2]
    canvas = np.full((max(height, round(width / aspect)), max(width, round(height * aspect)), 3), 255, np.uint8)
    top, left = (canvas.shape[0] - height) // 2, (canvas.shape[1] - width) // 2
    alpha = bgra[..., 3:].astype(np.float32) / 255
    inside = canvas[top : top + height, left : left + width]
    inside[:] = np.rint(bgra[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return canvas
