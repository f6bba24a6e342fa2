"""Video codecs: clips to the latents that the transformer works on, and back; frozen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from curation.models import dct
from curation.models.pretrained import frozen, loaded
from curation.models.weights import CODECS

CHANNELS = 64
"""Coefficients that "dct" keeps of 768. Measured on 63 real clips (`benchmarks/codec.py`), median and 10 % quantile of the PSNR:
64×64 30.9 and 26.3 dB, 128×128 32.9 and 27.2, 256×144 33.4 and 28.3, 512×288 35.4 and 30.8; 48 give 29.4 dB at 64×64. Root mean
square of the latents: 1.15, 1.02, 0.95 and 0.84."""


class Codec(ABC):
    """What all codecs share: 4×8×8 pixels of RGB become one latent of `channels` numbers of roughly unit variance.

    The first frame is a latent frame of its own, every four that follow are one.
    """

    strides = (4, 8, 8)
    channels: int
    step: int
    """Frames must be one more than a multiple of it."""
    identity: str
    """Two codecs that give the same latents have the same; for caches."""

    def shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """C, T, H, W of the latents of a clip. Raises `ValueError` for sizes the codec cannot take."""
        if frames < 1 or frames % self.step != 1 % self.step or height % 8 or width % 8 or not height * width:
            fits = f"1 + {self.step}·n frames and sides that are multiples of 8"
            raise ValueError(f"the codec takes {fits}, not {frames} frames of {width}×{height}")
        return self.channels, 1 + (frames - 1) // 4, height // 8, width // 8

    def encode(self, video: Tensor) -> Tensor:
        """float [B,3,F,H,W] in [−1, 1] → float32 [B,C,1+(F−1)/4,H/8,W/8]. Raises `ValueError` for other shapes."""
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
        self.shape(4 * frames - 3, 8 * height, 8 * width)
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


def codec(
    name: str,
    device: str | torch.device,
    folder: str | Path = "",
    digest: str = "",
    *,
    dtype: torch.dtype = torch.float32,
    channels: int = CHANNELS,
) -> Codec:
    """ "cogvideox", "cogvideox-2b", "wan" or "dct".

    `folder`: the weights; `digest`: what they are; `dtype`: the network's own; `channels`: "dct"'s. Raises `ValueError`
    (`WrongWeights`) when the weights are not what the name says.
    """
    if name == "dct":
        return Dct(device, channels)
    if name not in CODECS:
        raise ValueError(f"no codec {name!r}; known: dct, {', '.join(CODECS)}")
    from diffusers import AutoencoderKLCogVideoX, AutoencoderKLWan

    cls, made = (AutoencoderKLWan, Wan) if name == "wan" else (AutoencoderKLCogVideoX, CogVideoX)
    return made(loaded(cls, Path(folder), device, dtype), f"{name}:{digest}:{dtype}")


def pixels(video: torch.Tensor) -> torch.Tensor:
    """uint8 [B,F,3,H,W] → float [B,3,F,H,W] in −1..1, the codecs' input."""
    return video.transpose(1, 2).float() / 127.5 - 1


def pictures(video: torch.Tensor) -> torch.Tensor:
    """Back: float [B,3,F,H,W] in −1..1 → uint8 [B,F,3,H,W]."""
    return ((video.transpose(1, 2).float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
