"""YOLOv9-C trained on faces, as MSRVTT-Personalization runs it: its auxiliary branch, fed BGR, the surest face alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from curation.models.pickled import WrongWeights, weights_of
from curation.models.yolo_face import SIDE  # it sets ultralytics offline, so before that is imported

# isort: split
from ultralytics.nn.modules import ADown, CBFuse, CBLinear, Conv, RepNCSPELAN4

SURE = 0.2
"""Score above which there is a face (PAPER.md §3). How far boxes may overlap does not matter: the surest one always stays."""
MULTIPLE, GREY = 32, 114
"""Sides of the letterboxed frame are its multiples; the fill's grey."""
EPSILON = 1e-3
"""Of its batch normalisation."""
BINS = 16
"""A box side is the mean of a distribution over 0 … 15 strides."""
STRIDES = (8, 16, 32)
AT_ONCE = 16
"""Frames per forward pass."""
HEAD = "model.38"
"""The last layer of yolov9-c.yaml: two heads, of which the first three maps are the auxiliary branch's."""


class Yolov9Face:
    """`checkpoint` is a `*.pt` of WongKinYiu's YOLOv9 that was trained from `yolov9-c.yaml`, at any width. Raises
    `WrongWeights`."""

    def __init__(self, checkpoint: Path, device: str = "cpu"):
        weights = weights_of(checkpoint, "ema", "model")
        try:
            self._network = Auxiliary(weights)
        except (KeyError, RuntimeError) as error:
            raise WrongWeights(f"{checkpoint} is no YOLOv9-C with two heads: {' '.join(str(error).split())[:200]}") from error
        self._network.eval().requires_grad_(False).to(device)
        self._device = device

    def __call__(self, frames: Sequence[np.ndarray] | np.ndarray) -> list[tuple[int, int, int, int] | None]:
        """Of uint8 RGB frames of one size the box of the surest face of each, whole pixels within it; None where none is seen."""
        found: list[tuple[int, int, int, int] | None] = []
        for start in range(0, len(frames), AT_ONCE):
            part = frames[start : start + AT_ONCE]
            boxes, scores = self.queries([letterboxed(frame)[..., ::-1] for frame in part])
            size = letterboxed(part[0]).shape[:2]
            found += [surest(b, s, size, frame.shape[:2]) for b, s, frame in zip(boxes, scores, part, strict=True)]
        return found

    @torch.inference_mode()
    def queries(self, pictures: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Pictures as the network sees them → boxes [N, Q, 4], xyxy px of them, and scores [N, Q, classes]."""
        x = torch.from_numpy(np.stack(pictures)).to(self._device).permute(0, 3, 1, 2).float() / 255
        boxes, scores = self._network(x)
        return boxes.cpu().numpy(), scores.cpu().numpy()


def letterboxed(frame: np.ndarray) -> np.ndarray:
    """A frame whose long side is `SIDE`, larger or smaller than it was, grey at its sides up to the next multiple."""
    height, width = frame.shape[:2]
    scale = min(SIDE / height, SIDE / width)
    high, wide = round(height * scale), round(width * scale)
    if (high, wide) != (height, width):
        frame = cv2.resize(frame, (wide, high), interpolation=cv2.INTER_LINEAR)
    rows, columns = ((SIDE - side) % MULTIPLE / 2 for side in (high, wide))
    top, bottom, left, right = (round(half + end) for half in (rows, columns) for end in (-0.1, 0.1))
    return cv2.copyMakeBorder(frame, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(GREY, GREY, GREY))


def surest(
    boxes: np.ndarray, scores: np.ndarray, seen: tuple[int, int], frame: tuple[int, int]
) -> tuple[int, int, int, int] | None:
    """The best box of class 0 in whole pixels of the frame; `seen` and `frame` are (height, width), letterboxed and not."""
    best = np.where(scores.argmax(1) == 0, scores[:, 0], 0)
    at = int(best.argmax())
    if best[at] <= SURE:
        return None
    scale = min(seen[0] / frame[0], seen[1] / frame[1])
    border = np.array([(seen[1] - frame[1] * scale) / 2, (seen[0] - frame[0] * scale) / 2] * 2, np.float32)
    sides = ((boxes[at] - border) / np.float32(scale)).clip(0, [frame[1], frame[0]] * 2)
    left, top, right, bottom = (int(side) for side in sides.round())
    return left, top, right, bottom


class Auxiliary(nn.Module):
    """The backbone, its routes and the auxiliary branch of YOLOv9-C with its heads; the neck of the main branch is left out.
    Layers have the numbers of yolov9-c.yaml; sizes are read off the weights."""

    def __init__(self, weights: dict[str, Tensor]):
        super().__init__()

        def out(layer: int, conv: str = "conv") -> int:
            return weights[f"model.{layer}.{conv}.weight"].shape[0]

        def conv(layer: int) -> Conv:
            return Conv(weights[f"model.{layer}.conv.weight"].shape[1], out(layer), 3, 2)

        def down(layer: int) -> ADown:
            return ADown(2 * weights[f"model.{layer}.cv1.conv.weight"].shape[1], 2 * out(layer, "cv1.conv"))

        def elan(layer: int) -> RepNCSPELAN4:
            depth = len({m[1] for key in weights if (m := re.match(rf"model\.{layer}\.cv2\.0\.m\.(\d+)\.", key))})
            first = weights[f"model.{layer}.cv1.conv.weight"]
            return RepNCSPELAN4(first.shape[1], out(layer, "cv4.conv"), first.shape[0], out(layer, "cv2.1.conv"), depth)

        widths = [2 * out(layer, "cv1.conv") for layer in (29, 32, 35)]
        layers = {layer: conv(layer) for layer in (1, 2, 26, 27)}
        layers |= {layer: down(layer) for layer in (4, 6, 8, 29, 32, 35)}
        layers |= {layer: elan(layer) for layer in (3, 5, 7, 9, 28, 31, 34, 37)}
        routes = enumerate((23, 24, 25), 1)
        layers |= {layer: CBLinear(weights[f"model.{layer}.conv.weight"].shape[1], widths[:many]) for many, layer in routes}
        self.model = nn.ModuleDict({str(layer): module for layer, module in layers.items()})
        self.boxes = nn.ModuleList(_branch(weights, f"{HEAD}.cv2.{i}", 4) for i in range(len(STRIDES)))
        self.classes = nn.ModuleList(_branch(weights, f"{HEAD}.cv3.{i}", 1) for i in range(len(STRIDES)))
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = EPSILON
        heads = {f"{HEAD}.cv2.": "boxes.", f"{HEAD}.cv3.": "classes."}
        own = {
            next((by + key.removeprefix(head) for head, by in heads.items() if key.startswith(head)), key): value
            for key, value in weights.items()
        }
        wanted = self.state_dict()
        self.load_state_dict({key: own[key] for key in wanted})

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes [N, Q, 4], xyxy px, and scores [N, Q, classes], of the levels from fine to coarse."""
        seen = {0: x}
        for layer in range(1, 10):
            seen[layer] = self.model[str(layer)](seen[layer - 1])
        routes = [self.model[str(layer)](seen[source]) for layer, source in ((23, 5), (24, 7), (25, 9))]
        x = self.model["28"](self.model["27"](self.model["26"](x)))
        levels = []
        for level, layer in enumerate((29, 32, 35)):
            x = CBFuse([level] * len(routes[level:]))([*routes[level:], self.model[str(layer)](x)])
            x = self.model[str(layer + 2)](x)
            levels.append(x)
        found = [self._decoded(level, stride, i) for i, (level, stride) in enumerate(zip(levels, STRIDES, strict=True))]
        return torch.cat([boxes for boxes, _ in found], 1), torch.cat([scores for _, scores in found], 1)

    def _decoded(self, x: Tensor, stride: int, level: int) -> tuple[Tensor, Tensor]:
        bins = self.boxes[level](x).flatten(2).unflatten(1, (4, BINS)).softmax(2)
        left, top, right, bottom = torch.einsum("nsbq,b->snq", bins, torch.arange(BINS, dtype=x.dtype, device=x.device))
        rows, columns = torch.meshgrid(*(torch.arange(side, device=x.device) + 0.5 for side in x.shape[2:]), indexing="ij")
        rows, columns = rows.flatten(), columns.flatten()
        boxes = torch.stack([columns - left, rows - top, columns + right, rows + bottom], 2) * stride
        return boxes, self.classes[level](x).flatten(2).transpose(1, 2).sigmoid()


def _branch(weights: dict[str, Tensor], name: str, groups: int) -> nn.Sequential:
    """Two convolutions and a last one without normalisation; those of boxes in groups, one for each side."""
    first, last = weights[f"{name}.0.conv.weight"], weights[f"{name}.2.weight"]
    width = first.shape[0]
    return nn.Sequential(
        Conv(first.shape[1], width, 3), Conv(width, width, 3, g=groups), nn.Conv2d(width, last.shape[0], 1, groups=groups)
    )
