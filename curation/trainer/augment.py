"""Augmentations of reference images: the table of PAPER.md §5."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from curation.trainer.seeds import uniforms

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Draw:
    """The numbers of one augmentation."""

    size: tuple[int, int]
    """Height and width after downscaling."""
    kernel: int
    """Side of the blur in pixels, odd; 1 is none."""
    flip: bool
    shear: tuple[float, float]
    """Pixels by which the bottom edge moves right against the top edge, and the right edge down against the left."""
    angle: float
    """Degrees, clockwise."""
    crop: tuple[int, int]
    """Height and width of what is cut out."""
    corner: tuple[int, int]
    """Its top left, y and x, in the downscaled picture."""
    hue: float
    """Turns of the colour circle."""
    saturation: float
    contrast: float
    brightness: float
    """Factors."""


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Change a reference image, so that the model learns who is in it and not where, how large or how lit.

    The order is ours: downscale, blur, flip, shear, rotate, crop (the last four in one bilinear resampling), colour, brightness.
    The canvas keeps its size when it is turned; what comes in is white. Colour and brightness come last, so that this white and
    the white around a cut-out stay alike. All are applied each time, except the flip (PAPER.md §5).
    """

    enabled: bool = True
    """Whether anything is done at all; false is the papers' ablation."""
    min_side: Annotated[int, Field(ge=1)] = 112
    """Downscaling is uniform on [min_side / max(h, w), 1]; a smaller picture is left as it is."""
    blur: Share = 1 / 50
    """Largest Gaussian kernel as a share of max(h, w) of the picture before it is downscaled. Uniform on the odd numbers 1, 3 …
    up to it, with σ = 0.15·k + 0.35, OpenCV's and torchvision's rule; not stated by the paper."""
    colour: Share = 0.05
    """Contrast and saturation × [1 − colour, 1 + colour]. Of what the jitter is, the paper does not state: as torchvision's."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    """± turns of the colour circle, of the same jitter; 0.05 visibly tints faces."""
    brightness: Share = 0.1
    """× [1 − brightness, 1 + brightness]."""
    flip: Share = 0.5
    """Probability of a horizontal flip."""
    shear: Share = 0.05
    """± shear·w pixels in x, ± shear·h in y, between opposite edges; w and h are the picture's before it is downscaled, too."""
    rotation: Annotated[float, Field(ge=0, le=180)] = 20.0
    """± degrees."""
    crop: Annotated[float, Field(gt=0, le=1)] = 0.67
    """Share of the area that a random crop keeps, uniform on [crop, 1]; its aspect is the picture's (not stated by the paper)."""

    def draw(self, height: int, width: int, source: torch.Generator) -> Draw:
        """The numbers for a picture of `height` × `width` pixels."""
        u = uniforms(13, source)
        smallest = min(1.0, self.min_side / max(height, width))
        scale = smallest + (1 - smallest) * u[0]
        h, w = max(1, round(height * scale)), max(1, round(width * scale))
        kernels = (max(1, int(max(height, width) * self.blur)) + 1) // 2
        side = math.sqrt(self.crop + (1 - self.crop) * u[1])
        ch, cw = max(1, round(h * side)), max(1, round(w * side))
        return Draw(
            size=(h, w),
            kernel=1 + 2 * int(kernels * u[2]),
            flip=u[3] < self.flip,
            shear=(self.shear * width * (2 * u[4] - 1), self.shear * height * (2 * u[5] - 1)),
            angle=self.rotation * (2 * u[6] - 1),
            crop=(ch, cw),
            corner=(int((h - ch + 1) * u[7]), int((w - cw + 1) * u[8])),
            hue=self.hue * (2 * u[9] - 1),
            saturation=1 + self.colour * (2 * u[10] - 1),
            contrast=1 + self.colour * (2 * u[11] - 1),
            brightness=1 + self.brightness * (2 * u[12] - 1),
        )

    def __call__(self, image: Tensor, source: torch.Generator) -> Tensor:
        """`image`: [3, h, w], or [4, h, w] with alpha, float in 0 … 1, on any device. Returns the same kind, of another size."""
        return apply(image, self.draw(image.shape[-2], image.shape[-1], source))


def apply(image: Tensor, draw: Draw) -> Tensor:
    """Carry out a draw. `image` as for `Augment`."""
    from kornia.filters import gaussian_blur2d

    kind, batch = image.dtype, image.float()[None]
    if draw.size != tuple(image.shape[-2:]):
        batch = F.interpolate(batch, draw.size, mode="bilinear", antialias=True, align_corners=False)
    if draw.kernel > 1:
        sigma = 0.15 * draw.kernel + 0.35
        batch = gaussian_blur2d(batch, (draw.kernel, draw.kernel), (sigma, sigma), border_type="replicate")
    moved = _warped(batch, draw)
    coloured = _coloured(moved[:, :3], draw)
    return torch.cat([coloured, moved[:, 3:]], 1)[0].clamp(0, 1).to(kind)


def _warped(batch: Tensor, draw: Draw) -> Tensor:
    """Flip, shear, rotate about the middle and crop, in one resampling; outside the picture it is white and transparent."""
    fill = torch.ones(batch.shape[1], device=batch.device)[:, None, None]
    fill[3:] = 0
    (h, w), (ch, cw) = draw.size, draw.crop
    a = _inverse(draw)
    dx, dy = draw.corner[1] + (cw - w) / 2, draw.corner[0] + (ch - h) / 2  # the crop's middle from the picture's
    rows = [
        [a[0][0] * cw / w, a[0][1] * ch / w, 2 / w * (a[0][0] * dx + a[0][1] * dy)],
        [a[1][0] * cw / h, a[1][1] * ch / h, 2 / h * (a[1][0] * dx + a[1][1] * dy)],
    ]
    theta = torch.tensor([rows], dtype=torch.float32, device=batch.device)
    grid = F.affine_grid(theta, [1, batch.shape[1], ch, cw], align_corners=False)
    return F.grid_sample(batch - fill, grid, mode="bilinear", padding_mode="zeros", align_corners=False) + fill


def _inverse(draw: Draw) -> list[list[float]]:
    """The 2×2 matrix from a place in the result to its place in the source, both in pixels (x right, y down) from the middle."""
    (h, w), angle = draw.size, math.radians(draw.angle)
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64)
    shear = torch.tensor([[1, draw.shear[0] / h], [draw.shear[1] / w, 1]], dtype=torch.float64)
    mirror = torch.tensor([[-1.0 if draw.flip else 1.0, 0], [0, 1]], dtype=torch.float64)
    return torch.linalg.inv(turn @ shear @ mirror).tolist()


def _coloured(rgb: Tensor, draw: Draw) -> Tensor:
    from kornia.color import hsv_to_rgb, rgb_to_hsv
    from kornia.enhance import adjust_contrast_with_mean_subtraction, adjust_hue_raw, adjust_saturation_raw

    hsv = rgb_to_hsv(adjust_contrast_with_mean_subtraction(rgb.clamp(0, 1), draw.contrast))
    return hsv_to_rgb(adjust_hue_raw(adjust_saturation_raw(hsv, draw.saturation), 2 * math.pi * draw.hue)) * draw.brightness
