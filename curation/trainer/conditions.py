"""What stands around the transformer: captions and reference images → what it is conditioned on; videos → latents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Protocol

import torch

from curation.buckets import Bucket
from curation.models.codecs import Codec, codec, pixels
from curation.models.encoders import LENGTHS, ImageEncoder, TextEncoder, fit, image_encoder, padded, text_encoder, words_of
from curation.shards.sidecar import Latents, Text
from curation.trainer import backbones
from curation.trainer.augment import Augment
from curation.trainer.batch import Batch, Reference
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
    null: tuple[torch.Tensor, torch.Tensor] | None = None
    """What stands for no text: embeddings [L,d_t] and mask [L] of the empty prompt, as pretrained backbones know it; None: zeros
    that are not there."""

    def without(self, text: torch.Tensor | bool = False, images: torch.Tensor | bool = False) -> Conditions:
        """The same with text or images set to zero (PAPER.md §5), for all samples or for those that a bool [B] names.

        The words an image is bound to are the prompt's, so they go with the text (not stated by the paper).
        """
        no_text, no_images = (torch.as_tensor(v, device=self.slots.device).expand(len(self.slots)) for v in (text, images))
        null, there = self.null or (torch.zeros_like(self.text[0]), torch.zeros_like(self.text_mask[0]))
        return replace(
            self,
            text=torch.where(no_text[:, None, None], null, self.text),
            text_mask=torch.where(no_text[:, None], there, self.text_mask),
            words=self.words.masked_fill((no_text | no_images)[:, None, None, None], 0.0),
            images=self.images.masked_fill(no_images[:, None, None, None], 0.0),
            slots=self.slots & ~no_images[:, None],
        )

    def keywords(self, cut: bool = True) -> dict[str, Any]:
        """As the model's arguments: cut to the longest text and the most images of the batch, and without a mask that hides
        nothing, so that attention is over what is there. Waits for the device. Uncut, shapes are always the same. Text that
        `null` stands in for stays whole: who knows an empty prompt reads the padding, too."""
        given = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "null"}
        if not cut:
            return given
        tokens, slots = self.text_mask.sum(1), self.slots.sum(1)  # both are filled from the first on
        (length, shortest), (count, least) = (torch.stack([n.max(), n.min()]).tolist() for n in (tokens, slots))
        length, count = max(1, length) if self.null is None else self.text.shape[1], max(1, count)
        return {
            "text": self.text[:, :length],
            "text_mask": None if shortest == length else self.text_mask[:, :length],
            "images": self.images[:, :count],
            "words": self.words[:, :count],
            "slots": None if least == count else self.slots[:, :count],
        }


class Encoding(Protocol):
    """What encodes captions and pictures."""

    image: ImageEncoder

    @property
    def text(self) -> TextEncoder: ...
    @property
    def text_length(self) -> int: ...


class Conditioner:
    """The frozen encoders at work: `slots` images a sample at most, each bound to `words` tokens of the prompt."""

    def __init__(
        self,
        encoders: Encoding,
        slots: int,
        words: int,
        augment: Augment | None = None,
        null: tuple[torch.Tensor, torch.Tensor] | None = None,
    ):
        """`null`: as of `Conditions`."""
        self.encoders, self.image, self.slots, self.words, self.augment = encoders, encoders.image, slots, words, augment
        self.null = null

    @torch.no_grad()
    def __call__(
        self,
        captions: Sequence[str],
        references: Sequence[Sequence[Reference]],
        generators: Sequence[torch.Generator] | None = None,
        encoded: Sequence[tuple[torch.Tensor, torch.Tensor]] | None = None,
    ) -> Conditions:
        """`generators`, one a clip, draw the augmentation; None leaves the images as they are. `encoded`: embeddings and offsets
        of the captions, where they were encoded before."""
        tokens = (
            self.encoders.text(captions) if encoded is None else padded(encoded, self.encoders.text_length, self.image.device)
        )
        device = tokens.embeddings.device
        spans = [[r.span for r in row[: self.slots]] for row in references]
        words = words_of(tokens, [row + [None] * (self.slots - len(row)) for row in spans], self.words)
        filled = [(b, n) for b, row in enumerate(spans) for n in range(len(row))]
        slots = torch.zeros(len(spans), self.slots, dtype=torch.bool, device=device)
        images = torch.zeros(len(spans), self.slots, self.image.tokens, self.image.dim, device=device)
        if filled:
            drawn: Sequence[torch.Generator | None] = generators or [None] * len(spans)
            pictures = [self._picture(references[b][n], device, drawn[b]) for b, n in filled]
            rows, columns = (torch.tensor(index, device=device) for index in zip(*filled, strict=True))
            slots[rows, columns] = True
            images[rows, columns] = self.image(fit(pictures, self.image.side)).to(images.dtype)
        return Conditions(tokens.embeddings, tokens.mask, images, words, slots, self.null)

    def _picture(self, reference: Reference, device: torch.device, generator: torch.Generator | None) -> torch.Tensor:
        picture = reference.image.to(device).float() / 255
        return picture if self.augment is None or generator is None else self.augment(picture, generator)


class Parts:
    """The frozen networks of a recipe on one device, and the sizes that follow from them.

    Text encoder and codec are loaded when they are first asked for: training on what was encoded before needs neither."""

    def __init__(self, config: Config, device: torch.device, latents: Latents | None = None, text: Text | None = None):
        """`latents`, `text`: of sidecars. Raises `TrainerError`, `StoreError`."""
        self.device, self.config, self.encoded = device, config, latents
        self._kind = torch.bfloat16 if device.type == "cuda" else torch.float32
        names = config.encoders
        if latents:
            _agree("codec", latents.facts["codec"], names.codec_identity())
        if text:
            _agree("encoder", text.facts["encoder"], names.text_identity())
        with _one_line():
            self.image = image_encoder(names.image, device, *names.folder("image"), dtype=self._kind)
        self.schedule = backbones.schedule(config.model)
        self.size = config.model.size_with(
            channels=latents.facts["channels"] if latents else self.codec.channels,
            text_dim=text.facts["dim"] if text else self.text.dim,
            image_dim=self.image.dim,
            image_tokens=self.image.tokens,
        )
        null = None
        if config.model.backbone != "own":
            empty = self.text([""])
            null = empty.embeddings[0], empty.mask[0]
            if text:
                del self.text  # no more captions come; a video to be made loads it again
        augment = config.augment if config.augment.enabled else None
        self.conditioner = Conditioner(self, self.size.slots, self.size.words, augment, null)

    @cached_property
    def text(self) -> TextEncoder:
        names = self.config.encoders
        with _one_line():
            return text_encoder(names.text, self.device, *names.folder("text"), dtype=self._kind, length=names.text_length)

    @cached_property
    def codec(self) -> Codec:
        names = self.config.encoders
        with _one_line():
            return codec(names.codec, self.device, *names.folder("codec"), dtype=self._kind)

    @property
    def text_length(self) -> int:
        """Tokens of a caption, padded or cut."""
        return self.config.encoders.text_length or LENGTHS[self.config.encoders.text]

    def shape(self, bucket: Bucket) -> tuple[int, int, int, int]:
        """C, T, H, W of a bucket's latents."""
        return self.encoded.shape(bucket.name) if self.encoded else self.codec.shape(bucket.frames, bucket.height, bucket.width)

    @torch.no_grad()
    def latents(self, batch: Batch) -> torch.Tensor:
        """The codec's latents of a batch's videos, float32 [B,C,T,H,W]."""
        if batch.latents is not None:
            return batch.latents.to(self.device, non_blocking=True)
        assert batch.video is not None
        return self.codec.encode(pixels(batch.video.to(self.device, non_blocking=True)))


@contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise TrainerError(f"encoders: {error}") from error


def _agree(what: str, theirs: str, ours: str) -> None:
    """Of sidecars: the same network, in whatever arithmetic. Raises `TrainerError`."""
    if [part for part in theirs.split(":") if not part.startswith("torch.")] != ours.split(":"):
        raise TrainerError(f"the sidecars were written by the {what} {theirs}, the recipe's is {ours}")
