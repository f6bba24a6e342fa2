"""A person's pose: whether somebody is there at all, and which parts of the body."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter

SIDE, STRIDES, ANCHORS = 224, (8, 16, 32), (2, 2, 6)
"""Of the detector, as MediaPipe's graph states them: pixels of its input, of a cell, and anchors a cell."""
HIPS, WHOLE = 0, 1
"""Of the detector's keypoints: the middle of the hips, and a point as far from it as the body reaches."""
MARGIN = 1.25
"""The body's square, in sizes of the body: MediaPipe's."""
PARTS = {"head": (0, 2, 5, 7, 8), "shoulders": (11, 12), "hips": (23, 24), "knees": (25, 26), "feet": (27, 28)}
"""Parts and their landmarks of MediaPipe's 33."""


@dataclass(frozen=True)
class Body:
    """`score`, the detector's and `presence`, the landmarks network's: both [0, 1]. `landmarks`: float32 [33, 3]; x and y in
    pixels of the image, in it or not, and how likely each is to be seen, [0, 1]. `matte`: float32 H×W of the image, how likely
    each pixel is to show the body, [0, 1]."""

    score: float
    presence: float
    landmarks: np.ndarray
    matte: np.ndarray

    def parts(self, width: int, height: int, least: float = 0.5) -> dict[str, float]:
        """By part the share of its landmarks that are within an image of that size and likelier to be seen than `least`."""
        x, y, seen = self.landmarks.T
        there = (seen >= least) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
        return {part: float(there[list(points)].mean()) for part, points in PARTS.items()}


class Pose:
    """MediaPipe's pose detector and landmarks (BlazePose full; Apache-2.0), one thread. Give it one person's surroundings."""

    def __init__(self, folder: Path):
        self._detector = _Net(folder / "pose_detection/pose_detection.tflite")
        self._landmarks = _Net(folder / "pose_landmark/pose_landmark_full.tflite")

    def __call__(self, image: np.ndarray) -> Body:
        """The likeliest body of an RGB uint8 image H×W×3, however unlikely."""
        height, width = image.shape[:2]
        scale = SIDE / max(height, width)
        shift = (SIDE - scale * width) / 2, (SIDE - scale * height) / 2
        to_input = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]], np.float32)
        small = _warped(image, to_input, SIDE)
        coordinates, logits = self._detector(small / 127.5 - 1)
        best = int(logits[0, :, 0].argmax())
        points = coordinates[0, best, 4:].reshape(4, 2) + _anchors()[best]
        hips, whole = (points[[HIPS, WHOLE]] - to_input[:, 2]) / scale
        to_crop = self._square(hips, whole)
        found, presence, matte = self._landmarks(_warped(image, to_crop, self._landmarks.side) / 255)[:3]
        marks = found.reshape(-1, 5)[:33]
        back = cv2.invertAffineTransform(to_crop)
        places = marks[:, :2] @ back[:, :2].T + back[:, 2]
        seen = _sigmoid(marks[:, 3:4])
        landmarks = np.hstack([places, seen]).astype(np.float32)
        there = cv2.warpAffine(_sigmoid(matte[0, ..., 0]), back, (width, height), flags=cv2.INTER_LINEAR)
        return Body(float(_sigmoid(logits[0, best, 0])), float(presence.reshape(())), landmarks, there)

    def _square(self, hips: np.ndarray, whole: np.ndarray) -> np.ndarray:
        """Maps the square around a body, which stands upright in it, onto the input of the landmarks network."""
        up = whole - hips
        size = max(2 * MARGIN * float(np.hypot(*up)), 1.0)
        angle = np.arctan2(up[0], -up[1])
        scale = self._landmarks.side / size
        cos, sin = scale * np.cos(angle), scale * np.sin(angle)
        turn = np.array([[cos, sin], [-sin, cos]])
        return np.hstack([turn, (self._landmarks.side / 2 - turn @ hips)[:, None]]).astype(np.float32)


class _Net:
    """A network of one image; its outputs in the order of their names' numbers."""

    def __init__(self, path: str | Path):
        self._net = Interpreter(str(path), num_threads=1)
        self._net.allocate_tensors()
        self._input = self._net.get_input_details()[0]
        self._outputs = self._net.get_output_details()
        self.side = int(self._input["shape"][1])

    def __call__(self, image: np.ndarray) -> list[np.ndarray]:
        self._net.set_tensor(self._input["index"], image[None].astype(np.float32))
        self._net.invoke()
        return [self._net.get_tensor(output["index"]) for output in self._outputs]


def _warped(image: np.ndarray, matrix: np.ndarray, side: int) -> np.ndarray:
    return cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


@cache
def _anchors() -> np.ndarray:
    """Middles of the cells, [2254, 2], in pixels of the input."""
    rows = []
    for stride, count in zip(STRIDES, ANCHORS, strict=True):
        middles = (np.arange(SIDE // stride) + 0.5) * stride
        y, x = np.meshgrid(middles, middles, indexing="ij")
        rows.append(np.repeat(np.stack([x.ravel(), y.ravel()], 1), count, 0))
    return np.concatenate(rows).astype(np.float32)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(logits, -80, 80)))
