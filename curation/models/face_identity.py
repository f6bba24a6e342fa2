"""dlib's face descriptors: whether two faces are one person's."""

from __future__ import annotations

from pathlib import Path

import dlib
import numpy as np

from curation.models.boxes import Box

SIDE, MARGIN = 150, 0.25
"""Pixels of the turned and cropped face that the network sees, and what is left around it; of dlib's published example."""


class FaceIdentity:
    """dlib's ResNet on faces that are turned upright by its five-point predictor; of `folder` no other file is read."""

    def __init__(self, folder: Path):
        self._points = dlib.shape_predictor(str(folder / "shape_predictor_5_face_landmarks.dat"))
        self._network = dlib.face_recognition_model_v1(str(folder / "dlib_face_recognition_resnet_model_v1.dat"))

    def __call__(self, image: np.ndarray, face: Box) -> np.ndarray:
        """The descriptor of a face, its box in an RGB uint8 image: float32 [128]. The Euclidean distance of two says how unlike
        they are: dlib's own threshold is 0.6."""
        points = self._points(image, dlib.rectangle(*(round(side) for side in face)))
        upright = dlib.get_face_chip(image, points, SIDE, MARGIN)
        return np.array(self._network.compute_face_descriptor(upright), np.float32)
