"""Buckets: a batch has one number of frames and one size. Which bucket a clip goes to, and the papers' tables of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Protocol

import numpy as np
from pydantic import ConfigDict, Discriminator, Field, Tag

FRAMES_STEP, SIDE_STEP = 4, 16
"""Frames ≡ 1 mod 4 and sides of 16 px: the autoencoder's 4×8×8 (PAPER.md §4) and 2×2 patches."""
MOST = 64
"""Buckets: one bit of a number each."""
EARLY = 1e-4
"""Of a frame: what a rate that a ledger holds in 32 bits may be off."""


class Video(Protocol):
    """What is asked of a clip's video: pixels, frames, frames per second of time."""

    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def fps(self) -> float: ...
    @property
    def frames(self) -> int: ...


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """Batches of one shape."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid", strict=True)

    frames: Annotated[int, Field(ge=1)]
    """Frames at the loader's rate, ≡ 1 mod 4 or 8, as the codec takes them (the papers': mod 8)."""
    width: Annotated[int, Field(ge=SIDE_STEP)]
    """Pixels, a multiple of 16 ("magvit": 32)."""
    height: Annotated[int, Field(ge=SIDE_STEP)]
    """Pixels, a multiple of 16 ("magvit": 32)."""
    batch: Annotated[int, Field(ge=1)] = 1
    """Clips per step, over all processes, however many they are."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Share of the steps, relative to the other buckets'."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of a clip's pixels, [F,3,H,W]."""
        return self.frames, 3, self.height, self.width

    @property
    def name(self) -> str:
        """`17x512x288`: frames, width, height."""
        return f"{self.frames}x{self.width}x{self.height}"


def _is_table(value: Any) -> str:
    return "table" if isinstance(value, str) else "list"


Buckets = Annotated[Annotated[list[Bucket], Tag("list")] | Annotated[Literal["v1", "v2"], Tag("table")], Discriminator(_is_table)]
"""Of a recipe: a list, or the name of one of `TABLES`."""


def check(buckets: Sequence[Bucket], frames_step: int = FRAMES_STEP, side_step: int = SIDE_STEP) -> None:
    """Raises `ValueError` unless there are buckets, at most 64, and every shape can be encoded and stands once.

    `frames_step`: frames are one more than a multiple of it; `side_step`: sides are one; both by the codec and the patches.
    """
    if not buckets:
        raise ValueError("no buckets: name at least one {frames, width, height, batch, weight}")
    if len(buckets) > MOST:
        raise ValueError(f"{len(buckets)} buckets: there are at most {MOST}")
    for bucket in buckets:
        if bucket.frames % frames_step != 1:
            near, many = bucket.frames // frames_step * frames_step + 1, f"{bucket.frames} frames"
            raise ValueError(f"bucket {bucket.name}: {many} are not 1 more than a multiple of {frames_step}; {near} are")
        if bucket.width % side_step or bucket.height % side_step:
            raise ValueError(f"bucket {bucket.name}: sides must be multiples of {side_step}")
    names = [b.name for b in buckets]
    if doubled := next((n for n in names if names.count(n) > 1), None):
        raise ValueError(f"bucket {doubled} stands twice")


def fits(
    buckets: Sequence[Bucket],
    width: np.ndarray,
    height: np.ndarray,
    rate: np.ndarray,
    frames: np.ndarray,
    fps: float,
    upscale: bool,
    min_kept: float,
) -> tuple[np.ndarray, dict[str, int]]:
    """Of many clips, [N] each: which buckets they can fill, uint64 (bit i: the i-th), and how many fill none for which reason:
    too_short, too_small or too_much_cropped, what fails first. `rate`: their frames per second, `fps`: the model's."""
    mask = np.zeros(len(width), np.uint64)
    long, large = np.zeros((2, len(width)), bool)
    there = 1 + np.floor((frames - 1) / rate.astype(np.float64) * fps + EARLY)
    shape = width.astype(np.float64) / height
    for number, bucket in enumerate(buckets):
        enough = bucket.frames <= there
        size = enough & (upscale | ((bucket.width <= width) & (bucket.height <= height)))
        ratio = shape * bucket.height / bucket.width
        mask |= (size & (np.minimum(ratio, 1 / ratio) >= min_kept)).astype(np.uint64) << np.uint64(number)
        long, large = long | enough, large | size
    none = mask == 0
    counts = {"too_short": none & ~long, "too_small": none & long & ~large, "too_much_cropped": none & large}
    return mask, {reason: int(found.sum()) for reason, found in counts.items() if found.any()}


def fitting(buckets: Sequence[Bucket], video: Video, fps: float, upscale: bool, min_kept: float) -> tuple[list[Bucket], str]:
    """The buckets that a clip can fill, or none and the reason."""
    width, height, rate, frames = (np.array([value]) for value in (video.width, video.height, video.fps, video.frames))
    (mask,), reasons = fits(buckets, width, height, rate, frames, fps, upscale, min_kept)
    return [bucket for number, bucket in enumerate(buckets) if int(mask) >> number & 1], next(iter(reasons), "")


def _table(width: int, height: int, cells: dict[int, tuple[int, float]]) -> list[Bucket]:
    return [Bucket(frames=f, width=width, height=height, batch=b, weight=w) for f, (b, w) in cells.items()]


TABLES: dict[str, list[Bucket]] = {
    "v1": [
        *_table(512, 288, {17: (2048, 40), 49: (832, 1.5), 73: (512, 1.5), 97: (448, 1.5), 121: (384, 1.5), 145: (256, 1.5)}),
        *_table(512, 288, {193: (192, 0.83), 289: (128, 0.83), 385: (64, 0.83)}),
        *_table(1024, 576, {17: (512, 40), 49: (192, 2.5), 73: (128, 2.5), 97: (64, 2.5), 121: (64, 2.5)}),
    ],
    "v2": [
        *_table(256, 144, {17: (1216, 10), 49: (464, 3.3), 73: (320, 3.3), 97: (240, 3.3), 121: (192, 3.3), 145: (160, 3.3)}),
        *_table(256, 144, {193: (128, 3.3), 289: (80, 3.3)}),
        *_table(512, 288, {17: (304, 10), 49: (112, 5.8), 73: (80, 5.8), 97: (64, 5.8), 121: (48, 5.8)}),
        *_table(1024, 576, {17: (80, 10), 49: (32, 5.8), 73: (16, 5.8), 97: (16, 5.8), 121: (16, 5.8)}),
    ],
}
"""Batch sizes and weights in per cent of PAPER.md §5: V1's stages II and III, V2's stage II."""
