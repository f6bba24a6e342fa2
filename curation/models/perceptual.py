"""How different two clips look to a classifier of pictures: LPIPS's distance without its learned weights."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from curation.models.efficientnet import EfficientNet


class Perceptual:
    """The maps of EfficientNet-Lite2 before each halving and at its end, each position's channels at length 1 (arXiv 1801.03924
    weighs them by numbers learned from people's judgements; here all count alike)."""

    def __init__(self, checkpoint: Path, device: torch.device):
        self.network = EfficientNet(checkpoint, device)

    def __call__(self, made: Tensor, video: Tensor) -> Tensor:
        """Of float [B,3,F,H,W] in −1..1, sides of 32 px or more: the squared distance, 0 to 4, in the mean over maps, positions
        and frames. Differentiable in `made`."""
        with torch.autocast(made.device.type, enabled=False):
            pairs = zip(self._maps(made), self._maps(video), strict=True)
            return torch.stack([(a - b).square().sum(1).mean() for a, b in pairs]).mean()

    def _maps(self, video: Tensor) -> list[Tensor]:
        frames = video.float().transpose(1, 2).flatten(0, 1)
        return [F.normalize(found) for found in self.network.maps((frames + 1) * 127.5)]
