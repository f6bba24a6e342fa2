"""V1's autoencoder (PAPER.md §4, its Table 5): 1 + 8·n frames of pixels ↔ 1 + n frames of latents, 16 times smaller each way.

The paper states what `Size` holds, replicate padding, KL and adaptive normalisation in the decoder, no more, and no weights are
public. The rest follows what is published of MAGVIT (google-research/magvit, `enc_dec_3dcnn.py`: pre-activated residual blocks of
3×3×3, a 1×1×1 shortcut where channels change) and of MAGVIT-v2 (causal in time, strided convolutions down, depth to space up,
adaptive group normalisation before each resolution's blocks), or is ours:

- Causal: a convolution repeats the first frame before it (replicate padding in time), so the first frame is encoded alone, latent
  frame k knows frames 0 … 8·k, and a clip passes in chunks that give what the whole gives.
- Group normalisation is over one frame, for the same reason; groups of 16 channels, at most 32 of them.
- The decoder's scale and shift are linear in the mean and the deviation of the latent frame over its area, as StyleGAN's are in
  the style, one norm before each resolution's blocks and one before the last convolution.
- A level's stride comes after its blocks; level by level Table 5's five strides then make 8×16×16.
- No attention, and no blocks but those that Table 5 counts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from curation.models.pretrained import WrongWeights

STRIDES = (8, 16, 16)
"""Of all levels together: frames, height, width."""
CONFIG, WEIGHTS = "config.json", "model.safetensors"
NARROW = -6.0
"""Log variance of the posterior at first, so that its noise does not drown what the encoder says. Measured, a tiny one after 100
steps on discs that move: squared error 0.23, from 0 on 0.32, which is all of the clips' own."""
Past = dict[nn.Module, Tensor]
"""What each convolution saw last, to go on with the frames that follow."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """Of the network; the defaults are V1's Table 5 (PAPER.md §4): 1,173,051,219 parameters."""

    base: int = 16
    """Channels at the full resolution."""
    multipliers: tuple[int, ...] = (1, 4, 16, 32, 64)
    """Channels of each level, in `base`."""
    encoder_blocks: tuple[int, ...] = (1, 1, 2, 8, 8)
    """Residual blocks of each level."""
    decoder_blocks: tuple[int, ...] = (4, 4, 4, 4, 4)
    """Of each level, that of the full resolution first."""
    time_strides: tuple[int, ...] = (1, 2, 2, 2, 1)
    """Of each level, 1 or 2; together 8."""
    space_strides: tuple[int, ...] = (2, 2, 2, 2, 1)
    """Of each level; together 16."""
    channels: int = 32
    """Of the latents."""

    def __post_init__(self) -> None:
        levels = (self.multipliers, self.encoder_blocks, self.decoder_blocks, self.time_strides, self.space_strides)
        if len({len(one) for one in levels}) != 1:
            raise ValueError(
                f"multipliers, blocks and strides are one number a level, not {', '.join(str(len(x)) for x in levels)}"
            )
        if min(self.base, self.channels, *(n for one in levels for n in one)) < 1:
            raise ValueError("every number is 1 or more")
        if self.strides(len(self.multipliers)) != STRIDES[:2]:
            raise ValueError(f"strides multiply to {STRIDES[0]} in time and {STRIDES[1]} in space")
        if not {*self.time_strides, *self.space_strides} <= {1, 2} or (self.time_strides[-1], self.space_strides[-1]) != (1, 1):
            raise ValueError("strides are 1 or 2, and the last level's 1")

    def width(self, level: int) -> int:
        """Channels of a level."""
        return self.base * self.multipliers[level]

    def strides(self, level: int) -> tuple[int, int]:
        """Of time and space from the pixels to a level."""
        return math.prod(self.time_strides[:level]), math.prod(self.space_strides[:level])


TINY = Size(base=16, multipliers=(1, 2, 2, 4, 4), encoder_blocks=(1,) * 5, decoder_blocks=(1,) * 5)
"""For tests and a CPU."""


class CausalConv(nn.Conv3d):
    """A 3×3×3 (or 1×1×1) convolution that repeats the edges, and before the first frame that frame: frame t of the result sees no
    frame after t · stride."""

    def __init__(self, inner: int, outer: int, kernel: int = 3, stride: tuple[int, int] = (1, 1)):
        super().__init__(inner, outer, kernel, (stride[0], stride[1], stride[1]))

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        """`past`: frames follow those it was last given with; it is brought up to date."""
        reach, side = self.kernel_size[0] - 1, self.kernel_size[1] // 2
        if reach:
            before = past[self] if past and self in past else x[:, :, :1].expand(-1, -1, reach, -1, -1)
            x = torch.cat([before, x], 2)
            if past is not None:
                past[self] = x[:, :, self.stride[0] - self.kernel_size[0] :].clone()
            x = F.pad(x, (side, side, side, side, 0, 0), mode="replicate")
        return super().forward(x)


class FrameNorm(nn.GroupNorm):
    """Group normalisation of each frame by itself, so that no frame knows of a later one."""

    def __init__(self, width: int, affine: bool = True):
        super().__init__(math.gcd(max(1, min(32, width // 16)), width), width, eps=1e-6, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        frames = x.transpose(1, 2)
        return super().forward(frames.flatten(0, 1)).view(frames.shape).transpose(1, 2)


class AdaptiveNorm(nn.Module):
    """Group normalisation whose scale and shift follow the latent frame that a frame is decoded from; at first 1 and 0."""

    def __init__(self, width: int, channels: int):
        super().__init__()
        self.norm = FrameNorm(width, affine=False)
        self.modulation = nn.Linear(2 * channels, 2 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, latents: Tensor, stride: int) -> Tensor:
        """`latents`: [B,C,T,h,w]; `stride`: frames of `x` to a latent frame, the clip's first has one."""
        mean = latents.mean((3, 4))
        deviation = (latents.var((3, 4), correction=0) + 1e-6).sqrt()
        told = self.modulation(torch.cat([mean, deviation], 1).transpose(1, 2)).transpose(1, 2)
        scale, shift = told.repeat_interleave(stride, 2)[:, :, -x.shape[2] :, None, None].chunk(2, 1)
        return self.norm(x) * (1 + scale) + shift


class Block(nn.Module):
    """x + two convolutions, each after normalisation and SiLU; a 1×1×1 convolution on the way past where channels change."""

    def __init__(self, inner: int, outer: int):
        super().__init__()
        self.norm1, self.conv1 = FrameNorm(inner), CausalConv(inner, outer)
        self.norm2, self.conv2 = FrameNorm(outer), CausalConv(outer, outer)
        self.skip = CausalConv(inner, outer, kernel=1) if inner != outer else nn.Identity()

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        inner = self.conv1(F.silu(self.norm1(x)), past)
        return self.skip(x) + self.conv2(F.silu(self.norm2(inner)), past)


class Up(nn.Module):
    """Depth to space and time: a convolution to more channels, laid out as frames and pixels. Of the frames that the clip's first
    becomes only the last stays."""

    def __init__(self, width: int, stride: tuple[int, int]):
        super().__init__()
        self.stride = stride
        self.conv = CausalConv(width, width * stride[0] * stride[1] ** 2)

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        time, space = self.stride
        begins = past is None or self.conv not in past
        x = self.conv(x, past).unflatten(1, (-1, time, space, space))  # B C t y x T H W
        x = x.permute(0, 1, 5, 2, 6, 3, 7, 4).flatten(6).flatten(4, 5).flatten(2, 3)
        return x[:, :, time - 1 :] if begins else x


class Level(nn.Module):
    """The blocks of one resolution, and after them a change of it."""

    def __init__(self, widths: tuple[int, int], blocks: int, then: nn.Module | None = None):
        super().__init__()
        self.blocks = nn.ModuleList([Block(widths[0] if n == 0 else widths[1], widths[1]) for n in range(blocks)])
        self.then = then

    def forward(self, x: Tensor, past: Past | None, saving: bool) -> Tensor:
        for block in self.blocks:
            x = checkpoint(block, x, past, use_reentrant=False) if saving else block(x, past)
        return self.then(x, past) if self.then is not None else x


@dataclass(frozen=True)
class Posterior:
    """What the encoder says of a clip: a Gaussian per latent number."""

    mean: Tensor
    """[B,C,T,H,W]."""
    logvar: Tensor
    """The same; held between −30 and 20."""

    def sample(self, noise: Tensor) -> Tensor:
        """With standard normal noise of its shape."""
        return self.mean + (self.logvar / 2).exp() * noise

    def kl(self) -> Tensor:
        """The divergence from a standard normal, nats per latent number, [B]."""
        mean, logvar = self.mean.float(), self.logvar.float()
        return (mean.square() + logvar.exp() - 1 - logvar).mean((1, 2, 3, 4)) / 2


class Magvit(nn.Module):
    """The autoencoder. Buffers hold each latent channel's mean and variance over what it was trained on."""

    mean: Tensor
    variance: Tensor

    def __init__(self, size: Size, checkpointing: bool = False):
        """`checkpointing`: in training a block's activations are computed again rather than kept."""
        super().__init__()
        self.size, self.checkpointing = size, checkpointing
        last = len(size.multipliers) - 1
        widths = [size.width(level) for level in range(last + 1)]
        strides = list(zip(size.time_strides, size.space_strides, strict=True))
        self.enter = CausalConv(3, widths[0])
        self.encoder = nn.ModuleList()
        for level, width in enumerate(widths):
            down = CausalConv(width, width, stride=strides[level]) if strides[level] != (1, 1) else None
            self.encoder.append(Level((widths[max(0, level - 1)], width), size.encoder_blocks[level], down))
        self.encoded = FrameNorm(widths[last])
        self.leave = CausalConv(widths[last], 2 * size.channels)
        nn.init.constant_(cast(Tensor, self.leave.bias)[size.channels :], NARROW)
        self.begin = CausalConv(size.channels, widths[last])
        self.norms = nn.ModuleList([AdaptiveNorm(width, size.channels) for width in (*widths[1:], widths[last])])
        self.decoder = nn.ModuleList()
        for level in range(last, -1, -1):
            inner = widths[min(last, level + 1)]
            up = Up(widths[level], strides[level - 1]) if level and strides[level - 1] != (1, 1) else None
            self.decoder.append(Level((inner, widths[level]), size.decoder_blocks[level], up))
        self.decoded = AdaptiveNorm(widths[0], size.channels)
        self.end = CausalConv(widths[0], 3)
        self.register_buffer("mean", torch.zeros(size.channels))
        self.register_buffer("variance", torch.ones(size.channels))

    def forward(self, video: Tensor, noise: Tensor) -> tuple[Tensor, Posterior]:
        """A clip there and back, with latents drawn by the noise; for training."""
        posterior = self.encode(video)
        return self.decode(posterior.sample(noise)), posterior

    def encode(self, video: Tensor, chunk: int | None = None) -> Posterior:
        """float [B,3,1+8·n,H,W] in −1..1 → of [B,C,1+n,H/16,W/16]. `chunk`: a multiple of 8; that many frames at a time."""
        past: Past | None = {} if chunk else None
        parts = [self._encode(part, past) for part in _chunks(video, chunk)]
        mean, logvar = torch.cat(parts, 2).chunk(2, 1)
        return Posterior(mean, logvar.clamp(-30, 20))

    def decode(self, latents: Tensor, chunk: int | None = None) -> Tensor:
        """The inverse. `chunk`: latent frames at a time."""
        past: Past | None = {} if chunk else None
        return torch.cat([self._decode(part, past) for part in _chunks(latents, chunk)], 2)

    def _encode(self, x: Tensor, past: Past | None) -> Tensor:
        x = self.enter(x, past)
        for level in self.encoder:
            x = level(x, past, self._saving)
        return self.leave(F.silu(self.encoded(x)), past)

    def _decode(self, latents: Tensor, past: Past | None) -> Tensor:
        x = self.begin(latents, past)
        for number, level in zip(reversed(range(len(self.decoder))), self.decoder, strict=True):
            stride = STRIDES[0] // self.size.strides(number)[0]
            x = level(self.norms[number](x, latents, stride), past, self._saving)
        return self.end(F.silu(self.decoded(x, latents, STRIDES[0])), past)

    @property
    def _saving(self) -> bool:
        return self.checkpointing and self.training and torch.is_grad_enabled()

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors."""
        folder.mkdir(parents=True, exist_ok=True)
        stated = {"_class_name": "Magvit", **asdict(self.size)}
        (folder / CONFIG).write_text(json.dumps(stated, indent=1) + "\n")
        save_file({name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}, folder / WEIGHTS)


def load(folder: Path, device: str | torch.device, dtype: torch.dtype) -> Magvit:
    """What `save` wrote; in evaluation, without gradients. Raises `WrongWeights`."""
    try:
        stated = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if stated.pop("_class_name", None) != "Magvit":
            raise WrongWeights(f"{folder} holds no Magvit: `curation train-codec` writes one")
        values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in stated.items()}
        size = Size(**values)
        with torch.device("meta"):
            network = Magvit(size)
        network.load_state_dict(load_file(folder / WEIGHTS), assign=True)
    except WrongWeights:
        raise
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise WrongWeights(f"{folder} cannot be loaded as Magvit: {' '.join(str(error).split())[:300]}") from error
    return network.eval().requires_grad_(False).to(device, dtype)


def _chunks(x: Tensor, size: int | None) -> Sequence[Tensor]:
    """The first frame, then so many at a time; without a size all at once."""
    return [x[:, :, :1], *x[:, :, 1:].split(size, 2)] if size and x.shape[2] > 1 else [x]
