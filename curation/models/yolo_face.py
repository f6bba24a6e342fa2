"""Faces by an ultralytics YOLO checkpoint."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np

from curation.models.centerface import Face

os.environ.setdefault("YOLO_OFFLINE", "true")  # read when ultralytics is imported: no look-up of versions, no downloads
os.environ.setdefault("ULTRALYTICS_SAFE_LOAD", "1")  # a checkpoint is data: what it names is not run
os.environ.setdefault("YOLO_CONFIG_DIR", str(Path(tempfile.gettempdir(), f"ultralytics-{os.getuid()}")))
from ultralytics import YOLO  # noqa: E402

SIDE = 640
"""Side of the square a frame is letterboxed to, px; PAPER.md §3 Face."""
IOU = 0.4
"""Overlap above which the weaker face goes; PAPER.md §3 Face."""


class NoFaces(Exception):
    """The checkpoint has no class for faces."""


class YoloFace:
    """`path` is a detection checkpoint (`*.pt`) with one class, or with one that is called a face. Raises `NoFaces`."""

    def __init__(self, path: Path, device: str = "cpu"):
        self.device = device
        self.network = YOLO(path, task="detect")
        names: dict[int, str] = self.network.names
        self.classes = [i for i, name in names.items() if len(names) == 1 or "face" in name.lower()]
        if not self.classes:
            raise NoFaces(f"{path} has {len(names)} classes and none is a face: {', '.join(list(names.values())[:5])} …")

    def faces(self, image: np.ndarray, threshold: float = 0.2) -> list[Face]:
        """Faces in a uint8 RGB H×W×3 image that score above `threshold`, best first, without landmarks."""
        (result,) = self.network.predict(
            np.ascontiguousarray(image[..., ::-1]),  # a bare array is taken for BGR
            imgsz=SIDE,
            rect=False,
            conf=threshold,
            iou=IOU,
            classes=self.classes,
            agnostic_nms=True,
            device=self.device,
            verbose=False,
        )
        boxes, scores = result.boxes.xyxy.cpu().double().tolist(), result.boxes.conf.cpu().double().tolist()
        faces = [Face((x0, y0, x1, y1), score, ()) for (x0, y0, x1, y1), score in zip(boxes, scores, strict=True)]
        shown = [
            face for face in faces if face.box[0] < face.box[2] and face.box[1] < face.box[3]
        ]  # not in the letterbox's border
        return sorted(shown, key=lambda face: (-face.score, face.box))
