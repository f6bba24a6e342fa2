"""Steps of training made by hand: clips that their slot and step alone decide, shared out as one likes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from curation.buckets import Bucket
from curation.trainer.batch import Batch, Reference
from curation.trainer.seeds import generator

BUCKET = Bucket(frames=9, width=80, height=16, batch=5)
"""15 tokens: no number of processes divides them."""
CLIPS = 5
"""In a step."""


def batch(step: int, slots: Sequence[int]) -> Batch:
    """Clips of noise, each with a caption and up to two references."""
    draws = [generator("clip", step, slot) for slot in slots]
    shape = (BUCKET.frames, 3, BUCKET.height, BUCKET.width)
    videos = [torch.randint(0, 256, shape, dtype=torch.uint8, generator=g) for g in draws]
    pictures = [torch.randint(0, 256, (2, 3, 20, 30), dtype=torch.uint8, generator=g) for g in draws]
    references = [
        [Reference(p, "dog", (2, 5), "subject") for p in pair[: slot % 3]] for slot, pair in zip(slots, pictures, strict=True)
    ]
    video = torch.stack(videos) if videos else torch.zeros(0, *shape, dtype=torch.uint8)
    captions = [" ".join(["a dog", *["in a hat"] * (slot % 2)]) for slot in slots]
    keys, zeros = [str(slot) for slot in slots], [0] * len(slots)
    return Batch(keys, video, captions, references, zeros, BUCKET, step, list(slots))


def steps(first: int, rank: int = 0, world: int = 1, parts: int = 1) -> Iterator[tuple[list[Batch], int]]:
    """Steps from `first` on, as `Trainer.run` takes them: the clips dealt out to world × parts micro-batches, some empty."""
    step = first
    while True:
        yield [batch(step, range(rank * parts + part, CLIPS, world * parts)) for part in range(parts)], CLIPS
        step += 1
