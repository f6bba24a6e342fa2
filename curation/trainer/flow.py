"""Rectified flow: times, noise and targets for training; guidance and an Euler sampler for making videos (PAPER.md §5)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import ConfigDict, Discriminator, Field, Tag
from torch import Tensor

BASE_TOKENS = 720
"""Tokens of V2's smallest bucket, 17 frames of 256×144: the video whose times are not shifted. Not stated by the papers."""


def resolution_shift(tokens: int, base: int = BASE_TOKENS) -> float:
    """α of the time shift for videos of so many tokens: √(tokens/base), at least 1.

    Stable Diffusion 3's rule: the more tokens tell of the same, the more noise it takes to hide it. Not stated by the papers.
    """
    return max(1.0, math.sqrt(tokens / base))


def shifted(t: Tensor, shift: float) -> Tensor:
    """t' = αt / (1 + (α − 1)t): 0 and 1 stay, α > 1 moves the rest towards noise (PAPER.md §5)."""
    return shift * t / (1 + (shift - 1) * t)


def draw_times(n: int, generator: torch.Generator, shift: float = 1.0, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Times [n] to train at, float32 in 0…1 on the generator's device: logit-normal, then shifted (PAPER.md §5)."""
    return shifted(torch.sigmoid(mean + std * torch.randn(n, generator=generator, device=generator.device)), shift)


class Schedule:
    """The times a transformer is trained at, and those by which it makes videos; rectified flow's."""

    def draw(self, n: int, generator: torch.Generator, shift: float) -> Tensor:
        """Times [n] to train at."""
        return draw_times(n, generator, shift)

    def nearest(self, t: Tensor) -> Tensor:
        """Of times [B] those nearest to them that it is trained at."""
        return t

    def times(self, count: int, shift: float) -> Tensor:
        """The `count` + 1 times between the sampler's steps, float32, from 1 to 0."""
        return shifted(torch.linspace(1, 0, count + 1, dtype=torch.float64), shift).to(torch.float32)


def noised(x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """z_t = (1 − t)·x₀ + t·ε of latents [B,C,T,H,W] at times [B]."""
    t = _wide(t, x0)
    return (1 - t) * x0 + t * noise


def target(x0: Tensor, noise: Tensor) -> Tensor:
    """The velocity dz/dt = ε − x₀ that the model learns."""
    return noise - x0


def estimate(z: Tensor, velocity: Tensor, t: Tensor) -> Tensor:
    """The clean latents that a velocity at time t [B] amounts to: x₀ = z − t·v."""
    return z - _wide(t, z) * velocity


def _wide(t: Tensor, like: Tensor) -> Tensor:
    return t.reshape(-1, *[1] * (like.ndim - 1))


Scale = Annotated[float, Field(ge=0)]
Time = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, kw_only=True)
class Dynamic:
    """Imagen's dynamic thresholding."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid", strict=True)

    dynamic: Annotated[float, Field(gt=0, le=1)]
    """Share of a video's numbers that are not cut off where they are too large. Imagen: 0.995."""


Threshold = Annotated[
    Annotated[Literal["none", "static"], Tag("name")] | Annotated[Dynamic, Tag("dynamic")],
    Discriminator(lambda value: "name" if isinstance(value, str) else "dynamic"),
]


@dataclass(kw_only=True)
class Guidance:
    """How far text and images push away from what the model makes without them. The defaults are V2's (PAPER.md §5)."""

    form: Literal["separate", "nested"] = "separate"
    """separate (V2): e(I,T) + text·[e(I,T) − e(I,∅)] + image·[e(I,T) − e(∅,T)]; both scales 0: no guidance.
    nested (InstructPix2Pix's, text innermost): e(∅,∅) + text·[e(∅,T) − e(∅,∅)] + image·[e(I,T) − e(∅,T)]; both scales 1: none.
    V1 states its scales, 8 and 2.5, not its form."""
    text_scale: Scale = 8.0
    image_scale: Scale = 3.0
    interval: Annotated[list[Time], Field(min_length=2, max_length=2)] = field(default_factory=lambda: [0.0, 1.0])
    """Times, 0 clean to 1 noise, between which there is guidance. V1: [0.15, 0.5]."""
    threshold: Threshold = "none"
    """What strong guidance makes of x₀ is kept within ±`bound` in each step: V1's remedy against oversaturation (PAPER.md §6).
    static: cut off there. {dynamic: p}: where s, the p-quantile of a video's |x₀|, is more, cut off at s, times bound/s."""
    bound: Annotated[float, Field(gt=0)] = 8.0
    """Of latents, for `threshold`: Imagen's ±1 is that of pixels. Latents have roughly unit variance, and long tails: of those of
    real clips by `dct`, 17 frames of 256×144, 0.1 % lie beyond 8.6 (median of 40 of panda70m-mini). Not stated by the papers."""

    def limited(self, x0: Tensor) -> Tensor:
        """An estimate of clean latents [B,C,T,H,W] within the bounds, each video by itself."""
        if self.threshold == "none":
            return x0
        if self.threshold == "static":
            return x0.clamp(-self.bound, self.bound)
        sizes = x0.abs().flatten(1)
        count = max(1, math.ceil(self.threshold.dynamic * sizes.shape[1]))
        largest = _wide(sizes.kthvalue(count, 1).values.clamp(min=self.bound), x0)
        return x0.clamp(-largest, largest) * (self.bound / largest)


@dataclass(kw_only=True)
class Sampling(Guidance):
    """How videos are made: guidance, steps and their spacing."""

    steps: Annotated[int, Field(ge=1)] | None = None
    """Euler steps; null: V2's 256, 128 or 64 by the video's width (`steps_for`). V1: 128 for tables, 256 for pictures."""
    shift: Annotated[float, Field(gt=0)] | None = None
    """α of the times' shift; null: by the number of tokens (`resolution_shift`). Not stated by the papers."""


def steps_for(width: int) -> int:
    """V2's number of steps for videos of so many pixels across: 256 to 256 px, 128 to 512, 64 beyond (PAPER.md §5)."""
    return 256 if width <= 256 else 128 if width <= 512 else 64


Condition = Literal["IT", "I", "T", ""]
"""What a pass of the model is told: the images, the text, both or neither."""
Velocity = Callable[[Tensor, Tensor, Tensor | None, Condition], Tensor]
"""(z [B,C,T,H,W], t [B], an estimate or None, condition) → velocity [B,C,T,H,W]: a model with a batch's captions and images."""


def weights(guidance: Guidance, t: float) -> dict[Condition, float]:
    """How much of each pass's velocity makes the guided one at time t; they sum to 1.

    Passes with weight 0 are left out, but for the fully conditioned one: its estimate of x₀ is the sampler's.
    """
    low, high = guidance.interval
    if not low <= t <= high:
        return {"IT": 1.0}
    text, image = guidance.text_scale, guidance.image_scale
    shares: dict[Condition, float] = (
        {"IT": 1 + text + image, "I": -text, "T": -image}
        if guidance.form == "separate"
        else {"IT": image, "T": text - image, "": 1 - text}
    )
    return {condition: share for condition, share in shares.items() if share or condition == "IT"}


def guided(
    velocity: Velocity, z: Tensor, t: Tensor, self_conds: dict[Condition, Tensor], guidance: Guidance
) -> tuple[Tensor, dict[Condition, Tensor]]:
    """The guided velocity at one time t [B] (all alike), and each pass's own new estimate of x₀.

    A pass is given the estimate that the same pass made before, as in training (not stated by the papers): an estimate made with
    images would tell the pass without them what they show.
    """
    total, estimates = torch.zeros_like(z), {}
    for condition, weight in weights(guidance, float(t[0])).items():
        v = velocity(z, t, self_conds.get(condition), condition)
        total = total + weight * v
        estimates[condition] = estimate(z, v, t)
    return total, estimates


@torch.no_grad()
def steps(
    velocity: Velocity,
    noise: Tensor,
    count: int,
    shift: float,
    guidance: Guidance,
    self_conditioning: bool = True,
    schedule: Schedule | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Walk from noise [B,C,T,H,W] at t = 1 to t = 0 in `count` Euler steps; yields (z, estimate of x₀) after each."""
    times = (schedule or Schedule()).times(count, shift)
    z = noise
    self_conds: dict[Condition, Tensor] = {}
    for now, then in zip(times[:-1], times[1:], strict=True):
        t = now.to(z.device).expand(len(z))
        v, estimates = guided(velocity, z, t, self_conds if self_conditioning else {}, guidance)
        if guidance.threshold != "none":
            v = (z - guidance.limited(estimate(z, v, t))) / _wide(t, z)
        z, self_conds = z + (then - now).to(z.device) * v, estimates
        yield z, estimates["IT"]


def sample(
    velocity: Velocity,
    noise: Tensor,
    *,
    count: int,
    shift: float,
    guidance: Guidance,
    self_conditioning: bool = True,
    schedule: Schedule | None = None,
) -> Tensor:
    """Latents [B,C,T,H,W], float32, of new videos, one of each noise."""
    *_, (z, _) = steps(velocity, noise, count, shift, guidance, self_conditioning, schedule)
    return z
