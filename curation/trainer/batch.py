"""What the loader gives: clips of one shape with their captions and reference pictures."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

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


@dataclass
class Batch:
    """Clips of one bucket: what one process computes at once, a part of a step's. It may be none, so that all compute alike."""

    keys: list[str]
    video: Tensor | None
    """uint8 RGB [B, F, 3, H, W] at the loader's frame rate; None where there are latents instead."""
    captions: list[str]
    references: list[list[Reference]]
    """Of each clip, at most as many as there are slots; may be none."""
    firsts: list[int]
    """Number of the clip's own frame at which it was cut, of each clip."""
    bucket: Bucket
    step: int
    """From 0."""
    slots: list[int]
    """Place of each clip in the step, over all processes, 0 … the bucket's batch − 1: with the seed and the step it alone decides
    what is drawn for the clip."""
    latents: Tensor | None = None
    """[B, C, T, H, W], encoded before."""
    text: list[tuple[Tensor, Tensor]] | None = None
    """Of each caption the embeddings of its tokens [n, d_t], and int [n, 2], [first, last) characters of each, encoded before."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Clips that could not be read and gave way to others, by reason."""

    def pin_memory(self) -> Batch:
        """For DataLoader's pin_memory: tensors in page-locked memory, for copies that overlap with computing."""
        self.video = self.video.pin_memory() if self.video is not None else None
        self.latents = self.latents.pin_memory() if self.latents is not None else None
        self.references = [[replace(r, image=r.image.pin_memory()) for r in row] for row in self.references]
        return self
