"""What a step needs of a sample, decoded: some frames of the clip at a bucket's size, and reference pictures on white."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from curation.picture import Painter
from curation.video import Frame, Reader, VideoError

EARLY = 1e-6  # seconds; a time right between two frames takes the earlier one, whatever rounding says


class DecodeError(Exception):
    """A member cannot be decoded; the message is a short reason."""


def clip(mp4: bytes, times: Sequence[float], width: int, height: int, at: tuple[float, float] = (0.5, 0.5)) -> Tensor:
    """The frames nearest to `times`, which increase, in seconds from the first frame: uint8 RGB [len(times), 3, height, width].

    Pictures are scaled (bicubic) to cover `width` × `height` and cropped; `at` says where, x and y from 0 (left, top) to 1.
    Decoding ends with the last frame needed. Raises `DecodeError`.
    """
    video = torch.empty(len(times), 3, height, width, dtype=torch.uint8)
    paint = Painter(_cover(width, height))
    try:
        with Reader(io.BytesIO(mp4)) as reader:
            for frame, numbers in nearest(_frames(reader, times[0]), times):
                image = paint(frame)
                y, x = (
                    int(share * (have - want) + 0.5)
                    for share, have, want in zip(at[::-1], image.shape, (height, width), strict=False)
                )
                video[numbers[0]] = torch.from_numpy(image[y : y + height, x : x + width]).permute(2, 0, 1)
                for number in numbers[1:]:
                    video[number] = video[numbers[0]]
    except VideoError as error:
        raise DecodeError(str(error)) from error
    return video


def nearest(frames: Iterator[Frame], times: Sequence[float]) -> Iterator[tuple[Frame, list[int]]]:
    """Each frame that is nearest to some of `times`, with their numbers. Takes one frame more than it needs, and no other.

    Raises `VideoError` when a time lies more than a frame beyond the last one.
    """
    last, number = next(frames, None), 0
    for frame in frames:
        first, middle = number, (last.time + frame.time) / 2 if last else 0.0
        while number < len(times) and times[number] <= middle + EARLY:
            number += 1
        if last and number > first:
            yield last, list(range(first, number))
        if number == len(times):
            return
        last = frame
    if last is None or times[-1] > last.end + EARLY:
        raise VideoError("shorter than its metadata says")
    yield last, list(range(number, len(times)))


def _frames(reader: Reader, start: float) -> Iterator[Frame]:
    """All frames, less those that the file's index lets one leap over before `start`."""
    for number, frame in enumerate(reader.frames()):
        if not number:
            reader.skip_to(start - reader.frame_seconds)
        yield frame


def _cover(width: int, height: int) -> Callable[[int, int], tuple[int, int]]:
    def size(w: int, h: int) -> tuple[int, int]:
        scale = max(width / w, height / h)
        return max(width, math.floor(w * scale + 0.5)), max(height, math.floor(h * scale + 0.5))

    return size


def picture(data: bytes | None) -> Tensor:
    """A reference, JPEG or WebP, as uint8 RGB [3, h, w]; what its alpha leaves out is white. Raises `DecodeError`."""
    import cv2

    if not data:
        raise DecodeError("a picture is not in the shard")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim != 3 or image.dtype != np.uint8:
        raise DecodeError("not a colour picture")
    rgb = image[..., 2::-1]
    if image.shape[2] == 4:
        alpha = image[..., 3:].astype(np.uint16)
        rgb = ((rgb * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))
