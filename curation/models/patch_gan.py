"""An adversary for autoencoders of video: is each patch of a clip real? A small 3D PatchGAN, its losses and penalties."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Loss = Literal["hinge", "non-saturating"]
DECAY = 0.99
"""Of the means that LeCam's penalty holds logits to (LeCam GAN, arXiv 2104.03310)."""


class PatchGan(nn.Module):
    """Convolutions of 3×4×4 that halve the clip, LeakyReLU and group normalisation between them."""

    real: Tensor
    fake: Tensor

    def __init__(self, width: int = 64, layers: int = 3):
        """`width`: channels of the first layer, doubled in each up to eight times as many; `layers` after it."""
        super().__init__()
        widths = [width * min(8, 2**n) for n in range(layers + 1)]
        parts: list[nn.Module] = [nn.Conv3d(3, widths[0], (3, 4, 4), (1, 2, 2), 1), nn.LeakyReLU(0.2)]
        for inner, outer in zip(widths, widths[1:], strict=False):
            parts += [
                nn.Conv3d(inner, outer, (3, 4, 4), 2, 1),
                nn.GroupNorm(max(1, min(32, outer // 8)), outer),
                nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(*parts, nn.Conv3d(widths[-1], 1, 3, 1, 1))
        self.register_buffer("real", torch.zeros(()))
        self.register_buffer("fake", torch.zeros(()))

    def forward(self, video: Tensor) -> Tensor:
        """float [B,3,F,H,W] → logits [B,1,f,h,w], high for what is real. Sides of 16 px or more."""
        return self.layers(video)

    @torch.no_grad()
    def remember(self, real: Tensor, fake: Tensor) -> None:
        """Bring the means up to date with those of a step's logits."""
        self.real.lerp_(real, 1 - DECAY)
        self.fake.lerp_(fake, 1 - DECAY)

    def lecam(self, real: Tensor, fake: Tensor) -> Tensor:
        """How far logits lie beyond the other side's mean, squared."""
        return F.relu(real - self.fake).square().mean() + F.relu(self.real - fake).square().mean()

    def r1(self, video: Tensor) -> Tensor:
        """Half the squared norm of the logits' gradient at a real clip, in the mean over clips (arXiv 1801.04406)."""
        video = video.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(self(video).sum(), video, create_graph=True)
        return gradient.square().sum((1, 2, 3, 4)).mean() / 2


def judging(loss: Loss, real: Tensor, fake: Tensor) -> Tensor:
    """What the adversary minimises."""
    if loss == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def deceiving(loss: Loss, fake: Tensor) -> Tensor:
    """What the autoencoder minimises."""
    return -fake.mean() if loss == "hinge" else F.softplus(-fake).mean()
