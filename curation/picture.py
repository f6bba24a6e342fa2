"""Decoded pictures as upright arrays; with `curation.video` and `curation.encode` the only user of PyAV."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import av
import numpy as np
from av.sidedata.sidedata import Type as SideData
from av.video.reformatter import VideoReformatter

if TYPE_CHECKING:
    from curation.video import Frame


@dataclass(frozen=True)
class Turn:
    """How a stored picture is to be shown: mirrored at its diagonal, then left–right, then upside down."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @classmethod
    def of(cls, picture: av.VideoFrame) -> Turn:
        """From the display matrix (x, y) → (a·x + c·y, b·x + d·y); angles between quarter turns count as none."""
        for data in picture.side_data:
            if data.type == SideData.DISPLAYMATRIX:
                a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5]
                if a == d == 0:
                    return cls(True, bool(c < 0), bool(b < 0))
                return cls(False, bool(a < 0), bool(d < 0)) if b == c == 0 else cls()
        return cls()

    def __call__(self, plane: np.ndarray) -> np.ndarray:
        """H×W or H×W×C, turned (a view)."""
        if self.transpose:
            plane = plane.swapaxes(0, 1)
        return plane[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height after the turn; its own inverse."""
        return (height, width) if self.transpose else (width, height)


class Painter:
    """Decoded frames → upright uint8 RGB arrays, H×W×3."""

    def __init__(self, size: Callable[[int, int], tuple[int, int]] = lambda width, height: (width, height)):
        """`size`: width and height of a picture → those wanted."""
        self._size = size
        self._reformatter = VideoReformatter()  # kept: it holds the scaler's tables

    def __call__(self, frame: Frame) -> np.ndarray:
        width, height = frame.turn.size(*self._size(*frame.size))
        stored = self._reformatter.reformat(frame.picture, width, height, "rgb24", interpolation="BICUBIC", threads=1)
        return np.ascontiguousarray(frame.turn(stored.to_ndarray()))
