"""What a recipe puts together around the transformer: encoders, codec, conditioner, caches."""

from __future__ import annotations

from pathlib import Path

import torch

from curation.trainer.batch import Batch
from curation.trainer.cache import Cache, CachedText, Entry
from curation.trainer.codecs import codec
from curation.trainer.conditions import Conditioner
from curation.trainer.config import Config
from curation.trainer.encoders import TextEncoder, image_encoder, text_encoder
from curation.trainer.errors import TrainerError


class Parts:
    """The frozen networks of a recipe on one device, and the sizes that follow from them."""

    def __init__(self, config: Config, device: torch.device, shards: str | None = None):
        """`shards`: where the recipe's cache lies, if it wants one. Raises `TrainerError`, `StoreError`."""
        names, self.device, self.config = config.encoders, device, config
        kind = torch.bfloat16 if device.type == "cuda" else torch.float32
        self.text: TextEncoder | CachedText = text_encoder(
            names.text, device, weights=names.text_weights, dtype=kind, length=names.text_length
        )
        self.image = image_encoder(names.image, device, weights=names.image_weights, dtype=kind)
        self.codec = codec(names.codec, device, weights=names.codec_weights, dtype=kind)
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


def pixels(video: torch.Tensor) -> torch.Tensor:
    """uint8 [B,F,3,H,W] → float [B,3,F,H,W] in −1..1, the codecs' input."""
    return video.transpose(1, 2).float() / 127.5 - 1


def pictures(video: torch.Tensor) -> torch.Tensor:
    """Back: float [B,3,F,H,W] in −1..1 → uint8 [B,F,3,H,W]."""
    return ((video.transpose(1, 2).float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
