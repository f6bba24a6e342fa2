"""TransNetV2 (Souček & Lokoč, arXiv 2008.04838): for every frame of a clip, the probability that a shot ends there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIZE = (48, 27)  # width, height of the network's pictures; this and the four below: PAPER.md §3
WINDOW = 100  # frames it sees at once, as published
LEAD = 25  # frames of context before and after the middle that is kept
FILTERS = (16, 32, 64)  # of the three stacks; each layer has four times as many channels
NEIGHBOURS = 101  # frames that a frame is compared with: itself, 50 before and 50 after
HALVES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
BATCH = 8  # windows at once on a GPU


class TransNetV2(nn.Module):
    """uint8 windows [B, T, 27, 48, 3] → logits [B, T]; modules bear the names of the published weights."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, *(4 * f for f in FILTERS))
        self.SDDCNN = nn.ModuleList(_Stack(before, f) for before, f in zip(widths, FILTERS, strict=False))
        self.frame_sim_layer = _FrameSimilarity(sum(widths[1:]))
        self.color_hist_layer = _ColourHistograms()
        self.fc1 = nn.Linear(widths[-1] * 3 * 6 + 2 * 128, 1024)  # 27×48 halved three times is 3×6
        self.cls_layer1 = nn.Linear(1024, 1)
        self.cls_layer2 = nn.Linear(1024, 1)  # the all-frames head, trained along and not used: PAPER.md §3

    def forward(self, frames: Tensor) -> Tensor:
        x = frames.float().div(255)  # channels stay last: every convolution below is a 2-D one on a view
        means = []
        for stack in self.SDDCNN:
            x = stack(x)
            means.append(x.float().mean(dim=(2, 3)))
        joined = torch.cat([self.color_hist_layer(frames), self.frame_sim_layer(torch.cat(means, dim=2)), x.flatten(2)], dim=2)
        return self.cls_layer1(F.relu(self.fc1(joined))).squeeze(2)


class _Stack(nn.Module):
    """Two layers with a shortcut round the second, then halving of both sides."""

    def __init__(self, channels: int, filters: int):
        super().__init__()
        self.DDCNN = nn.ModuleList([_Layer(channels, filters), _Layer(4 * filters, filters)])

    def forward(self, x: Tensor) -> Tensor:
        first = F.relu_(self.DDCNN[0](x))
        x = F.relu_(self.DDCNN[1](first)).add_(first)
        batch, time = x.shape[:2]
        return F.avg_pool2d(x.flatten(0, 1).permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1).unflatten(0, (batch, time))


class _Layer(nn.Module):
    """Four convolutions through time, 1, 2, 4 and 8 frames apart, side by side."""

    def __init__(self, channels: int, filters: int):
        super().__init__()
        for dilation in (1, 2, 4, 8):
            self.add_module(f"Conv3D_{dilation}", _Factorised(channels, filters, dilation))
        self.bn = nn.BatchNorm3d(4 * filters, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        branches: list[_Factorised] = [getattr(self, f"Conv3D_{dilation}") for dilation in (1, 2, 4, 8)]
        scale = self.bn.weight * torch.rsqrt(self.bn.get_buffer("running_var") + self.bn.eps)
        shift = self.bn.bias - self.bn.get_buffer("running_mean") * scale
        parts = zip(branches, scale.chunk(4), shift.chunk(4), strict=True)
        return torch.cat([branch(x, s, o) for branch, s, o in parts], dim=4)


class _Factorised(nn.Module):
    """A 3×3×3 convolution as a 3×3 one within frames and a 3-tap one through time."""

    def __init__(self, channels: int, filters: int, dilation: int):
        super().__init__()
        self.dilation = dilation
        within = nn.Conv3d(channels, 2 * filters, (1, 3, 3), bias=False)
        through = nn.Conv3d(2 * filters, filters, (3, 1, 1), bias=False)
        self.layers = nn.ModuleList([within, through])

    def forward(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """[B, T, H, W, C] → [B, T, H, W, filters], batch normalisation (`scale`, `shift`) folded in."""
        batch, time, height, width = x.shape[:4]
        within = F.conv2d(x.flatten(0, 1).permute(0, 3, 1, 2), self.layers[0].get_parameter("weight").squeeze(2), padding=1)
        planes = within.permute(0, 2, 3, 1).reshape(batch, time, height * width, -1).permute(0, 3, 1, 2)
        weight = self.layers[1].get_parameter("weight").squeeze(4) * scale[:, None, None, None]
        out = F.conv2d(planes, weight, shift, padding=(self.dilation, 0), dilation=(self.dilation, 1))
        return out.permute(0, 2, 3, 1).unflatten(2, (height, width))


class _FrameSimilarity(nn.Module):
    """Cosines between learnt descriptions of a frame and of its neighbours."""

    def __init__(self, channels: int):
        super().__init__()
        self.projection = nn.Linear(channels, 128)
        self.fc = nn.Linear(NEIGHBOURS, 128)

    def forward(self, means: Tensor) -> Tensor:
        return F.relu(self.fc(_neighbour_cosines(self.projection(means))))


class _ColourHistograms(nn.Module):
    """Cosines between the 8×8×8 colour histograms of a frame and of its neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(NEIGHBOURS, 128)

    def forward(self, frames: Tensor) -> Tensor:
        r, g, b = (frames >> 5).long().flatten(2, 3).unbind(-1)
        bins = (r << 6) + (g << 3) + b
        histograms = torch.zeros(*bins.shape[:2], 512, device=frames.device)
        histograms.scatter_add_(2, bins, torch.ones_like(bins, dtype=histograms.dtype))
        return F.relu(self.fc(_neighbour_cosines(histograms)))


def _neighbour_cosines(x: Tensor) -> Tensor:
    """[B, T, C] → [B, T, NEIGHBOURS], zero where a neighbour lies outside the window."""
    x = F.normalize(x.float(), dim=2)
    reach = NEIGHBOURS // 2
    cosines = F.pad(x @ x.transpose(1, 2), (reach, reach))
    here = torch.arange(x.shape[1], device=x.device)[:, None] + torch.arange(NEIGHBOURS, device=x.device)
    return cosines.gather(2, here.expand(len(x), -1, -1))


class Detector:
    """The network with its weights and the precision it runs in; one per worker."""

    def __init__(self, weights: Path, precision: str = "auto", device: str = "cpu"):
        """`weights`: the published state_dict. `precision`: "fp32", "bf16" or "fp16" (autocast), or "auto": what is fast there.

        That is fp16 on a GPU (no activation is above 15, and it is the closer of the two) and bf16 on a CPU that has it.
        """
        self.device = torch.device(device)
        self.network = TransNetV2().eval().to(self.device)
        self.network.load_state_dict(torch.load(weights, weights_only=True, map_location=self.device))
        self.half = _fast_half(self.device) if precision == "auto" else HALVES[precision]
        self.batch = 1 if self.device.type == "cpu" else BATCH
        """Windows that are best run at once."""

    @torch.inference_mode()
    def __call__(self, windows: np.ndarray) -> np.ndarray:
        """uint8 RGB [B, T, 27, 48, 3] → float32 [B, T − 50]: probabilities of the middle frames."""
        with torch.autocast(self.device.type, self.half, enabled=self.half is not None):
            logits = self.network(torch.from_numpy(windows).to(self.device))
        return logits[:, LEAD:-LEAD].float().sigmoid().cpu().numpy()


def _fast_half(device: torch.device) -> torch.dtype | None:
    return torch.float16 if device.type == "cuda" else HALVES[fast_on_cpu()]


def fast_on_cpu() -> Literal["bf16", "fp32"]:
    """The precision that is fast on this processor."""
    has = torch.cpu.get_capabilities()
    return "bf16" if has.get("avx512_bf16") or has.get("amx_bf16") else "fp32"


class Gather:
    """Windows of one clip or of several, run `batch` at a time in the order they came: the same windows, the same batches."""

    def __init__(self, detector: Callable[[np.ndarray], np.ndarray], batch: int = 1):
        self.detector, self.batch = detector, batch
        self._waiting: list[tuple[np.ndarray, Callable[[list[float]], None]]] = []

    def add(self, window: np.ndarray, give: Callable[[list[float]], None]) -> None:
        """Take a window, uint8 RGB [T, 27, 48, 3]; `give` gets the T − 50 probabilities of its middle, now or later."""
        self._waiting.append((window, give))
        if len(self._waiting) >= self.batch:
            self.flush()

    def flush(self) -> None:
        """Run what waits."""
        waiting, self._waiting = self._waiting, []
        for _, alike in groupby(waiting, key=lambda entry: len(entry[0])):
            windows, takers = zip(*alike, strict=True)
            for give, known in zip(takers, self.detector(np.stack(windows)).tolist(), strict=True):
                give(known)


class Stream:
    """Probabilities of one clip, frame by frame; padded at the clip's ends as published.

    `length`: frames of a window, of which 50 are seen again in the next; a longer clip's last window is as long as it needs, 100
    at least. Up to `length` − 25 frames are undecided, and `length` − 50 more for every window that waits in `gather`.
    """

    def __init__(self, gather: Gather, length: int = WINDOW):
        self.gather, self.length = gather, length
        self.window: list[np.ndarray] = []
        self.owed = 0  # frames pushed that are in the middle of no window yet
        self.known: list[float] = []  # and not given yet

    def push(self, picture: np.ndarray) -> list[float]:
        """Take the next frame, uint8 RGB [27, 48, 3]; give the probabilities that are known by now, in order."""
        if not self.window:
            self.window = [picture] * LEAD
        self.window.append(picture)
        self.owed += 1
        if len(self.window) == self.length:
            self._advance()
        return self._give()

    def finish(self) -> list[float]:
        """The clip has ended: give what is known by now; the rest in a later call, once `gather` has run."""
        while self.owed:
            length = max(WINDOW, min(LEAD + self.owed + LEAD, self.length))
            self.window += [self.window[-1]] * (length - len(self.window))
            self._advance()
        return self._give()

    def _advance(self) -> None:
        stride = len(self.window) - 2 * LEAD
        wanted = min(stride, self.owed)
        self.gather.add(np.stack(self.window), lambda scores: self.known.extend(scores[:wanted]))
        self.window = self.window[stride:]
        self.owed -= wanted

    def _give(self) -> list[float]:
        known, self.known = self.known, []
        return known


def scenes(probabilities: Sequence[float] | np.ndarray, threshold: float = 0.5) -> list[tuple[int, int]]:
    """First and last frame (inclusive) of every shot.

    The first frame above `threshold` (strictly) belongs to the shot before it, the rest of its run to none; a clip that is
    above it throughout is one shot (PAPER.md §3).
    """
    above = np.concatenate([[False], np.asarray(probabilities) > threshold])
    ends = [i for i in range(1, len(above) - 1) if above[i + 1] and not above[i]]
    starts = [0] if not above[1] else []
    starts += [i for i in range(1, len(above) - 1) if above[i] and not above[i + 1]]
    if len(ends) < len(starts):
        ends.append(len(above) - 2)
    return list(zip(starts, ends, strict=True)) or [(0, len(above) - 2)]
