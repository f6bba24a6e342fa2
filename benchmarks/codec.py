"""How well the weight-free codec keeps real clips, and how large its coefficients are: one JSON line per frame size.

    python benchmarks/codec.py VIDEO… [--channels 64] [--fit]

Each clip: the first 17 frames of a video at 24 fps, scaled to cover the frame and cut at its centre. PSNR in dB over RGB in
[−1, 1], clamped, per clip; `rms` is that of the latents. `--fit` prints AMPLITUDE and DECAY of curation/trainer/dct.py instead:
least squares on the logarithms of the coefficients' root mean squares, averaged over the sizes, weighted to the 128 largest.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from curation.media.picture import Painter
from curation.media.video import VideoError, frames
from curation.models.codecs import CHANNELS, codec

SIZES = ((64, 64), (128, 128), (256, 144), (512, 288))
FRAMES, FPS = 17, 24


def pictures(path: Path) -> Tensor | None:
    """float [17,3,H,W], 0..255; None for a video that is too short or broken."""
    painter, found = Painter(), []
    try:
        for frame in frames(str(path)):
            while frame.end > len(found) / FPS and len(found) < FRAMES:
                found.append(torch.from_numpy(painter(frame)))
            if len(found) == FRAMES:
                return torch.stack(found).permute(0, 3, 1, 2).float()
    except VideoError:
        pass
    return None


def cut(video: Tensor, width: int, height: int) -> Tensor | None:
    """float [1,3,17,height,width] in −1..1; None where that would enlarge it."""
    scale = max(width / video.shape[3], height / video.shape[2])
    if scale > 1.01:
        return None
    size = [max(height, round(video.shape[2] * scale)), max(width, round(video.shape[3] * scale))]
    small = F.interpolate(video, size, mode="bilinear", antialias=True)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    whole = small[:, :, top : top + height, left : left + width].round().clamp(0, 255)
    return (whole / 127.5 - 1).transpose(0, 1)[None]


def measured(clips: list[Tensor], channels: int) -> dict[str, float]:
    cosines = codec("dct", "cpu", channels=channels)
    psnr, rms = [], []
    for clip in clips:
        latents = cosines.encode(clip)
        psnr.append(10 * torch.log10(4 / (cosines.decode(latents).clamp(-1, 1) - clip).pow(2).mean()).item())
        rms.append(latents.pow(2).mean((0, 2, 3, 4)))
    quality, spread = torch.tensor(psnr), torch.stack(rms).mean(0).sqrt()
    facts = {"median_db": quality.median(), "p10_db": quality.quantile(0.1), "least_db": quality.min()}
    facts |= {"rms": spread.pow(2).mean().sqrt(), "rms_least": spread.min(), "rms_most": spread.max()}
    return {"clips": len(clips), **{name: round(value.item(), 2) for name, value in facts.items()}}


def fitted(sizes: list[list[Tensor]]) -> dict[str, list]:
    """AMPLITUDE and DECAY from the clips of every size; from what follows the first frame, which does not move."""
    whole = codec("dct", "cpu", channels=768)
    energy = torch.zeros(len(sizes), 768)
    for row, clips in zip(energy, sizes, strict=True):
        coefficients = (whole.encode(clip)[:, :, 1:] * whole.scale[:, None, None, None] for clip in clips)
        row[whole.kept] = torch.stack([found.pow(2).mean((0, 2, 3, 4)) for found in coefficients]).mean(0)
    weight = torch.full((768,), 0.02)
    weight[energy.mean(0).argsort(descending=True)[:128]] += 1
    c, t, y, x = torch.meshgrid(*map(torch.arange, (3, 4, 8, 8)), indexing="ij")
    terms = [*F.one_hot((4 * c + t).flatten(), 12).T, *(-(1 + x + y).log() * (t == i) for i in range(4))]
    columns = torch.stack([term.flatten().float() for term in terms], 1) * weight.sqrt()[:, None]
    target = (energy.log().mean(0) / 2 * weight.sqrt())[:, None]
    found = torch.linalg.lstsq(columns, target).solution.flatten()
    amplitude = found[:12].exp().reshape(3, 4).tolist()
    return {"amplitude": [[round(v, 3) for v in row] for row in amplitude], "decay": [round(v, 3) for v in found[12:].tolist()]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--channels", type=int, default=CHANNELS)
    parser.add_argument("--fit", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    whole = [video for path in asked.videos if (video := pictures(path)) is not None]
    sizes = [[clip for video in whole if (clip := cut(video, *size)) is not None] for size in SIZES]
    if asked.fit:
        print(json.dumps(fitted(sizes)))
        return
    for (width, height), clips in zip(SIZES, sizes, strict=True):
        print(
            json.dumps(
                {"figure": "codec", "size": f"{width}x{height}", "channels": asked.channels, **measured(clips, asked.channels)}
            )
        )


if __name__ == "__main__":
    main()
