"""A YOLO that finds faces."""

from __future__ import annotations

from pathlib import Path

import torch


def yolo_face(path: Path, names: dict[int, str] | None = None) -> Path:
    """A YOLO of the smallest size with one class."""
    from ultralytics import YOLO
    from ultralytics.nn.tasks import DetectionModel

    from curation.models import yolo_face as _  # noqa: F401 it sets ultralytics offline before that is imported

    names = names or {0: "face"}
    torch.manual_seed(0)
    model = YOLO("yolov8n.yaml", task="detect")
    model.model = DetectionModel("yolov8n.yaml", nc=len(names), verbose=False)
    model.model.names = names
    for branch in model.model.model[-1].cv3:
        branch[-1].bias.data.zero_()  # scores on both sides of 0.5
    for module in model.model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the mean of what it has seen; untouched, a deep network of random weights gives one value
    with torch.no_grad():
        model.model.train()(torch.rand(2, 3, 256, 256))
    model.model.eval()
    model.save(path)
    return path
