"""What training needs of a sample, decoded: frames of a clip nearest to some times, at a size; reference pictures on white."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np

from curation.media.picture import Frame, Painter
from curation.media.video import Reader, VideoError

EARLY = 1e-6  # seconds; a time right between two frames takes the earlier one, whatever rounding says


Decoder = Literal["pyav", "decord"]
Cover = Callable[[int, int], tuple[int, int]]
"""Width and height of a picture → those to which it is scaled."""


class DecodeError(Exception):
    """A member cannot be decoded; the message is a short reason."""


def clip(
    mp4: bytes,
    times: Sequence[float],
    width: int,
    height: int,
    at: tuple[float, float] = (0.5, 0.5),
    decoder: Decoder = "pyav",
) -> np.ndarray:
    """The frames nearest to `times`, which increase, in seconds from the first frame: uint8 RGB [len(times), 3, height, width].

    Pictures are scaled (bicubic) to cover `width` × `height` and cropped; `at` says where, x and y from 0 (left, top) to 1.
    Decoding ends with the last frame needed. Raises `DecodeError`.
    """
    video = np.empty((len(times), 3, height, width), np.uint8)
    images = _by_decord if decoder == "decord" else _by_pyav
    try:
        for image, numbers in images(mp4, times, _cover(width, height)):
            y, x = (
                int(share * (have - want) + 0.5)
                for share, have, want in zip(at[::-1], image.shape, (height, width), strict=False)
            )
            video[numbers[0]] = image[y : y + height, x : x + width].transpose(2, 0, 1)
            for number in numbers[1:]:
                video[number] = video[numbers[0]]
    except VideoError as error:
        raise DecodeError(str(error)) from error
    return video


def _by_pyav(mp4: bytes, times: Sequence[float], cover: Cover) -> Iterator[tuple[np.ndarray, list[int]]]:
    """Images, and which of `times` each is for. Raises `VideoError`, as the next does."""
    paint = Painter(cover)
    with Reader(io.BytesIO(mp4)) as reader:
        for frame, numbers in nearest(_frames(reader, times[0]), times):
            yield paint(frame), numbers


def _by_decord(mp4: bytes, times: Sequence[float], cover: Cover) -> Iterator[tuple[np.ndarray, list[int]]]:
    try:
        import decord
    except ImportError as error:
        raise ModuleNotFoundError("decoder: decord needs decord2: pip install 'curation[decord]'") from error
    try:
        height, width = decord.VideoReader(io.BytesIO(mp4), num_threads=1)[0].shape[:2]
        width, height = cover(width, height)
        reader = decord.VideoReader(io.BytesIO(mp4), num_threads=1, width=width, height=height)
        spans = reader.get_frame_timestamp(range(len(reader)))
        starts = spans[:, 0] - spans[0, 0]
        if times[-1] > spans[-1, 1] - spans[0, 0] + EARLY:
            raise VideoError("too_short", "shorter than its metadata says")
        which = np.searchsorted((starts[1:] + starts[:-1]) / 2 + EARLY, times)
        wanted = np.unique(which)
        images = reader.get_batch(wanted).asnumpy()
    except (decord.DECORDError, RuntimeError, IndexError) as error:
        raise VideoError("damaged" if "packet" in str(error) else "not_a_video", str(error).partition("\n")[0]) from error
    for frame, image in zip(wanted, images, strict=True):
        yield image, np.flatnonzero(which == frame).tolist()


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
        raise VideoError("too_short", "shorter than its metadata says")
    yield last, list(range(number, len(times)))


def _frames(reader: Reader, start: float) -> Iterator[Frame]:
    """All frames, less those that the file's index lets one leap over before `start`."""
    for number, frame in enumerate(reader.frames()):
        if not number:
            reader.skip_to(start - reader.frame_seconds)
        yield frame


def _cover(width: int, height: int) -> Cover:
    def size(w: int, h: int) -> tuple[int, int]:
        scale = max(width / w, height / h)
        return max(width, math.floor(w * scale + 0.5)), max(height, math.floor(h * scale + 0.5))

    return size


def picture(data: bytes | None) -> np.ndarray:
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
    return np.ascontiguousarray(rgb.transpose(2, 0, 1))
