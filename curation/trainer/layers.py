"""Layers of the transformer: attention over the video itself, with rotary places in time, height and width; attention over a
context; and the binding of a reference image to the word it stands for (PAPER.md §4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, rms_norm, scaled_dot_product_attention

BASE = 10_000.0
"""Largest wavelength of the rotary embedding over 2π, in patches. RoFormer's; not stated by the papers."""
Grid = tuple[int, int, int]
"""Patches in time, height and width."""
Rope = tuple[Tensor, Tensor]
"""Cosines and sines, each [T·H·W, head/2], float32."""


def rope(grid: Grid, head: int, device: torch.device | None = None) -> Rope:
    """Rotations of queries and keys by a patch's place (PAPER.md §4).

    Of a head's `head` channels (a multiple of 16) a quarter turns with time, three eighths with height and as many with width, as
    in CogVideoX (not stated by the papers). Places are integers on the patch grid, whatever the resolution. Row n is patch n in
    the order time, height, width.
    """
    places = torch.meshgrid(*(torch.arange(n, device=device, dtype=torch.float32) for n in grid), indexing="ij")
    rotary = []
    for place, share in zip(places, (head // 4, head * 3 // 8, head * 3 // 8), strict=True):
        frequencies = BASE ** (-torch.arange(0, share, 2, device=device, dtype=torch.float32) / share)
        rotary.append(place.reshape(-1, 1) * frequencies)
    angles = torch.cat(rotary, 1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, rotary: Rope) -> Tensor:
    """Turn channel pairs (i, i + head/2) of x [B, heads, T·H·W, head]; float32 out, because bfloat16 blurs far places."""
    cos, sin = rotary
    a, b = x.float().chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


class HeadNorm(nn.RMSNorm):
    """RMS norm of the last channels, in their own type: under autocast torch's would fall back to a slow kernel."""

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class Attention(nn.Module):
    """What both kinds share: heads, an optional norm of queries and keys, the way out."""

    def __init__(self, width: int, heads: int, qk_norm: bool):
        super().__init__()
        self.heads = heads
        self.q_norm, self.k_norm = ((HeadNorm(width // heads, eps=1e-6) if qk_norm else nn.Identity()) for _ in range(2))
        self.out = nn.Linear(width, width)

    def split(self, x: Tensor) -> Tensor:
        """[B, tokens, width] → [B, heads, tokens, head]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix values [B, heads, tokens, head] and project to [B, queries, width]."""
        mixed = scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, attn_mask=mask)
        return self.out(mixed.transpose(1, 2).flatten(2))


class SelfAttention(Attention):
    """Every patch of a video looks at every other."""

    def __init__(self, width: int, heads: int, qk_norm: bool):
        super().__init__(width, heads, qk_norm)
        self.qkv = nn.Linear(width, 3 * width)

    def forward(self, x: Tensor, rotary: Rope) -> Tensor:
        """x [B, tokens, width] → the same shape."""
        q, k, v = map(self.split, self.qkv(x).chunk(3, -1))
        return self.attend(rotate(self.q_norm(q), rotary), rotate(self.k_norm(k), rotary), v)


class CrossAttention(Attention):
    """Every patch looks at a context that has `context` channels: the text's tokens, or the reference images'."""

    def __init__(self, width: int, heads: int, qk_norm: bool, context: int):
        super().__init__(width, heads, qk_norm)
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(context, 2 * width)

    def forward(self, x: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """x [B, tokens, width], context [B, L, context], mask bool [B, L] (False: not there) → the shape of x.

        Where nothing is there the answer is zero, bias and all: the layer is as good as absent.
        """
        there = mask.any(-1)[:, None, None]
        k, v = map(self.split, self.kv(context).chunk(2, -1))
        seen = (mask[:, None] | ~there)[:, None]  # a row that may look at nothing is NaN in some kernels
        mixed = self.attend(self.q_norm(self.split(self.q(x))), self.k_norm(k), v, seen)
        return mixed.masked_fill(~there, 0.0)


class Binding(nn.Module):
    """f_n = Linear([x_n, w_n repeated for each token]) + x_n + index_n, for all slots one after the other.

    x_n are image n's tokens of `image_dim` channels; w_n its word's `words` tokens of `text_dim` channels out of the full
    prompt's embeddings, zero-padded or cropped to that many and flattened. The Linear is shared by all slots, `index` is learnt,
    one vector per slot. `use_words=False` leaves w_n out: the papers' ablation.
    """

    def __init__(self, *, image_dim: int, text_dim: int, words: int, slots: int, use_words: bool = True):
        super().__init__()
        self.image_dim, self.use_words = image_dim, use_words
        self.linear = nn.Linear(image_dim + words * text_dim * use_words, image_dim)
        self.index = nn.Parameter(torch.zeros(slots, image_dim))

    def forward(self, images: Tensor, words: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
        """images [B,N,l,image_dim], words [B,N,K,text_dim], slots bool [B,N] → tokens [B,N·l,image_dim], mask bool [B,N·l].

        N may be less than `slots`. Tokens of an empty slot are zero and masked.
        """
        of_image, of_words = self.linear.weight.split([self.image_dim, self.linear.in_features - self.image_dim], 1)
        bound = linear(images, of_image, self.linear.bias) + images + self.index[: images.shape[1], None].to(images.dtype)
        if self.use_words:  # the word is the same for all tokens of an image: project it once, not l times
            bound = bound + linear(words.flatten(2), of_words)[:, :, None]
        bound = bound.masked_fill(~slots[:, :, None, None], 0.0)
        return bound.flatten(1, 2), slots.repeat_interleave(images.shape[2], 1)
