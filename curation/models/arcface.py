"""ArcFace: who a face is, by insightface's improved residual networks (R100 and others of the family)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

SIDE = 112
"""Pixels of the square it sees (PAPER.md §3 Face)."""
STAGES = ("layer1", "layer2", "layer3", "layer4")
AT_ONCE = 32
"""Faces per forward pass."""


class WrongWeights(ValueError):
    """The checkpoint is no ArcFace backbone."""


class ArcFace:
    """`checkpoint` is a `backbone.pth` of insightface's arcface_torch; depths and widths are read off the weights. Raises
    `WrongWeights`."""

    def __init__(self, checkpoint: Path, device: str = "cpu"):
        weights = torch.load(checkpoint, map_location="cpu", weights_only=True)
        try:
            self._network = Backbone(weights)
            self._network.load_state_dict(weights)
        except (KeyError, RuntimeError, AttributeError, TypeError) as error:
            raise WrongWeights(f"{checkpoint} is no ArcFace backbone: {' '.join(str(error).split())[:200]}") from error
        self._network.eval().requires_grad_(False).to(device)
        self._device = device

    @torch.inference_mode()
    def __call__(self, faces: Sequence[np.ndarray]) -> np.ndarray:
        """uint8 RGB crops of any sizes, stretched to the network's square → float32 [N, 512], not of length 1."""
        parts = []
        for start in range(0, len(faces), AT_ONCE):
            squares = np.stack([cv2.resize(face, (SIDE, SIDE)) for face in faces[start : start + AT_ONCE]])
            x = torch.from_numpy(squares).to(self._device).permute(0, 3, 1, 2).float()
            parts.append(self._network(x.div(255).sub(0.5).div(0.5)).cpu())
        return torch.cat(parts).numpy()


class Block(nn.Module):
    """Two convolutions, normalised before and after each; the shortcut is normalised where it changes size."""

    def __init__(self, inner: int, outer: int, stride: int, shortcut: bool):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inner), nn.Conv2d(inner, outer, 3, 1, 1, bias=False)
        self.bn2, self.prelu = nn.BatchNorm2d(outer), nn.PReLU(outer)
        self.conv2, self.bn3 = nn.Conv2d(outer, outer, 3, stride, 1, bias=False), nn.BatchNorm2d(outer)
        self.downsample: nn.Module | None = (
            nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer)) if shortcut else None
        )

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x))))))
        return out + (x if self.downsample is None else self.downsample(x))


class Backbone(nn.Module):
    """Four stages that halve the picture each, 112 px to 7; of the sizes of a state dict."""

    def __init__(self, weights: dict[str, Tensor]):
        super().__init__()
        width = weights["conv1.weight"].shape[0]
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1, self.prelu = nn.BatchNorm2d(width), nn.PReLU(width)
        for stage in STAGES:
            outer = weights[f"{stage}.0.conv1.weight"].shape[0]
            count = len({match[1] for key in weights if (match := re.match(rf"{stage}\.(\d+)\.", key))})
            blocks = [Block(width, outer, 2, True), *(Block(outer, outer, 1, False) for _ in range(count - 1))]
            self.add_module(stage, nn.Sequential(*blocks))
            width = outer
        self.bn2 = nn.BatchNorm2d(width)
        self.fc = nn.Linear(weights["fc.weight"].shape[1], weights["fc.weight"].shape[0])
        self.features = nn.BatchNorm1d(weights["fc.weight"].shape[0])

    def forward(self, x: Tensor) -> Tensor:
        x = self.prelu(self.bn1(self.conv1(x)))
        for stage in STAGES:
            x = self.get_submodule(stage)(x)
        return self.features(self.fc(self.bn2(x).flatten(1)))
