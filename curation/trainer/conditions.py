"""What stands around the transformer: captions and reference images → what it is conditioned on; videos → latents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from curation.models.codecs import codec, pixels
from curation.models.encoders import ImageEncoder, TextEncoder, fit, image_encoder, text_encoder, words_of
from curation.trainer.augment import Augment
from curation.trainer.batch import Batch, Reference
from curation.trainer.cache import Cache, CachedText, Entry
from curation.trainer.config import Config
from curation.trainer.errors import TrainerError


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
        filled = [(b, n) for b, row in enumerate(spans) for n in range(len(row))]
        slots = torch.zeros(len(spans), self.slots, dtype=torch.bool, device=device)
        images = torch.zeros(len(spans), self.slots, self.image.tokens, self.image.dim, device=device)
        if filled:
            pictures = [self._picture(references[b][n], device, generator) for b, n in filled]
            rows, columns = (torch.tensor(index, device=device) for index in zip(*filled, strict=True))
            slots[rows, columns] = True
            images[rows, columns] = self.image(fit(pictures, self.image.side)).to(images.dtype)
        return Conditions(tokens.embeddings, tokens.mask, images, words, slots)

    def _picture(self, reference: Reference, device: torch.device, generator: torch.Generator | None) -> torch.Tensor:
        picture = reference.image.to(device).float() / 255
        return picture if self.augment is None or generator is None else self.augment(picture, generator)


class Parts:
    """The frozen networks of a recipe on one device, and the sizes that follow from them."""

    def __init__(self, config: Config, device: torch.device, shards: str | None = None):
        """`shards`: where the recipe's cache lies, if it wants one. Raises `TrainerError`, `StoreError`."""
        names, self.device, self.config = config.encoders, device, config
        kind = torch.bfloat16 if device.type == "cuda" else torch.float32
        text, image, video = names.folders()
        try:
            self.text: TextEncoder | CachedText = text_encoder(names.text, device, *text, dtype=kind, length=names.text_length)
            self.image = image_encoder(names.image, device, *image, dtype=kind)
            self.codec = codec(names.codec, device, *video, dtype=kind)
        except ValueError as error:
            raise TrainerError(f"encoders: {error}") from error
        self.cache = cache_beside(shards, config) if names.cache and shards is not None else None
        self._latents: dict[str, Cache] = {}
        if self.cache:
            self.text = CachedText(self.text, self.cache)
        self.size = config.model.size_with(
            channels=self.codec.channels, text_dim=self.text.dim, image_dim=self.image.dim, image_tokens=self.image.tokens
        )
        self.conditioner = Conditioner(self.text, self.image, self.size.slots, self.size.words, config.augment)

    @torch.no_grad()
    def latents(self, batch: Batch) -> torch.Tensor:
        """The codec's latents of a batch's videos, [B,C,T,H,W]; out of the cache where they are there."""
        if self.cache is None:
            return self.codec.encode(pixels(batch.video.to(self.device)))

        def make(missing: list[int]) -> list[Entry]:
            return [{"latents": z} for z in self.codec.encode(pixels(batch.video[missing].to(self.device)))]

        name = batch.bucket.name
        if name not in self._latents:
            facts = {"codec": self.codec.identity, "bucket": name, "fps": self.config.data.fps}
            self._latents[name] = Cache(self.cache, facts)
        entries = self._latents[name].get_or_make(
            [f"{k} {first}" for k, first in zip(batch.keys, batch.firsts, strict=True)], make
        )
        return torch.stack([entry["latents"] for entry in entries]).to(self.device)


def cache_beside(shards: str, config: Config) -> Path:
    """`cache/` in the run directory or the folder of shards. Raises `TrainerError` where nothing can be kept, or would never be
    found again."""
    if not Path(shards).is_dir():
        raise TrainerError(f"encoders.cache: {shards} is no folder on this machine: the cache lies beside the shards")
    if config.data.start != "first" or config.data.crop != "centre":
        raise TrainerError("encoders.cache needs data: {start: first, crop: centre}: other frames each time have other latents")
    return Path(shards) / "cache"
