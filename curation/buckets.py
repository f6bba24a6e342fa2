"""Buckets: a batch has one number of frames and one size. Which bucket a clip goes to, and the papers' tables of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Protocol

from pydantic import ConfigDict, Discriminator, Field, Tag

FRAMES_STEP, SIDE_STEP = 4, 16
"""Frames ≡ 1 mod 4 and sides of 16 px: the autoencoder's 4×8×8 (PAPER.md §4) and 2×2 patches."""


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
    """Frames at the loader's rate, ≡ 1 mod 4 (the papers': mod 8)."""
    width: Annotated[int, Field(ge=SIDE_STEP)]
    """Pixels, a multiple of 16."""
    height: Annotated[int, Field(ge=SIDE_STEP)]
    """Pixels, a multiple of 16."""
    batch: Annotated[int, Field(ge=1)] = 1
    """Clips per step, over all processes."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Share of the steps, relative to the other buckets'."""

    @property
    def name(self) -> str:
        """`17x512x288`: frames, width, height."""
        return f"{self.frames}x{self.width}x{self.height}"


def _is_table(value: Any) -> str:
    return "table" if isinstance(value, str) else "list"


Buckets = Annotated[Annotated[list[Bucket], Tag("list")] | Annotated[Literal["v1", "v2"], Tag("table")], Discriminator(_is_table)]
"""Of a recipe: a list, or the name of one of `TABLES`."""


def check(buckets: Sequence[Bucket], world: int) -> None:
    """Raises `ValueError` unless every shape can be encoded, stands once, and its batch divides by `world` processes."""
    if not buckets:
        raise ValueError("no buckets: name at least one {frames, width, height, batch, weight}")
    for bucket in buckets:
        if bucket.frames % FRAMES_STEP != 1:
            near = bucket.frames // FRAMES_STEP * FRAMES_STEP + 1
            raise ValueError(f"bucket {bucket.name}: {bucket.frames} frames are not 1 more than a multiple of 4; {near} are")
        if bucket.width % SIDE_STEP or bucket.height % SIDE_STEP:
            raise ValueError(f"bucket {bucket.name}: sides must be multiples of {SIDE_STEP}")
        if bucket.batch % world:
            fits = [n for n in range(1, world) if all(b.batch % n == 0 for b in buckets)]
            hint = f"these buckets suit {', '.join(map(str, fits))}"
            raise ValueError(f"bucket {bucket.name}: a batch of {bucket.batch} does not divide by {world} processes; {hint}")
    names = [b.name for b in buckets]
    if doubled := next((n for n in names if names.count(n) > 1), None):
        raise ValueError(f"bucket {doubled} stands twice")


def frames_at(video: Video, fps: float) -> int:
    """Frames of a clip resampled to `fps` from its first frame to its last."""
    return 1 + math.floor((video.frames - 1) / video.fps * fps + 1e-6)


def kept_share(video: Video, bucket: Bucket) -> float:
    """Share of a picture's area, 0 to 1, that is left when it is scaled to cover the bucket's size and cropped to it."""
    ratio = video.width * bucket.height / (video.height * bucket.width)
    return min(ratio, 1 / ratio)


def fitting(buckets: Sequence[Bucket], video: Video, fps: float, upscale: bool, min_kept: float) -> tuple[list[Bucket], str]:
    """The buckets a clip can fill, or none and the reason: too_short, too_small or too_much_cropped, what fails first."""
    fits = [b for b in buckets if b.frames <= frames_at(video, fps)]
    if not fits:
        return [], "too_short"
    fits = [b for b in fits if upscale or (b.width <= video.width and b.height <= video.height)]
    if not fits:
        return [], "too_small"
    fits = [b for b in fits if kept_share(video, b) >= min_kept]
    return fits, "" if fits else "too_much_cropped"


def pick(buckets: Sequence[Bucket], draw: float) -> Bucket:
    """One of `buckets` for a `draw` in [0, 1), with probability ∝ weight × batch.

    A step of a bucket takes `batch` clips, so a bucket that gets clips ∝ weight × batch makes steps ∝ weight, as far as clips fit
    all buckets; those that fit only short or small ones shift the shares towards these.
    """
    shares = [b.weight * b.batch for b in buckets]
    left = draw * sum(shares)
    for bucket, share in zip(buckets, shares, strict=True):
        left -= share
        if left < 0:
            return bucket
    return buckets[-1]


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
"""Batch sizes and weights in per cent of PAPER.md §5. V1's divide by 64 processes, V2's by 16 (of 64 GPUs: four to a process)."""
