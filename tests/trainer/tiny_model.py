"""A transformer that a test can afford, and something to give it."""

from __future__ import annotations

from typing import Any

import torch

from curation.trainer.model import Architecture, DiT, Size

SHAPE = (2, 3, 2, 4, 6)
"""Latents: two videos, three channels, 2 × 4 × 6."""


def size(**knobs: Any) -> Size:
    """Two blocks of 32 channels, three slots of five tokens, words of two; no dropout."""
    small = {"size": "tiny", "width": 32, "blocks": 2, "heads": 2, "slots": 3, "words": 2, "dropout": 0.0}
    return Architecture(**small | knobs).size_with(channels=3, text_dim=7, image_dim=10, image_tokens=5)


def model(seed: int = 0, **knobs: Any) -> DiT:
    """One whose zeros have become numbers, as training makes them."""
    made = DiT(size(**knobs))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            if not parameter.any():
                parameter.normal_(std=0.2, generator=generator)
    return made


def inputs(seed: int = 0) -> dict[str, torch.Tensor]:
    """Arguments of `DiT.forward`; the second video has a shorter text and an empty slot."""
    g = torch.Generator().manual_seed(seed)
    text_mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    slots = torch.tensor([[True, True, True], [True, False, True]])
    return {
        "z": torch.randn(SHAPE, generator=g),
        "t": torch.tensor([0.3, 0.9]),
        "text": torch.randn(2, 6, 7, generator=g),
        "text_mask": text_mask,
        "images": torch.randn(2, 3, 5, 10, generator=g),
        "words": torch.randn(2, 3, 2, 7, generator=g),
        "slots": slots,
        "self_cond": torch.randn(SHAPE, generator=g),
    }
