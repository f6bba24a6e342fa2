"""Video codecs: clips to the latents that the transformer works on, and back; frozen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from curation.models import dct, magvit
from curation.models.pretrained import frozen, loaded
from curation.models.weights import CODECS

CHUNK = 8 * 1024 * 576
"""Pixels that "magvit" has in hand at once, whole frames and at least 8 of them."""
CHANNELS = 64
"""Coefficients that "dct" keeps of 768. Measured on 63 real clips (`benchmarks/codec.py`), median and 10 % quantile of the PSNR:
64×64 30.9 and 26.3 dB, 128×128 32.9 and 27.2, 256×144 33.4 and 28.3, 512×288 35.4 and 30.8; 48 give 29.4 dB at 64×64. Root mean
square of the latents: 1.15, 1.02, 0.95 and 0.84."""


class Codec(ABC):
    """What all codecs share: `strides` pixels of RGB become one latent of `channels` numbers of roughly unit variance.

    The first frame is a latent frame of its own, every `strides[0]` that follow are one.
    """

    strides = (4, 8, 8)
    """Frames, height, width."""
    channels: int
    step: int
    """Frames must be one more than a multiple of it."""
    identity: str
    """Two codecs that give the same latents have the same; for caches."""

    def shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """C, T, H, W of the latents of a clip. Raises `ValueError` for sizes the codec cannot take."""
        time, down, across = self.strides
        if frames < 1 or frames % self.step != 1 % self.step or height % down or width % across or not height * width:
            fits = f"1 + {self.step}·n frames and sides that are multiples of {down}"
            raise ValueError(f"the codec takes {fits}, not {frames} frames of {width}×{height}")
        return self.channels, 1 + (frames - 1) // time, height // down, width // across

    def encode(self, video: Tensor) -> Tensor:
        """float [B,3,F,H,W] in [−1, 1] → float32 [B,C,T,H,W], see `shape`. Raises `ValueError` for other shapes."""
        if video.ndim != 5 or video.shape[1] != 3:
            raise ValueError(f"a video is [B,3,F,H,W], not {list(video.shape)}")
        self.shape(*video.shape[2:])
        with frozen(video.device):
            return self._encode(video)

    def decode(self, latents: Tensor) -> Tensor:
        """The inverse, float32; values may leave [−1, 1]. Raises `ValueError` for shapes that `encode` does not give."""
        if latents.ndim != 5 or latents.shape[1] != self.channels:
            raise ValueError(f"latents are [B,{self.channels},T,H,W], not {list(latents.shape)}")
        _, _, frames, height, width = latents.shape
        time, down, across = self.strides
        self.shape(1 + time * (frames - 1), down * height, across * width)
        with frozen(latents.device):
            return self._decode(latents)

    @abstractmethod
    def _encode(self, video: Tensor) -> Tensor: ...

    @abstractmethod
    def _decode(self, latents: Tensor) -> Tensor: ...


class Dct(Codec):
    """An orthonormal cosine transform over colour, time, height and width of which the `channels` largest coefficients are kept.

    The first frame counts as four that do not move, so a still clip has equal latent frames. Causal. All 768: lossless.
    """

    step = 4

    def __init__(self, device: str | torch.device, channels: int = CHANNELS):
        if not 1 <= channels <= 768:
            raise ValueError(f"the dct codec keeps 1 to 768 coefficients, not {channels}")
        spread = dct.spread(4)
        self.kept = sorted(range(768), key=lambda i: (-spread[i], i))[:channels]
        """Which rows of `dct.basis(4)`."""
        self.channels, self.identity = channels, f"dct:{channels}"
        self.rows = dct.basis(4)[self.kept].float().to(device)
        """The transform, coefficient × (c, t, y, x)."""
        self.scale = torch.tensor([spread[i] for i in self.kept], device=device)

    def _encode(self, video: Tensor) -> Tensor:
        clip = torch.cat([video[:, :, :1].expand(-1, -1, 3, -1, -1), video], 2).float()
        groups = clip.unflatten(4, (-1, 8)).unflatten(3, (-1, 8)).unflatten(2, (-1, 4))  # B c T t H y W x
        groups = groups.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)
        return (groups @ self.rows.T / self.scale).permute(0, 4, 1, 2, 3).contiguous()

    def _decode(self, latents: Tensor) -> Tensor:
        groups = (latents.float().permute(0, 2, 3, 4, 1) * self.scale) @ self.rows
        clip = groups.unflatten(4, (3, 4, 8, 8)).permute(0, 4, 1, 5, 2, 6, 3, 7)  # B c T t H y W x
        clip = clip.flatten(6).flatten(4, 5).flatten(2, 3)
        return torch.cat([clip[:, :, :4].mean(2, keepdim=True), clip[:, :, 4:]], 2)


class CogVideoX(Codec):
    """CogVideoX's autoencoder (PAPER.md §4: V2's; "cogvideox-2b" is the smaller model's), from a folder that diffusers saved.

    The latent is the posterior's mean, so that a clip always gives the same (not stated by the paper), times the checkpoint's
    scaling factor (0.7 for the 5B's). 1 + 8·n frames, as all of the paper's: of other lengths it decodes too many. One clip at a
    time passes through it, in chunks of 9 frames and then 8, which bounds its memory; causal from chunk to chunk, not within.
    """

    step = 8

    def __init__(self, network: Any, identity: str):
        self.network, self.identity = network, identity
        self.network.enable_slicing()
        config = network.config
        self.channels = config.latent_channels
        self.scale = 1 / config.scaling_factor if config.invert_scale_latents else config.scaling_factor

    def _encode(self, video: Tensor) -> Tensor:
        return self.network.encode(video.to(self.network.dtype)).latent_dist.mode().float() * self.scale

    def _decode(self, latents: Tensor) -> Tensor:
        return self.network.decode((latents / self.scale).to(self.network.dtype)).sample.float()


class Wan(Codec):
    """Wan 2.1's autoencoder, from a folder that diffusers saved: causal, 1 + 4·n frames, one clip at a time.

    The latent is the posterior's mean, each channel less the checkpoint's mean and over its standard deviation, as WanPipeline's.
    """

    step = 4

    def __init__(self, network: Any, identity: str):
        self.network, self.identity = network, identity
        self.network.enable_slicing()
        self.channels = network.config.z_dim
        self.mean, self.std = (
            torch.tensor(values, device=network.device).view(-1, 1, 1, 1)
            for values in (network.config.latents_mean, network.config.latents_std)
        )

    def _encode(self, video: Tensor) -> Tensor:
        return (self.network.encode(video.to(self.network.dtype)).latent_dist.mode().float() - self.mean) / self.std

    def _decode(self, latents: Tensor) -> Tensor:
        return self.network.decode((latents * self.std + self.mean).to(self.network.dtype)).sample.float()


class Magvit(Codec):
    """V1's autoencoder, from a folder that `curation train-codec` wrote: causal, 1 + 8·n frames, one clip at a time, in chunks.

    The latent is the posterior's mean (not stated by the paper), each channel less its mean and over its standard deviation in
    training. Memory depends on a frame's size alone: of 1024×576 in float32 the chunks leave each other
    1.6 GB to encode and 3.1 GB to decode (counted on the meta device), whatever the length.
    """

    strides = magvit.STRIDES
    step = magvit.STRIDES[0]

    def __init__(self, network: magvit.Magvit, identity: str):
        self.network, self.identity, self.channels = network, identity, network.size.channels
        self.mean, self.std = (
            value.float().view(-1, 1, 1, 1) for value in (network.mean, network.variance.clamp(min=1e-8).sqrt())
        )

    def _encode(self, video: Tensor) -> Tensor:
        chunk = self._chunk(video.shape[3], video.shape[4])
        kind = self.network.end.weight.dtype
        latents = [self.network.encode(clip.to(kind), chunk).mean.float() for clip in video.split(1)]
        return (torch.cat(latents) - self.mean) / self.std

    def _decode(self, latents: Tensor) -> Tensor:
        chunk = self._chunk(*(16 * side for side in latents.shape[3:])) // self.step
        kind = self.network.end.weight.dtype
        clips = (latents.float() * self.std + self.mean).to(kind)
        return torch.cat([self.network.decode(clip, chunk).float() for clip in clips.split(1)])

    def _chunk(self, height: int, width: int) -> int:
        """Frames at once."""
        return self.step * max(1, CHUNK // (self.step * height * width))


KINDS: dict[str, type[Codec]] = {"dct": Dct, "cogvideox": CogVideoX, "cogvideox-2b": CogVideoX, "wan": Wan, "magvit": Magvit}
"""What `codec` makes of a name; classes know their strides without weights."""


def codec(
    name: str,
    device: str | torch.device,
    folder: str | Path = "",
    digest: str = "",
    *,
    dtype: torch.dtype = torch.float32,
    channels: int = CHANNELS,
) -> Codec:
    """ "cogvideox", "cogvideox-2b", "wan", "magvit" or "dct".

    `folder`: the weights; `digest`: what they are; `dtype`: the network's own; `channels`: "dct"'s. Raises `ValueError`
    (`WrongWeights`) when the weights are not what the name says.
    """
    if name == "dct":
        return Dct(device, channels)
    if name not in CODECS:
        raise ValueError(f"no codec {name!r}; known: dct, {', '.join(CODECS)}")
    if name == "magvit":
        return Magvit(magvit.load(Path(folder), device, dtype), f"{name}:{digest}:{dtype}")
    from diffusers import AutoencoderKLCogVideoX, AutoencoderKLWan

    cls, made = (AutoencoderKLWan, Wan) if name == "wan" else (AutoencoderKLCogVideoX, CogVideoX)
    return made(loaded(cls, Path(folder), device, dtype), f"{name}:{digest}:{dtype}")


def pixels(video: torch.Tensor) -> torch.Tensor:
    """uint8 [B,F,3,H,W] → float [B,3,F,H,W] in −1..1, the codecs' input."""
    return video.transpose(1, 2).float() / 127.5 - 1


def pictures(video: torch.Tensor) -> torch.Tensor:
    """Back: float [B,3,F,H,W] in −1..1 → uint8 [B,F,3,H,W]."""
    return ((video.transpose(1, 2).float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
