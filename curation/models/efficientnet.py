"""EfficientNet-Lite2: which of ImageNet's 1,000 classes a picture shows, and an embedding of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np

SIDE, MIDDLE, SCALE = 260, 127.0, 128.0
"""Of its input: RGB, (value − 127) / 128 (reviews/weights.md)."""
LONG_SIDE, CELL = 576, 32
"""Of what `cells` sees; a cell of its map."""
STRIDED = (1, 4, 7, 15)
"""Blocks that halve the picture, of 21."""
EPSILON = 1e-3
"""Of its batch normalisation."""
KNOWN = (
    *(("airplane",), ("bear",), ("bicycle",), ("bird",), ("boat",), ("bus", "car", "truck"), ("cat",), ("cell phone",), ("dog",)),
    *(("elephant",), ("laptop",), ("microwave",), ("tie",), ("umbrella",), ("zebra",)),
)
"""COCO's classes, alone or several that are taken for one another, that ImageNet's classes cover well enough to say whether a box
shows one."""


Conv = tuple[Any, Any]
"""Weight and bias."""


class Looks(NamedTuple):
    """Of each picture: `classes`, float32 [N, 1000], probabilities; `embedding`, float32 [N, 1280], of length 1."""

    classes: np.ndarray
    embedding: np.ndarray


class Names(Protocol):
    def to_coco(self, phrase: str) -> str | None: ...


class EfficientNet:
    """The network of a checkpoint of `efficientnet-lite-pytorch`. Batch normalisation is part of the convolutions."""

    def __init__(self, checkpoint: Path, device: Any = "cpu"):
        """`device`: where `maps` works; all else takes the CPU."""
        import torch

        self._torch = torch
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        self._stem = _folded(torch, state, "_conv_stem", "_bn0")
        self._blocks: list[tuple[Conv | None, Conv, Conv]] = []
        while any(name.startswith(f"_blocks.{len(self._blocks)}.") for name in state):
            own = f"_blocks.{len(self._blocks)}."
            expand = _folded(torch, state, f"{own}_expand_conv", f"{own}_bn0") if f"{own}_expand_conv.weight" in state else None
            depthwise = _folded(torch, state, f"{own}_depthwise_conv", f"{own}_bn1")
            self._blocks.append((expand, depthwise, _folded(torch, state, f"{own}_project_conv", f"{own}_bn2")))
        self._head = _folded(torch, state, "_conv_head", "_bn1")
        self._classify = state["_fc.weight"], state["_fc.bias"]

    def __call__(self, pictures: Sequence[np.ndarray]) -> Looks:
        """Of RGB uint8 pictures of any size, squeezed into a square."""
        with self._torch.inference_mode():
            pooled = self._features(pictures, SIDE, SIDE).mean((2, 3))
            unit = self._torch.nn.functional.normalize(pooled)
            return Looks(self._probabilities(pooled).numpy(), unit.numpy())

    def cells(self, picture: np.ndarray) -> np.ndarray:
        """What each cell of an RGB uint8 picture shows: probabilities, float32 [rows, columns, 1000]. A cell is `CELL` px of
        the picture at `LONG_SIDE`, its aspect kept up to a cell. Cell (0, 0) sees most of the corner that four cells share."""
        scale = LONG_SIDE / max(picture.shape[:2])
        rows, columns = (max(1, round(side * scale / CELL)) for side in picture.shape[:2])
        with self._torch.inference_mode():
            return self._probabilities(self._features([picture], rows * CELL, columns * CELL)[0].permute(1, 2, 0)).numpy()

    def _features(self, pictures: Sequence[np.ndarray], height: int, width: int) -> Any:
        """The last feature map of pictures squeezed into a size: [N, 1280, height / `CELL`, width / `CELL`]."""
        small = [cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA) for picture in pictures]
        x = self._torch.from_numpy(np.stack(small).astype(np.float32)).permute(0, 3, 1, 2)
        return self._conv(self.maps(x)[-1], *self._head).clamp(0, 6)

    def maps(self, x: Any) -> list[Any]:
        """Of pictures as a tensor [N, 3, H, W], RGB from 0 to 255: the maps before each halving, and the last; their sides are
        2, 4, 8, 16 and 32 times smaller. Differentiable."""
        found = []
        x = self._conv((x - MIDDLE) / SCALE, *self._stem, stride=2).clamp(0, 6)
        for number, (expand, depthwise, project) in enumerate(self._blocks):
            if number in STRIDED:
                found.append(x)
            inner = self._conv(x, *expand).clamp(0, 6) if expand else x
            inner = self._conv(inner, *depthwise, stride=1 + (number in STRIDED), groups=inner.shape[1]).clamp(0, 6)
            inner = self._conv(inner, *project)
            x = x + inner if x.shape == inner.shape else inner
        return [*found, x]

    def _probabilities(self, features: Any) -> Any:
        """Of features in the last dimension."""
        return self._torch.nn.functional.linear(features, *self._classify).softmax(-1)

    def _conv(self, x: Any, weight: Any, bias: Any, stride: int = 1, groups: int = 1) -> Any:
        """With TensorFlow's padding: what is odd goes to the right and below."""
        kernel = weight.shape[-1]
        missing = [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[:1:-1]]
        sides = [part for side in missing for part in (side // 2, side - side // 2)]
        return self._torch.nn.functional.conv2d(self._torch.nn.functional.pad(x, sides), weight, bias, stride, groups=groups)


def _folded(torch: Any, state: dict[str, Any], conv: str, norm: str) -> Conv:
    """A convolution's weight and bias with the normalisation after it."""
    scale = state[f"{norm}.weight"] / torch.sqrt(state[f"{norm}.running_var"] + EPSILON)
    return state[f"{conv}.weight"] * scale[:, None, None, None], state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale


def coco_classes(names: Path, wordnet: Names) -> dict[str, list[int]]:
    """For each name of COCO's among `KNOWN` the ImageNet classes that are of it, by their words in a JSON file {number: "word,
    word"}."""
    found: dict[str, list[int]] = {}
    for number, words in json.loads(names.read_text()).items():
        named = {label for word in words.split(", ") if (label := wordnet.to_coco(word))}
        if len(named) == 1:
            found.setdefault(named.pop(), []).append(int(number))
    return {label: sorted(n for other in family for n in found[other]) for family in KNOWN for label in family}
