"""Captions and reference images → what the DiT is conditioned on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from curation.trainer.augment import Augment
from curation.trainer.batch import Reference
from curation.trainer.cache import CachedText
from curation.trainer.encoders import ImageEncoder, TextEncoder, fit, words_of


@dataclass
class Conditions:
    """One batch's."""

    text: torch.Tensor
    """Embeddings of the caption's tokens, [B,L,d_t]."""
    text_mask: torch.Tensor
    """Which of them are tokens, bool [B,L]."""
    images: torch.Tensor
    """Tokens of the reference images, [B,N,l,d]."""
    words: torch.Tensor
    """Those of the word that each image is bound to, [B,N,K,d_t]."""
    slots: torch.Tensor
    """Which slots hold an image, bool [B,N]."""

    def without(self, text: torch.Tensor | bool = False, images: torch.Tensor | bool = False) -> Conditions:
        """The same with text or images set to zero (PAPER.md §5), for all samples or for those that a bool [B] names.

        The words an image is bound to are the prompt's, so they go with the text (not stated by the paper).
        """
        no_text, no_images = (torch.as_tensor(v, device=self.slots.device).expand(len(self.slots)) for v in (text, images))
        return replace(
            self,
            text=self.text.masked_fill(no_text[:, None, None], 0.0),
            text_mask=self.text_mask & ~no_text[:, None],
            words=self.words.masked_fill((no_text | no_images)[:, None, None, None], 0.0),
            images=self.images.masked_fill(no_images[:, None, None, None], 0.0),
            slots=self.slots & ~no_images[:, None],
        )

    def keywords(self) -> dict[str, Any]:
        """As the model's arguments."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


class Conditioner:
    """The frozen encoders at work: `slots` images a sample at most, each bound to `words` tokens of the prompt."""

    def __init__(
        self, text: TextEncoder | CachedText, image: ImageEncoder, slots: int, words: int, augment: Augment | None = None
    ):
        self.text, self.image, self.slots, self.words, self.augment = text, image, slots, words, augment

    @torch.no_grad()
    def __call__(
        self, captions: Sequence[str], references: Sequence[Sequence[Reference]], generator: torch.Generator | None = None
    ) -> Conditions:
        """`generator` seeds the augmentation; None leaves the images as they are."""
        tokens = self.text(captions)
        device = tokens.embeddings.device
        spans = [[r.span for r in row[: self.slots]] for row in references]
        words = words_of(tokens, [row + [None] * (self.slots - len(row)) for row in spans], self.words)
        place = [(b, n) for b, row in enumerate(spans) for n in range(len(row))]
        slots = torch.zeros(len(spans), self.slots, dtype=torch.bool, device=device)
        images = torch.zeros(len(spans), self.slots, self.image.tokens, self.image.dim, device=device)
        if place:
            pictures = [self._picture(references[b][n], device, generator) for b, n in place]
            rows, columns = (torch.tensor(index, device=device) for index in zip(*place, strict=True))
            slots[rows, columns] = True
            images[rows, columns] = self.image(fit(pictures, self.image.side)).to(images.dtype)
        return Conditions(tokens.embeddings, tokens.mask, images, words, slots)

    def _picture(self, reference: Reference, device: torch.device, generator: torch.Generator | None) -> torch.Tensor:
        picture = reference.image.to(device).float() / 255
        return picture if self.augment is None or generator is None else self.augment(picture, generator)
