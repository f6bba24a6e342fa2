"""RAFT: dense optical flow, torchvision's network with its authors' weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.optical_flow import raft_large

ITERATIONS = 20
"""PAPER.md §6."""
MULTIPLE = 8
"""The network works at an eighth of a frame."""
LEAST = 128
"""Pixels of a side that torchvision's needs."""
NAMES = (
    (r"^fnet\.", "feature_encoder."),
    (r"^cnet\.", "context_encoder."),
    (r"^(\w+_encoder)\.conv1\.", r"\1.convnormrelu.0."),
    (r"^(\w+_encoder)\.norm1\.", r"\1.convnormrelu.1."),
    (r"^(\w+_encoder)\.conv2\.", r"\1.conv."),
    (r"\.(layer\d)\.(\d)\.conv(\d)\.", r".\1.\2.convnormrelu\3.0."),
    (r"\.(layer\d)\.(\d)\.norm([12])\.", r".\1.\2.convnormrelu\3.1."),
    (r"^update_block\.encoder\.convc(\d)\.", r"update_block.motion_encoder.convcorr\1.0."),
    (r"^update_block\.encoder\.convf(\d)\.", r"update_block.motion_encoder.convflow\1.0."),
    (r"^update_block\.encoder\.conv\.", "update_block.motion_encoder.conv.0."),
    (r"^update_block\.gru\.conv([zrq])([12])\.", r"update_block.recurrent_block.convgru\2.conv\1."),
    (r"^update_block\.flow_head\.", "update_block.flow_head."),
    (r"^update_block\.mask\.0\.", "mask_predictor.convrelu.0."),
    (r"^update_block\.mask\.2\.", "mask_predictor.conv."),
)
"""torchvision's names of the authors' layers; what they call norm3 is also the last of `downsample`."""


class WrongWeights(ValueError):
    """The checkpoint is no RAFT."""


class Raft:
    """`checkpoint` is the authors' `raft-things.pth` (or another of theirs of that size), or torchvision's. Raises
    `WrongWeights`."""

    def __init__(self, checkpoint: Path, device: str = "cpu"):
        self._network: Any = raft_large(weights=None, progress=False)
        try:
            self._network.load_state_dict(renamed(torch.load(checkpoint, map_location="cpu", weights_only=True)))
        except (RuntimeError, AttributeError) as error:
            raise WrongWeights(f"{checkpoint} is no RAFT: {' '.join(str(error).split())[:200]}") from error
        self._network.eval().requires_grad_(False).to(device)
        self._device = device

    @torch.inference_mode()
    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Flow of two uint8 RGB frames of one size: float32 [h, w, 2], px, (x, y); h and w are the frame's, filled up to a
        multiple of 8 with its border, half on each side, an odd row or column below or at the right. The network sees smaller
        ones filled up to 128 px."""
        frames = [
            torch.from_numpy(np.ascontiguousarray(frame)).to(self._device).permute(2, 0, 1)[None] for frame in (first, second)
        ]
        whole = [filled(frame.float()) for frame in frames]
        height, width = whole[0].shape[2:]
        top, left = (max(0, LEAST - side) // 2 for side in (height, width))
        room = (left, max(0, LEAST - width) - left, top, max(0, LEAST - height) - top)
        shown = (F.pad(frame, room, mode="replicate") / 255 * 2 - 1 for frame in whole)
        flow = self._network(*shown, num_flow_updates=ITERATIONS)[-1][0].permute(1, 2, 0)
        return flow[top : top + height, left : left + width].cpu().numpy()


def filled(frame: Tensor) -> Tensor:
    """[1, 3, H, W] with its border repeated up to a multiple of 8."""
    high, wide = (-side % MULTIPLE for side in frame.shape[2:])
    return F.pad(frame, (wide // 2, wide - wide // 2, high // 2, high - high // 2), mode="replicate")


def renamed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The authors' weights under torchvision's names; those that have them already as they are."""
    found = {}
    for key, value in weights.items():
        name = key.removeprefix("module.")
        if re.search(r"\.norm3\.", name):
            continue
        for pattern, by in NAMES:
            name = re.sub(pattern, by, name)
        found[name] = value
    return found
