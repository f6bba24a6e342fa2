"""What the loader gives: clips of one shape with their captions and reference pictures, and where in the data they come from."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from torch import Tensor

from curation.buckets import Bucket
from curation.trainer.references import Kind


@dataclass(frozen=True)
class Reference:
    """A picture of something in the clip."""

    image: Tensor
    """uint8 RGB [3, h, w] of any size; a cut-out stands on white."""
    word: str
    span: tuple[int, int] | None
    """[first, last) character of the word in the caption; None: bound to no word."""
    kind: Kind


@dataclass(frozen=True)
class Position:
    """The `index`-th batch that a worker planned in an epoch, from 0."""

    worker: int
    epoch: int
    index: int


@dataclass
class Batch:
    """Clips of one bucket."""

    keys: list[str]
    video: Tensor
    """uint8 RGB [B, F, 3, H, W] at the loader's frame rate."""
    captions: list[str]
    references: list[list[Reference]]
    """Of each clip, at most as many as there are slots; may be none."""
    firsts: list[int]
    """Number of the clip's own frame at which it was cut, of each clip."""
    bucket: Bucket
    position: Position
    skipped: Counter[str] = field(default_factory=Counter)
    """Clips passed over since this worker's last batch, by reason."""

    def pin_memory(self) -> Batch:
        """For DataLoader's pin_memory: the video in page-locked memory, for copies that overlap with computing."""
        self.video = self.video.pin_memory()
        return self


@dataclass
class Ended:
    """A worker has come to the end of its part of an epoch. Never leaves the loader."""

    position: Position
    skipped: Counter[str]
