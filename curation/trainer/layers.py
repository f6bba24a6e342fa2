"""Layers of the transformer: attention over the video itself, with rotary places in time, height and width; attention over a
context; the binding of a reference image to the word it stands for (PAPER.md §4); and the residual around each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import ConfigDict, Discriminator, Field, Tag
from torch import Tensor, nn
from torch.distributed import ProcessGroup
from torch.nn.functional import linear, pad, rms_norm, scaled_dot_product_attention
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

from curation.trainer.distributed import exchanged

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

    def joined(self, mixed: Tensor) -> Tensor:
        """[B, heads, tokens, head] → [B, tokens, width], projected."""
        return self.out(mixed.transpose(1, 2).flatten(2))


class SelfAttention(Attention):
    """Every patch of a video looks at every other, or at those in a window around it."""

    context_group: ProcessGroup | None = None
    """Processes that have a share each of a video's tokens (context parallelism, `distributed.parallelize`)."""

    def __init__(self, width: int, heads: int, qk_norm: bool, window: int | None = None):
        super().__init__(width, heads, qk_norm)
        self.qkv, self.window = nn.Linear(width, 3 * width), window

    def forward(self, x: Tensor, rotary: Rope, tokens: int) -> Tensor:
        """x [B, n, width] and n rows of `rotary`: the video's `tokens`, or this process's share of them → the shape of x."""
        q, k, v = map(self.split, self.qkv(x).chunk(3, -1))
        q, k = rotate(self.q_norm(q), rotary).to(v.dtype), rotate(self.k_norm(k), rotary).to(v.dtype)
        if self.context_group is None:
            return self.joined(windowed(q, k, v, self.window))
        # Ulysses: all heads of some tokens become some heads of all tokens, and back. The last share's filling sees and is seen
        # by nothing, so no mask is needed.
        q, k, v = exchanged(torch.stack([q, k, v]), self.context_group, scatter=2, gather=3)[..., :tokens, :]
        mixed = windowed(q, k, v, self.window)
        filling = x.shape[1] * self.context_group.size() - tokens
        return self.joined(exchanged(pad(mixed, (0, 0, 0, filling)), self.context_group, scatter=2, gather=1))


QUERIES = 1024
"""Queries that share one mask in windowed attention; keeps it at 1024 × (window + 1024) instead of tokens²."""


def windowed(q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
    """Attention [B, heads, tokens, head] in which token n sees the tokens n − window//2 … n + window//2, in the order time,
    height, width; None: all. As flash attention's `window_size=(window // 2, window // 2)`; computed by blocks of queries."""
    tokens, half = q.shape[2], (window or 0) // 2
    if window is None or tokens <= half + 1:
        return scaled_dot_product_attention(q, k, v)
    found = []
    for first in range(0, tokens, QUERIES):
        last = min(tokens, first + QUERIES)
        low, high = max(0, first - half), min(tokens, last + half)
        apart = torch.arange(first, last, device=q.device)[:, None] - torch.arange(low, high, device=q.device)
        keys, values = k[:, :, low:high], v[:, :, low:high]
        found.append(scaled_dot_product_attention(q[:, :, first:last], keys, values, attn_mask=apart.abs() <= half))
    return torch.cat(found, 2)


class CrossAttention(Attention):
    """Every patch looks at a context that has `context` channels: the text's tokens, or the reference images'."""

    def __init__(self, width: int, heads: int, qk_norm: bool, context: int):
        super().__init__(width, heads, qk_norm)
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(context, 2 * width)

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        """x [B, tokens, width], context [B, L, context], mask bool [B, L] (False: not there; None: all are) → the shape of x.

        Where nothing is there the answer is zero, bias and all: the layer is as good as absent. Without a mask flash attention
        serves.
        """
        k, v = map(self.split, self.kv(context).chunk(2, -1))
        q, k = self.q_norm(self.split(self.q(x))), self.k_norm(k)
        if mask is None:
            return self.joined(scaled_dot_product_attention(q, k, v))
        there = mask.any(-1)[:, None, None]
        seen = (mask[:, None] | ~there)[:, None]  # a row that may look at nothing is NaN in some kernels
        return self.joined(scaled_dot_product_attention(q, k, v, attn_mask=seen)).masked_fill(~there, 0.0)


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

    def forward(self, images: Tensor, words: Tensor, slots: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """images [B,N,l,image_dim], words [B,N,K,text_dim], slots bool [B,N] → tokens [B,N·l,image_dim], mask bool [B,N·l].

        N may be less than `slots`. Tokens of an empty slot are zero and masked; None: no slot is empty.
        """
        of_image, of_words = self.linear.weight.split([self.image_dim, self.linear.in_features - self.image_dim], 1)
        bound = linear(images, of_image, self.linear.bias) + images + self.index[: images.shape[1], None].to(images.dtype)
        if self.use_words:  # the word is the same for all tokens of an image: project it once, not l times
            bound = bound + linear(words.flatten(2), of_words)[:, :, None]
        if slots is None:
            return bound.flatten(1, 2), None
        bound = bound.masked_fill(~slots[:, :, None, None], 0.0)
        return bound.flatten(1, 2), slots.repeat_interleave(images.shape[2], 1)


@dataclass(kw_only=True)
class LowRank:
    """Modulations of a rank below the width."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid", strict=True)

    rank: Annotated[int, Field(ge=1)]
    """Cosmos: 256."""


Adaln = Annotated[
    Annotated[Literal["full", "shared"], Tag("name")] | Annotated[LowRank, Tag("rank")],
    Discriminator(lambda value: "name" if isinstance(value, str) else "rank"),
]


class Modulation(nn.Module):
    """What a residual adds to the blocks' shared modulation: a bias, and of `rank` also up(down(time))."""

    def __init__(self, width: int, rank: int | None):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(3 * width))
        self.down = nn.Linear(width, rank, bias=False) if rank else None
        self.up = nn.Linear(rank, 3 * width, bias=False) if rank else None

    def forward(self, time: Tensor) -> Tensor:
        """time [B, width] → [B, 3·width], or [3·width] where it does not depend on the time."""
        return self.bias if self.down is None or self.up is None else self.up(self.down(time)) + self.bias


class Residual(nn.Module):
    """x + gate · inner(norm(x)·(1 + scale) + shift): adaLN-zero around any layer (PAPER.md §5).

    The stream x, the norm and the modulation are float32; the inner layer works in its weights' type, or autocast's.
    """

    def __init__(self, inner: nn.Module, width: int, dropout: float = 0.0, adaln: Adaln = "full"):
        super().__init__()
        self.inner = inner
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        own = adaln.rank if isinstance(adaln, LowRank) else None
        self.modulation = nn.Linear(width, 3 * width) if adaln == "full" else Modulation(width, own)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, time: Tensor, *context: Any, shared: Tensor | None = None) -> Tensor:
        """x [B, tokens, width], time [B, width]; `context` is handed to the inner layer. `shared`: all blocks' [B, 3·width]."""
        kind = self.modulation.bias.dtype
        modulation = self.modulation(time.to(kind)).float()
        modulation = modulation if shared is None else modulation + shared
        shift, scale, gate = modulation[:, None].chunk(3, -1)
        return x + gate * self.dropout(self.inner((self.norm(x) * (1 + scale) + shift).to(kind), *context))


ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
}
"""Attention's kernels. Their outputs, 2 bytes per token and channel each, are what is dearest to compute again: 62–67 % of the
FLOPs at 1024 × 576."""


def _keep_attention(context: Any, operation: Any, *args: Any, **keywords: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operation in ATTENTION else CheckpointPolicy.PREFER_RECOMPUTE


def attention_kept() -> Any:
    """For `torch.utils.checkpoint`'s `context_fn`."""
    return create_selective_checkpoint_contexts(_keep_attention)
