"""Decoded frames and upright arrays of them; with `media.video` and `media.encode` the only user of PyAV."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.sidedata.sidedata import Type as SideData
from av.video.reformatter import ColorPrimaries, Colorspace, ColorTrc, VideoReformatter

HDR_TRANSFERS = (16, 18)  # PQ (SMPTE 2084) and HLG (ARIB STD-B67)


class _ToSdr(threading.local):
    """One for all pictures of a thread: its tables take 2 s to make, and two threads may not share it."""

    def __init__(self) -> None:
        self.reformatter = VideoReformatter()


_to_sdr = _ToSdr()


def sdr(picture: av.VideoFrame) -> av.VideoFrame:
    """HDR as yuv420p of BT.709, limited range; what is none, as it is."""
    if picture.color_trc not in HDR_TRANSFERS:
        return picture
    return _to_sdr.reformatter.reformat(
        picture,
        format="yuv420p",
        dst_color_range="MPEG",
        dst_colorspace=Colorspace.ITU709,
        dst_color_trc=ColorTrc.BT709,
        dst_color_primaries=ColorPrimaries.BT709,
        threads=1,
    )


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


def squared(width: int, height: int, pixel: Fraction) -> tuple[int, int]:
    """Width and height of a picture of such pixels when they are made square, none lost."""
    return (round(width * pixel), height) if pixel >= 1 else (width, round(height / pixel))


@dataclass(frozen=True)
class Frame:
    """One decoded picture and how to turn it; its time and duration in seconds, and its time in ticks of `time_base`, both from
    the first frame of the file. `pixel`: width of a stored pixel in heights of it (the sample aspect ratio)."""

    picture: av.VideoFrame
    turn: Turn
    time: float
    duration: float
    ticks: int
    time_base: Fraction
    pixel: Fraction = Fraction(1)

    @property
    def end(self) -> float:
        return self.time + self.duration

    @property
    def interlaced(self) -> bool:
        """Whether it says that it is two fields, of two moments: what moves has combed edges."""
        return bool(self.picture.interlaced_frame)

    @property
    def squared(self) -> tuple[int, int]:
        """Width and height as stored, with square pixels: the side that is too short is stretched."""
        return squared(self.picture.width, self.picture.height, self.pixel)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as shown: upright, with square pixels."""
        return self.turn.size(*self.squared)


class Painter:
    """Decoded frames → upright uint8 RGB arrays, H×W×3."""

    def __init__(
        self, size: Callable[[int, int], tuple[int, int]] = lambda width, height: (width, height), *, tone: bool = False
    ):
        """`size`: width and height of a picture → those wanted. `tone`: show HDR as SDR, as the encoder does."""
        self._size, self._tone = size, tone
        self._reformatter = VideoReformatter()  # kept: it holds the scaler's tables

    def __call__(self, frame: Frame) -> np.ndarray:
        width, height = frame.turn.size(*self._size(*frame.size))
        picture = sdr(frame.picture) if self._tone else frame.picture
        stored = self._reformatter.reformat(picture, width, height, "rgb24", interpolation="BICUBIC", threads=1)
        return np.ascontiguousarray(frame.turn(stored.to_ndarray()))
