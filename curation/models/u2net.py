"""U²-Net: how much each pixel belongs to what a picture is of, whatever that is."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from curation.models.ort import session

SIDE = 320
MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
"""Of its input: RGB, divided by the picture's brightest value, squeezed into a square."""


class U2Net:
    """U²-Net or the small U²-Net-p, from an ONNX file as rembg publishes them."""

    def __init__(self, path: Path):
        self._net = session(path.read_bytes())
        self._input, self._finest = self._net.get_inputs()[0].name, self._net.get_outputs()[0].name

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """RGB uint8 H×W×3 → float32 H×W in [0, 1], raw: rembg stretches it to 0 … 1, which makes something of nothing."""
        small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
        x = (small / max(1.0, float(small.max())) - MEAN) / STD
        (found,) = self._net.run([self._finest], {self._input: x.transpose(2, 0, 1)[None]})
        return np.clip(cv2.resize(found[0, 0], image.shape[1::-1], interpolation=cv2.INTER_LINEAR), 0, 1)
