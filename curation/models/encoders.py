"""The frozen encoders: captions to token embeddings, reference images to patch tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from curation.models import dct
from curation.models.pretrained import WrongWeights, frozen, loaded
from curation.models.weights import IMAGE, TEXT

LENGTHS = {"minilm": 128, "t5": 256, "clip": 77, "umt5": 512, "t5-cogvideox": 226}
"""Tokens per caption. CLIP has no more positions; "umt5" and "t5-cogvideox" are those of Wan's and CogVideoX's pipelines; the
others are not stated by the paper."""
PADDED = ("t5-cogvideox",)
"""Text encoders whose padding is text like any other: CogVideoX was trained on T5's embeddings of pad tokens, without a mask."""

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation that DINOv2 and MAE were trained with (their preprocessor_config.json)."""
OPENAI = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""CLIP's (its preprocessor_config.json)."""
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)

PATCHES = 64
"""Side in pixels of the picture that "patches" sees: 8×8 patches of 8×8 pixels."""

Span = tuple[int, int]
"""[first, last) characters of a caption."""


@dataclass
class TextTokens:
    """Captions as embeddings [B,L,d_t], zero at the padding; which are tokens, bool [B,L]; and each token's characters.

    Special tokens are tokens, with the empty span (0, 0): an empty caption consists of them. So are those that fill up what
    "t5-cogvideox" reads. What exceeds L is cut.
    """

    embeddings: Tensor
    mask: Tensor
    offsets: list[list[Span]]


class TextEncoder:
    """A tokenizer and a network; gives the last hidden state of every token of the whole prompt."""

    def __init__(self, tokenizer: Any, network: Any, length: int, identity: str, padded: bool = False):
        """`padded`: the network reads L tokens of every caption, those that fill it up included (`PADDED`)."""
        self._tokenizer, self._network, self._padded = tokenizer, network, padded
        self._tokenizer.padding_side = self._tokenizer.truncation_side = "right"
        self.dim: int = network.config.hidden_size
        self.length = length
        """L: tokens per caption, padded or cut."""
        self.identity = identity
        """Two encoders that give the same embeddings have the same; for caches."""
        self.device: torch.device = network.device

    def __call__(self, captions: Sequence[str]) -> TextTokens:
        found = self._tokenizer(
            list(captions),
            padding="max_length" if self._padded else "longest",  # else the result is padded to L
            truncation=True,
            max_length=self.length,
            return_offsets_mapping=True,
            return_tensors="pt",
        )
        ids, mask = found["input_ids"].to(self.device), found["attention_mask"].to(self.device)
        if self._padded:
            mask = torch.ones_like(mask)
        with frozen(self.device):
            hidden = self._network(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        missing = self.length - ids.shape[1]
        offsets = [[(int(first), int(last)) for first, last in row] for row in found["offset_mapping"].tolist()]
        return TextTokens(
            F.pad(hidden.masked_fill(mask[..., None] == 0, 0.0), (0, 0, 0, missing)),
            F.pad(mask.bool(), (0, missing)),
            [row + [(0, 0)] * missing for row in offsets],
        )


def padded(encoded: Sequence[tuple[Tensor, Tensor]], length: int, device: torch.device) -> TextTokens:
    """Captions that were encoded before, as their encoder gives them: embeddings [n,d_t] and offsets [n,2] of each."""
    width = encoded[0][0].shape[1]
    embeddings, mask = torch.zeros(len(encoded), length, width), torch.zeros(len(encoded), length, dtype=torch.bool)
    offsets = []
    for row, (tokens, spans) in enumerate(encoded):
        count = len(tokens)
        embeddings[row, :count], mask[row, :count] = tokens.float(), True
        offsets.append([(first, last) for first, last in spans.tolist()] + [(0, 0)] * (length - count))
    return TextTokens(embeddings.to(device, non_blocking=True), mask.to(device, non_blocking=True), offsets)


def words_of(tokens: TextTokens, spans: Sequence[Sequence[Span | None]], count: int) -> Tensor:
    """For every sample and every span of its caption the tokens whose characters overlap it: [B,N,`count`,d_t].

    Zero-padded or cropped to `count` (PAPER.md §4). None and a span beyond the cut have no tokens. N: the longest row of `spans`.
    """
    index = torch.zeros(len(spans), max(map(len, spans), default=0), count, dtype=torch.long)
    there = torch.zeros(index.shape, dtype=torch.bool)
    for b, row in enumerate(spans):
        for n, span in enumerate(row):
            found = _within(tokens.offsets[b], span)[:count]
            index[b, n, : len(found)] = torch.tensor(found, dtype=torch.long)
            there[b, n, : len(found)] = True
    device = tokens.embeddings.device
    words = tokens.embeddings[torch.arange(len(spans), device=device)[:, None, None], index.to(device)]
    return words.masked_fill(~there.to(device)[..., None], 0.0)


def _within(offsets: Sequence[Span], span: Span | None) -> list[int]:
    """Positions of the tokens that overlap a span; an empty one overlaps nothing."""
    if span is None:
        return []
    return [i for i, (first, last) in enumerate(offsets) if max(first, span[0]) < min(last, span[1])]


def text_encoder(
    name: str,
    device: str | torch.device,
    folder: str | Path = "",
    digest: str = "",
    *,
    dtype: torch.dtype = torch.float32,
    length: int | None = None,
) -> TextEncoder:
    """ "minilm", "t5", "clip", "umt5" (Wan's) or "t5-cogvideox".

    `folder`: tokenizer and network; `digest`: what they are; `dtype`: the network's own. Raises `ValueError`
    (`WrongWeights`) when the weights are not what the name says.
    """
    if name not in TEXT:
        raise ValueError(f"no text encoder {name!r}; known: {', '.join(TEXT)}")
    folder = Path(folder)
    from transformers import AutoTokenizer, BertModel, CLIPTextModel, T5EncoderModel, UMT5EncoderModel

    kinds = {"minilm": BertModel, "clip": CLIPTextModel, "umt5": UMT5EncoderModel}
    cls = kinds.get(name, T5EncoderModel)
    network = loaded(cls, folder, device, dtype)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, ImportError) as error:
        hint = " (spiece.model needs the package sentencepiece)" if (folder / "spiece.model").exists() else ""
        raise WrongWeights(f"{folder}: no tokenizer{hint}: {' '.join(str(error).split())[:200]}") from error
    length = length or LENGTHS[name]
    if length > getattr(network.config, "max_position_embeddings", length):
        raise ValueError(f"{name} has {network.config.max_position_embeddings} positions, not {length}")
    return TextEncoder(tokenizer, network, length, f"{name}:{digest}:{dtype}:{length}", name in PADDED)


class ImageEncoder:
    """A network over square pictures; `tokens` patch tokens of `dim` numbers each, in rows from the top left."""

    def __init__(
        self,
        network: Callable[[Tensor], Tensor],
        device: str | torch.device,
        *,
        side: int,
        tokens: int,
        dim: int,
        normalise: tuple[Sequence[float], Sequence[float]],
        identity: str,
    ):
        """`network`: normalised float32 pictures [M,3,side,side] → [M,tokens,dim]."""
        self._network = network
        self._mean, self._std = (torch.tensor(values, device=device)[:, None, None] for values in normalise)
        self.device = self._mean.device
        self.side, self.tokens, self.dim, self.identity = side, tokens, dim, identity

    def __call__(self, images: Tensor) -> Tensor:
        """float [M,3,side,side] in 0..1, RGB → float32 [M,tokens,dim]."""
        if images.shape[1:] != (3, self.side, self.side):
            raise ValueError(f"pictures are [M,3,{self.side},{self.side}], not {list(images.shape)}; `fit` makes them so")
        with frozen(self.device):
            return self._network((images.to(self.device).float() - self._mean) / self._std).float()


def image_encoder(
    name: str, device: str | torch.device, folder: str | Path = "", digest: str = "", *, dtype: torch.dtype = torch.float32
) -> ImageEncoder:
    """ "dinov2" (256 tokens; CLS dropped), "clip" (256; second-to-last block), "mae" (196; nothing masked) or "patches" (64).

    The numbers are the ViT-L's of PAPER.md §4. `folder`, `digest`, `dtype` and errors as for `text_encoder`.
    """
    if name == "patches":
        return ImageEncoder(_Patches(device), device, side=PATCHES, tokens=64, dim=208, normalise=HALF, identity="patches")
    if name not in IMAGE:
        raise ValueError(f"no image encoder {name!r}; known: patches, {', '.join(IMAGE)}")
    from transformers import CLIPVisionModel, Dinov2Model, ViTMAEModel

    cls = {"dinov2": Dinov2Model, "clip": CLIPVisionModel, "mae": ViTMAEModel}[name]
    knobs = {"mask_ratio": 0.0} if name == "mae" else {}
    network = loaded(cls, Path(folder), device, dtype, **knobs)
    config = network.config
    side = 224 if name == "dinov2" else config.image_size  # DINOv2's positions are for 518 px; it interpolates them
    return ImageEncoder(
        lambda pictures: _TOKENS[name](network, pictures.to(dtype)),
        device,
        side=side,
        tokens=(side // config.patch_size) ** 2,
        dim=config.hidden_size,
        normalise=OPENAI if name == "clip" else IMAGENET,
        identity=f"{name}:{digest}:{dtype}",
    )


def _dinov2(network: Any, pictures: Tensor) -> Tensor:
    return network(pixel_values=pictures).last_hidden_state[:, 1:]


def _clip(network: Any, pictures: Tensor) -> Tensor:
    return network(pixel_values=pictures, output_hidden_states=True).hidden_states[-2][:, 1:]


def _mae(network: Any, pictures: Tensor) -> Tensor:
    """Tokens leave in the order of the noise that chooses what is masked, also when nothing is: so it rises."""
    count = (pictures.shape[-1] // network.config.patch_size) ** 2
    noise = torch.arange(count, device=pictures.device).expand(len(pictures), -1)
    return network(pixel_values=pictures, noise=noise).last_hidden_state[:, 1:]


_TOKENS: dict[str, Callable[[Any, Tensor], Tensor]] = {"dinov2": _dinov2, "clip": _clip, "mae": _mae}


class _Patches:
    """A picture's 8×8 patches under an orthonormal cosine transform, 192 numbers of roughly unit variance each, and 16 that say
    where the patch lies: its row and column, one-hot. Learned encoders know the place; without it there is a bag of patches."""

    def __init__(self, device: str | torch.device):
        self.rows = (dct.basis(1) / torch.tensor(dct.spread(1), dtype=torch.float64)[:, None]).float().to(device)
        ones = torch.eye(8, device=device)
        self.index = torch.cat([ones.repeat_interleave(8, 0), ones.repeat(8, 1)], 1)

    def __call__(self, pictures: Tensor) -> Tensor:
        patches = pictures.unflatten(3, (8, 8)).unflatten(2, (8, 8)).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        return torch.cat([patches @ self.rows.T, self.index.expand(len(pictures), -1, -1)], 2)


def fit(images: Sequence[Tensor], side: int) -> Tensor:
    """Pictures of any sizes, float [3,h,w] or [4,h,w] (alpha) in 0..1 → [M,3,side,side]: aspect kept, centred on white.

    Bicubic, antialiased; small ones are enlarged. The papers state no resizing; white is that of MP's crops (PAPER.md §6).
    """
    squares = [_square(image, side) for image in images]
    return torch.stack(squares) if squares else torch.zeros(0, 3, side, side)


def _square(image: Tensor, side: int) -> Tensor:
    if len(image) == 4:
        image = image[:3] * image[3:] + (1 - image[3:])
    height, width = image.shape[1:]
    size = [max(1, round(length * side / max(height, width))) for length in (height, width)]
    fitted = F.interpolate(image[None].float(), size, mode="bicubic", antialias=True, align_corners=False)[0].clamp(0, 1)
    top, left = ((side - length) // 2 for length in size)
    return F.pad(fitted, (left, side - size[1] - left, top, side - size[0] - top), value=1.0)
