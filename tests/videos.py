"""Short videos whose every frame says its own number, so that a decoded frame can be checked against the truth."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.codec.context import Flags

BITS = 12
BLOCK = 16  # pixels of a bit's side: survives any codec


def picture(number: int, width: int = 208, height: int = 112, colour: tuple[int, int, int] = (90, 90, 90)) -> np.ndarray:
    """uint8 RGB: `colour` with a row of black and white blocks at the top, the bits of `number` from the left."""
    image = np.full((height, width, 3), colour, np.uint8)
    for bit in range(BITS):
        image[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 255 * (number >> bit & 1)
    return image


def number_of(image: np.ndarray) -> int:
    """The number that `picture` wrote, read back from a decoded frame."""
    blocks = image[2 : BLOCK - 2, : BITS * BLOCK].mean(axis=(0, 2)).reshape(BITS, BLOCK)[:, 3:-3].mean(axis=1)
    return int(sum(1 << bit for bit, value in enumerate(blocks) if value > 127))


def write(
    pictures: Iterable[np.ndarray],
    path: Path | None = None,
    *,
    rate: Fraction | int = 30,
    ticks: Iterable[int] | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    container: str = "mp4",
    rotate: int | None = None,
    mirror: bool = False,
    sound: bool | np.ndarray = False,
    gop: int = 12,
    options: dict[str, str] | None = None,
    colours: dict[str, Any] | None = None,
    interlaced: bool = False,
    bframes: int | None = None,
) -> bytes:
    """Encode pictures, at `ticks` of 1/rate seconds or one after the other; also to `path` if given. `sound`: a silent track,
    or one of float32 [2, samples] at 44.1 kHz."""
    rate = Fraction(rate)
    pictures = list(pictures)
    times = list(ticks) if ticks is not None else range(len(pictures))
    file = Path(tempfile.mkstemp(suffix=".video")[1])
    with av.open(str(file), "w", format=container, container_options=options or {}) as output:
        stream = output.add_stream(codec, rate=rate)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt, stream.gop_size = pix_fmt, gop
        stream.codec_context.time_base = 1 / rate
        stream.codec_context.thread_count = 1
        if bframes is not None:
            stream.codec_context.max_b_frames = bframes
        if interlaced:
            stream.codec_context.flags |= Flags.interlaced_dct | Flags.interlaced_me
        for tag, value in (colours or {}).items():
            setattr(stream.codec_context, tag, value)
        if rotate is not None:
            stream.set_display_rotation(rotate, mirror)
        if sound is not False:
            silence = np.zeros((2, max(1, int(44100 * len(pictures) / float(rate)))), np.float32)
            _play(output, output.add_stream("aac", rate=44100), silence if sound is True else sound)
        for time, image in zip(times, pictures, strict=True):
            frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = time, 1 / rate
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    data = file.read_bytes()
    file.unlink()
    if path:
        path.write_bytes(data)
    return data


def _play(output: av.container.OutputContainer, audio: av.AudioStream, samples: np.ndarray) -> None:
    for start in range(0, samples.shape[1], 1024):
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[:, start : start + 1024]), "fltp", "stereo")
        frame.sample_rate, frame.pts, frame.time_base = 44100, start, Fraction(1, 44100)
        output.mux(audio.encode(frame))
    output.mux(audio.encode())


def sound_only() -> bytes:
    """An mp4 with an audio track and no video."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        _play(output, output.add_stream("aac", rate=44100), np.zeros((2, 44100), np.float32))
    return file.getvalue()


def numbered(count: int, **options: object) -> bytes:
    """`count` frames that say 0, 1, 2 …, all of one shot."""
    return write((picture(i) for i in range(count)), **options)  # type: ignore[arg-type]


SCENES = ((200, 40, 40), (30, 60, 200), (40, 180, 60), (220, 200, 40), (20, 20, 30))


def shots(*lengths: int, **options: object) -> bytes:
    """Numbered frames in shots of `lengths` frames, hard cuts between: each its own colour, with a texture that drifts."""
    images = []
    for scene, length in enumerate(lengths):
        rng = np.random.default_rng(scene)
        texture = np.kron(rng.integers(0, 90, (12, 60)), np.ones((8, 8))).astype(np.int16)
        for shift in range(length):
            number = len(images)
            image = picture(number, colour=SCENES[scene % len(SCENES)]).astype(np.int16)
            image[BLOCK:] += texture[:, shift % 250 : shift % 250 + 208, None]
            images.append(np.clip(image, 0, 255).astype(np.uint8))
    return write(images, **options)  # type: ignore[arg-type]


def numbers(mp4: bytes) -> list[int]:
    """What the frames of a file say."""
    from curation.media import video
    from curation.media.picture import Painter

    paint = Painter()
    return [number_of(paint(frame)) for frame in video.frames(io.BytesIO(mp4))]
