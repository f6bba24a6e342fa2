"""The diffusion transformer with personalization layers (PAPER.md §4): noisy latents of a video in, their velocity out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributed import ProcessGroup
from torch.nn.functional import silu
from torch.utils.checkpoint import checkpoint

from curation.trainer.distributed import gathered, put, share
from curation.trainer.errors import TrainerError
from curation.trainer.layers import Adaln, Binding, CrossAttention, Residual, Rope, SelfAttention, attention_kept, rope
from curation.trainer.seeds import seed as seed_of

PATCH = (1, 2, 2)
"""Latent frames, rows and columns in a token (PAPER.md §4)."""
PERSONALIZATION = "personalization"
"""What the names of all parameters contain that turn reference images into video; the others are the backbone's."""
ADAPTER = "lora_"
"""What those of adapters on a pretrained backbone contain."""
Layers = Literal["all", "backbone", "personalization", "lora"]
Context = tuple[Tensor, Tensor | None]
"""Tokens [B, L, channels] and which of them are there, bool [B, L]; None: all."""
Checkpointing = Literal["none", "full", "selective"]

SIZES = {"tiny": (128, 4, 4), "small": (512, 12, 8), "1b": (1536, 12, 12), "paper": (4096, 32, 32), "paper-v1": (4096, 32, 128)}
"""Width, blocks, heads. The papers' are PAPER.md §4's; "tiny" is for a CPU, "small" and "1b" for one GPU (not the papers')."""
Name = Literal["tiny", "small", "1b", "paper", "paper-v1"]
Count = Annotated[int, Field(ge=1)]


@dataclass(kw_only=True)
class Architecture:
    """The transformer of a recipe. What it meets, channels of latents, text and images, comes from the encoders (`size_with`)."""

    backbone: Literal["own", "wan2.1-1.3b", "wan2.1-14b", "cogvideox-2b", "cogvideox-5b"] = "own"
    """The transformer: the papers', or a pretrained one of diffusers' with personalization layers after its blocks. Of the other
    knobs slots, words, personalization, use_words, dropout (of the new layers) and checkpointing are then its too."""
    backbone_weights: str | None = None
    """A folder that diffusers saved, of the whole pipeline or its transformer, instead of the store's."""
    lora: Count | None = None
    """Rank of low-rank adapters on a pretrained backbone's attention, for training.layers: lora; null: none."""
    size: Name = "paper"
    """Width, blocks and heads by name (`SIZES`); the next three replace one of them."""
    width: Count | None = None
    blocks: Count | None = None
    heads: Count | None = None
    """A head's channels, width / heads, must be a multiple of 16."""
    slots: Count = 6
    """Reference images per video at most (PAPER.md §4)."""
    words: Count = 8
    """Tokens of the word that an image is bound to, cropped or zero-padded to this many. Not stated by the papers."""
    personalization: bool = True
    """Whether there are personalization layers; V1's stage I has none."""
    use_words: bool = True
    """Whether images are bound to words; false is the papers' ablation."""
    self_conditioning: bool = True
    """Whether the model is also given its own estimate of the clean latents, on further channels."""
    mlp_ratio: Annotated[float, Field(gt=0)] = 4.0
    """Inner over outer width of the feed-forward layers. DiT's; the papers draw none."""
    qk_norm: bool = True
    """Normalise queries and keys (RMS, per head), so that their products stay small in bfloat16. Not stated by the papers."""
    positions: bool = False
    """Also tell each patch where in the frame and the clip it is, as a fraction: rotary places are relative, so noise looks the
    same everywhere. The papers do not. Measured on `benchmarks/binding_world.py --sided`: "left" and "right" are right in 99 % of
    videos after 100 steps with it, in 66 % (half is chance) after 400 without."""
    adaln: Adaln = "full"
    """What makes a residual's shift, scale and gate of the time: a matrix of its own (`full`, the papers' DiT), one matrix for
    all blocks and a bias of its own (`shared`, as Wan), or that one and a product of two thin ones (`{rank: 256}`, as Cosmos).
    Gates start at zero in all. `full` is 39 % of "paper"'s 16.5 billion parameters, and nearly none of its work."""
    window: Annotated[int, Field(ge=2)] | None = None
    """A patch sees those at most half of this before and behind it, in the order time, height, width; null: all. V1 has a "window
    size 6144 (center)" and no definition of it (PAPER.md §4); this one is ours."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """On what each attention and feed-forward layer adds. The papers' "dropout 0.1" is most likely that of conditions (PAPER.md
    §5). With it, weights depend on how clips are divided among processes."""
    checkpointing: Checkpointing = "none"
    """What the backward pass computes again: nothing, all but the blocks' inputs, or all but these and attention's outputs."""

    def size_with(self, *, channels: int, text_dim: int, image_dim: int, image_tokens: int) -> Size:
        """The whole size, with a codec's channels and the widths of encoders' tokens. Raises `TrainerError`."""
        width, blocks, heads = SIZES[self.size]
        own = {"width": self.width or width, "blocks": self.blocks or blocks, "heads": self.heads or heads}
        met = {"channels": channels, "text_dim": text_dim, "image_dim": image_dim, "image_tokens": image_tokens}
        given = self.self_conditioning and self.backbone == "own"  # the pretrained ones have no channels for it
        return Size(**{**vars(self), **own, **met, "self_conditioning": given})


@dataclass(kw_only=True)
class Size(Architecture):
    """An architecture with all numbers known."""

    width: int
    blocks: int
    heads: int
    channels: int
    """Of the latents."""
    text_dim: int
    """Of a text token's embedding."""
    image_dim: int
    """Of an image token."""
    image_tokens: int
    """Per reference image."""

    def __post_init__(self) -> None:
        if self.width % (16 * self.heads):
            raise TrainerError(f"model: width {self.width} in {self.heads} heads: a head's channels must be a multiple of 16")

    @property
    def values(self) -> int:
        """Numbers of the latents in one token."""
        return self.channels * math.prod(PATCH)

    @property
    def inner(self) -> int:
        """Width inside the feed-forward layers."""
        return round(self.width * self.mlp_ratio)


class Block(nn.Module):
    """Self-attention, cross-attention to the text, cross-attention to the reference images, feed-forward: each a residual."""

    def __init__(self, size: Size):
        super().__init__()
        attention, around = (size.width, size.heads, size.qk_norm), (size.width, size.dropout, size.adaln)
        self.checkpointing = size.checkpointing
        self.attention = Residual(SelfAttention(*attention, size.window), *around)
        self.text = Residual(CrossAttention(*attention, size.text_dim), *around)
        self.personalization = Residual(CrossAttention(*attention, size.image_dim), *around) if size.personalization else None
        layers = nn.Linear(size.width, size.inner), nn.GELU(approximate="tanh"), nn.Linear(size.inner, size.width)
        self.mlp = Residual(nn.Sequential(*layers), *around)

    def forward(self, x: Tensor, *given: Any) -> Tensor:
        """As `layers`; what the backward pass needs of them is kept or computed again."""
        if self.checkpointing == "none" or not torch.is_grad_enabled():
            return self.layers(x, *given)
        if self.checkpointing == "selective":
            return checkpoint(self.layers, x, *given, use_reentrant=False, context_fn=attention_kept)
        return checkpoint(self.layers, x, *given, use_reentrant=False)

    def layers(
        self,
        x: Tensor,
        time: Tensor,
        rotary: Rope,
        tokens: int,
        text: Context,
        images: Context | None,
        shared: dict[str, Tensor],
    ) -> Tensor:
        """x [B, n, width] float32, time [B, width] → the shape of x. n: the video's `tokens`, or this process's share of them;
        `shared`: modulations [B, 3·width] by residual, if blocks share them."""
        x = self.attention(x, time, rotary, tokens, shared=shared.get("attention"))
        x = self.text(x, time, *text, shared=shared.get("text"))
        if self.personalization is not None and images is not None:
            x = self.personalization(x, time, *images, shared=shared.get("personalization"))
        return self.mlp(x, time, shared=shared.get("mlp"))


class DiT(nn.Module):
    """Predicts the velocity ε − x₀ of a video's noisy latents from text and reference images.

    A fresh model gives zeros; its weights are drawn from `seed` (on the meta device: by `initialise` after `to_empty`). Blocks
    work in the type of their parameters or under autocast; the time's layers, the stream between the layers, modulations and the
    way out are float32 (as Wan's), and so is the velocity.
    """

    context_group: ProcessGroup | None = None
    """Processes that have a share each of a video's tokens (`distributed.parallelize`); all are given the same arguments."""

    def __init__(self, size: Size, seed: int = 0):
        super().__init__()
        self.size = size
        self.patch = nn.Linear(size.values * (1 + size.self_conditioning), size.width)
        self.position = nn.Linear(3 * POSITION_WAVES, size.width) if size.positions else None
        self.time = nn.Sequential(nn.Linear(FREQUENCIES, size.width), nn.SiLU(), nn.Linear(size.width, size.width))
        binding = Binding(
            image_dim=size.image_dim, text_dim=size.text_dim, words=size.words, slots=size.slots, use_words=size.use_words
        )
        self.personalization_binding = binding if size.personalization else None
        residuals = ["attention", "text", *(["personalization"] if size.personalization else []), "mlp"]
        shared = residuals if size.adaln != "full" else []
        self.modulations = nn.ModuleDict({name: nn.Linear(size.width, 3 * size.width) for name in shared})
        self.blocks = nn.ModuleList(Block(size) for _ in range(size.blocks))
        self.norm = nn.LayerNorm(size.width, elementwise_affine=False, eps=1e-6)
        self.modulation = nn.Linear(size.width, 2 * size.width)
        self.out = nn.Linear(size.width, size.values)
        self.initialise(seed)

    @torch.no_grad()
    def initialise(self, seed: int) -> None:
        """DiT's start: weights Xavier-uniform, time and index embeddings normal(0.02), modulations, the way out and biases 0.

        Each parameter is drawn whole from the seed and its name, then each process keeps its shard: the weights do not depend on
        how they are sharded, and a device holds one whole parameter at a time (paper: 0.27 GB) beside its shards.
        """
        if self.patch.weight.is_meta:
            return
        for name, parameter in self.named_parameters():
            put(parameter, _start(name, parameter, seed))

    def forward(
        self,
        z: Tensor,
        t: Tensor,
        text: Tensor,
        text_mask: Tensor | None,
        images: Tensor,
        words: Tensor,
        slots: Tensor | None,
        self_cond: Tensor | None = None,
    ) -> Tensor:
        """The velocity [B,C,T,H,W], float32, of latents z [B,C,T,H,W] (H and W even) at times t [B] in 0 (clean) … 1 (noise).

        text [B,L,text_dim] with text_mask bool [B,L]; images [B,N,l,image_dim], words [B,N,K,text_dim], slots bool [B,N] (N ≤
        `slots`, K = `words`); a mask that is None hides nothing; self_cond [B,C,T,H,W]: the model's own estimate of x₀, zeros
        when None. Text is dropped by an all-False text_mask and zero words, images by all-False slots.
        """
        kind, group = self.patch.weight.dtype, self.context_group
        if self.size.self_conditioning:
            z = torch.cat([z, torch.zeros_like(z) if self_cond is None else self_cond.to(z.dtype)], 1)
        grid = (z.shape[2] // PATCH[0], z.shape[3] // PATCH[1], z.shape[4] // PATCH[2])
        tokens, places = patches(z).to(kind), positions(grid, z.device)[None].to(kind) if self.position is not None else None
        count, rotary = tokens.shape[1], rope(grid, self.size.width // self.size.heads, z.device)
        if group is not None:
            tokens, rotary = share(tokens, group, 1), (share(rotary[0], group, 0), share(rotary[1], group, 0))
            places = None if places is None else share(places, group, 1)
        x = self.patch(tokens).float()
        if self.position is not None:
            x = x + self.position(places).float()
        with exact(z.device):
            time = silu(self.time(waves(t).to(kind)))
            shared = {name: modulation(time).float() for name, modulation in self.modulations.items()}
        bound = None
        if self.personalization_binding is not None:
            bound = self.personalization_binding(images.to(kind), words.to(kind), slots)
        for block in self.blocks:
            x = block(x, time, rotary, count, (text.to(kind), text_mask), bound, shared)
        with exact(z.device):
            shift, scale = self.modulation(time)[:, None].float().chunk(2, -1)
            x = self.out((self.norm(x) * (1 + scale) + shift).to(kind)).float()
        return unpatched(x if group is None else gathered(x, group, 1)[:, :count], grid)

    @staticmethod
    def tokens(shape: Sequence[int]) -> int:
        """Tokens of one video whose latents have this shape (…, T, H, W)."""
        return math.prod(n // p for n, p in zip(shape[-3:], PATCH, strict=True))


def _start(name: str, parameter: Tensor, seed: int) -> Tensor | float:
    """What a parameter is before training: a whole tensor on its device, or a number for all of it."""
    if name.endswith(("q_norm.weight", "k_norm.weight")):
        return 1.0
    zero = name == "out.weight" or "modulation" in name and not name.endswith("down.weight")
    if zero or name.endswith("bias"):
        return 0.0
    generator = torch.Generator(parameter.device).manual_seed(seed_of(seed, name))
    whole = torch.empty(parameter.shape, device=parameter.device)
    if name.startswith("time.") or name.endswith("index"):
        return whole.normal_(std=0.02, generator=generator)
    return nn.init.xavier_uniform_(whole, generator=generator)


def exact(device: torch.device) -> AbstractContextManager[Any]:
    """No autocast; the meta device has none."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


FREQUENCIES = 256
"""Channels of the sinusoidal time embedding (PAPER.md §5)."""


def waves(t: Tensor) -> Tensor:
    """Times [B] in 0…1 as sines and cosines [B, 256], float32: DiT's embedding of the steps 0…1000."""
    half = FREQUENCIES // 2
    speeds = 10_000.0 ** (-torch.arange(half, device=t.device, dtype=torch.float32) / half)
    angles = 1000 * t.float()[:, None] * speeds
    return torch.cat([angles.cos(), angles.sin()], 1)


POSITION_WAVES = 8
"""Waves per axis in the embedding of positions."""


def positions(grid: tuple[int, int, int], device: torch.device | None = None) -> Tensor:
    """Where patches are, [T·H·W, 3·8], float32: cos(πku), k = 1 … 8, of the fractions 0 < u < 1 of time, height and width."""
    fractions = torch.meshgrid(*((torch.arange(n, device=device) + 0.5) / n for n in grid), indexing="ij")
    waves = torch.arange(1, POSITION_WAVES + 1, device=device) * torch.pi
    return torch.cat([(u.reshape(-1, 1) * waves).cos() for u in fractions], 1)


def patches(z: Tensor) -> Tensor:
    """Latents [B,C,T,H,W] → tokens [B, T·H/2·W/2, C·4], in the order time, height, width."""
    b, c, t, h, w = z.shape
    p, q, r = PATCH
    if t % p or h % q or w % r:
        raise TrainerError(f"latents of {t}×{h}×{w} do not divide into patches of {p}×{q}×{r}: take a video of another size")
    cut = z.reshape(b, c, t // p, p, h // q, q, w // r, r)
    return cut.permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(b, (t // p) * (h // q) * (w // r), c * p * q * r)


def unpatched(x: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """Undoes `patches`: tokens [B, T·H/2·W/2, C·4] of a grid (T, H/2, W/2) → latents [B,C,T,H,W]."""
    cut = x.unflatten(-1, (-1, *PATCH)).unflatten(1, grid)
    b, t, h, w, c, p, q, r = cut.shape
    return cut.permute(0, 4, 1, 5, 2, 6, 3, 7).reshape(b, c, t * p, h * q, w * r)


def count_parameters(model: nn.Module) -> int:
    """How many numbers are trained or frozen in a model."""
    return sum(p.numel() for p in model.parameters())


def parameters_of(model: nn.Module, layers: Layers) -> Iterator[tuple[str, nn.Parameter]]:
    """Names and parameters of the personalization layers with their binding, of these and adapters ("lora"), of the backbone, or
    all."""
    for name, parameter in model.named_parameters():
        new = PERSONALIZATION in name or (layers == "lora" and ADAPTER in name)
        if layers == "all" or new == (layers != "backbone"):
            yield name, parameter


def freeze(model: nn.Module, layers: Layers) -> None:
    """Let a stage train these layers and no others (PAPER.md §5): I "backbone", II "personalization", III "all"."""
    model.requires_grad_(False)
    for _, parameter in parameters_of(model, layers):
        parameter.requires_grad_(True)
