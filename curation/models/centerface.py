"""CenterFace: faces with five landmarks."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import onnx

from curation.models.boxes import nms
from curation.models.ort import session

SIDE = 640
"""Long side of the network's input, px. PAPER.md §3 letterboxes to 640 for its own face detector."""
MULTIPLE = 32
"""The network halves its input five times."""
STRIDE = 4
IOU = 0.3
"""Overlap above which the weaker face goes; of the published implementation."""


class Face(NamedTuple):
    """`box` is xyxy pixels of the image given, within it; `score` in [0, 1]; `landmarks` (x, y) of the eyes, the nose and the
    corners of the mouth, left in the image first; they may lie outside the image. A detector without landmarks gives none."""

    box: tuple[float, float, float, float]
    score: float
    landmarks: tuple[tuple[float, float], ...]


class CenterFace:
    """`path` is the published ONNX file, whose fixed sizes are freed: the network is fully convolutional."""

    def __init__(self, path: Path):
        model = onnx.load(path)
        for tensor in (model.graph.input[0], *model.graph.output):
            batch, _, height, width = tensor.type.tensor_type.shape.dim
            batch.dim_value, height.dim_param, width.dim_param = 1, f"height_{tensor.name}", f"width_{tensor.name}"
        self.session = session(model.SerializeToString())
        self.input, self.outputs = model.graph.input[0].name, [tensor.name for tensor in model.graph.output]

    def faces(self, image: np.ndarray, threshold: float = 0.5) -> list[Face]:
        """Faces in a uint8 RGB H×W×3 image that score above `threshold`, best first."""
        x, scale = _fit(image)
        heat, size, offset, marks = (output[0] for output in self.session.run(self.outputs, {self.input: x}))
        rows, columns = np.nonzero(heat[0] > threshold)
        scores = heat[0, rows, columns]
        corner, sides = _decode(rows, columns, size, offset)
        points = corner[:, None] + marks[:, rows, columns].T.reshape(-1, 5, 2)[..., ::-1] * sides[:, None]
        height, width = image.shape[:2]
        boxes = (np.concatenate([corner, corner + sides], axis=1) / scale).clip(0, (width, height, width, height))
        return [
            Face(tuple(boxes[i].tolist()), float(scores[i]), tuple((x, y) for x, y in (points[i] / scale).tolist()))
            for i in nms(boxes, scores, IOU)
        ]


def _decode(rows: np.ndarray, columns: np.ndarray, size: np.ndarray, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Top left corners and sides, both N×2 (x, y), in network pixels. The maps give y first; sizes are logarithms."""
    cells = np.stack([columns, rows], axis=1) + 0.5
    sides = np.exp(size[::-1, rows, columns].T) * STRIDE
    return (cells + offset[::-1, rows, columns].T) * STRIDE - sides / 2, sides


def _fit(image: np.ndarray) -> tuple[np.ndarray, float]:
    """Scale to the long side, fill up to a multiple of 32 at the right and bottom: 1×3×H×W of 0 … 255, and the scale."""
    scale = SIDE / max(image.shape[:2])
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    padded = (-(-side // MULTIPLE) * MULTIPLE for side in (height, width))
    x = np.zeros((1, 3, *padded), np.float32)
    x[0, :, :height, :width] = cv2.resize(image, (width, height)).transpose(2, 0, 1)
    return x, scale
