"""Encode frames as one mp4 in memory; with `media.video`, `media.picture` and `media.sound` the only user of PyAV."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from curation.media.picture import Frame, Turn, sdr
from curation.media.video import Input, Reader

FINEST_TIME_BASE = Fraction(1, 1_000_000)  # mp4 keeps a frame's duration in 32 bits of this
RGB_AS = Colorspace.ITU709
"""How RGB is stored, which has no colour space of its own."""
COLOUR_TAGS = ("colorspace", "color_range", "color_trc", "color_primaries")


def _steady() -> dict[str, str]:
    """x264's AVX-512 code gave other bytes for the same frames in 11 of 10,300 encodes; held to AVX2, in 0 of 9,848; the usual
    bytes are the same (benchmarks/encode_repeats.py). Said only to processors that have AVX-512."""
    cpus = Path("/proc/cpuinfo")
    return {"x264-params": "asm=avx2"} if cpus.exists() and "avx512" in cpus.read_text() else {}


STEADY = _steady()


class Encoder:
    """Frames in, one mp4 out, in memory: H.264 4:2:0 8 bit, no sound, index in front, the frames' own times, even sides.

    An odd row or column is cut off; full-range, 10-bit, 4:4:4 and HDR pictures are converted.
    """

    def __init__(self, rate: Fraction, crf: int, preset: str):
        """`rate`: nominal frames per second. `crf`, `preset`: libx264's."""
        self.rate, self.crf, self.preset = rate, crf, preset
        self.size: tuple[int, int] | None = None
        """Width and height of what is written, known after the first frame."""
        self._file = io.BytesIO()
        self._reformatter = VideoReformatter()
        self._durations: dict[int, int] = {}

    def add(self, frame: Frame) -> None:
        """Append a frame; their times must increase. Later frames of another size are scaled to the first one's."""
        picture = self._converted(frame)
        if self.size is None:
            self._start(frame, picture)
            self.size = (picture.width, picture.height)
        if (picture.width, picture.height) != self.size:
            width, height = self.size
            picture = self._reformatter.reformat(picture, width, height, interpolation="BICUBIC", threads=1)
        picture.pict_type = 0  # else the encoder repeats the source's choice of key frames
        picture.time_base = self._base
        picture.pts = round((frame.ticks - self._first) * frame.time_base / self._base)
        self._durations[picture.pts] = round(frame.duration / self._base)
        self._mux(self._stream.encode(picture))

    def finish(self) -> bytes:
        """The file. Call it once, after at least one frame."""
        self._mux(self._stream.encode())
        self._container.close()
        return self._file.getvalue()

    def _start(self, frame: Frame, picture: av.VideoFrame) -> None:
        self._first = frame.ticks
        self._base = max(frame.time_base, FINEST_TIME_BASE)
        self._container = mp4_of(self._file)
        x264 = {"crf": str(self.crf), "preset": self.preset, **STEADY}
        self._stream = stream = self._container.add_stream("libx264", rate=self.rate, options=x264)
        stream.width, stream.height, stream.pix_fmt = picture.width, picture.height, "yuv420p"
        context = stream.codec_context
        context.time_base, context.thread_count = self._base, 1
        for tag in COLOUR_TAGS:
            setattr(context, tag, getattr(picture, tag))

    def _mux(self, packets: list[av.Packet]) -> None:
        for packet in packets:
            packet.duration = self._durations.pop(packet.pts)
            self._container.mux(packet)

    def _converted(self, frame: Frame) -> av.VideoFrame:
        """Upright, yuv420p, limited range, square pixels, even sides; the picture itself when it is all that already."""
        picture, turn, (width, height) = sdr(frame.picture), frame.turn, frame.squared
        if picture.format.is_rgb:  # it keeps the mark of RGB otherwise, which is no way to store 4:2:0
            to: dict[str, Any] = {"format": "yuv420p", "dst_color_range": "MPEG", "dst_colorspace": RGB_AS}
            picture = self._reformatter.reformat(picture, **to, threads=1)
        elif picture.format.name != "yuv420p" or picture.color_range == ColorRange.JPEG:
            picture = self._reformatter.reformat(picture, format="yuv420p", dst_color_range="MPEG", threads=1)
        if (picture.width, picture.height) != (width, height):
            picture = self._reformatter.reformat(picture, width, height, interpolation="BICUBIC", threads=1)
        if turn == Turn() and picture.width % 2 == picture.height % 2 == 0:
            return picture
        y, u, v = (turn(_plane(plane)) for plane in picture.planes)
        height, width = y.shape[0] // 2, y.shape[1] // 2
        parts = [y[: 2 * height, : 2 * width], u[:height, :width], v[:height, :width]]
        stacked = np.concatenate([part.ravel() for part in parts]).reshape(3 * height, 2 * width)
        turned = av.VideoFrame.from_ndarray(stacked, "yuv420p")
        for tag in COLOUR_TAGS:
            setattr(turned, tag, getattr(picture, tag))
        return turned


def _plane(plane: av.video.plane.VideoPlane) -> np.ndarray:
    return np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]


def from_arrays(frames: np.ndarray, fps: float, crf: int = 14, preset: str = "medium") -> bytes:
    """An mp4 of uint8 RGB pictures [F, H, W, 3] with even sides, `fps` of them a second."""
    rate = Fraction(fps).limit_denominator(1001)
    encoder = Encoder(rate, crf, preset)
    for number, pixels in enumerate(frames):
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24")
        encoder.add(Frame(picture, Turn(), float(number / rate), float(1 / rate), number, 1 / rate))
    return encoder.finish()


def copied(source: Input) -> bytes:
    """The pictures of a file, packet by packet, as an mp4 of its own: without sound, and without what cameras and phones say of
    place, device and owner. Its packets are to be `clean`. Raises `VideoError`."""
    file = io.BytesIO()
    with Reader(source) as reader, mp4_of(file) as output:
        stream = output.add_stream_from_template(reader.stream)
        stream.time_base = reader.time_base
        for packet in reader.packets():
            if packet.size:
                packet.stream = stream
                output.mux(packet)
    return file.getvalue()


def mp4_of(file: io.BytesIO) -> av.container.OutputContainer:
    """To be written, index in front."""
    read_back = _View(file)  # to put the index in front, the muxer reads what it has written
    options = {"movflags": "faststart", "fflags": "bitexact"}
    return av.open(file, "w", format="mp4", container_options=options, io_open=lambda *_: read_back)


class _View:
    """A second reading position in a buffer that is still being written."""

    def __init__(self, file: io.BytesIO):
        self._file, self._at = file, 0

    def read(self, size: int) -> bytes:
        with self._file.getbuffer() as view:
            data = bytes(view[self._at : self._at + size])
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._file.getbuffer().nbytes)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        pass


CODECS = {
    "libx264": lambda quality: {"crf": str(18 + round(18 * quality)), "preset": "veryfast", **STEADY},
    "mpeg4": lambda quality: {"qscale": str(2 + round(10 * quality))},
    "libvpx": lambda quality: {"crf": str(8 + round(40 * quality)), "b": "2000000", "deadline": "realtime", "cpu-used": "-8"},
    "mjpeg": lambda quality: {"qscale": str(2 + round(10 * quality))},
    "mpeg2video": lambda quality: {"qscale": str(2 + round(10 * quality))},
}
"""FFmpeg's encoders by which pictures are worn, and their options for a loss from 0 (hardly seen) to 1 (as bad as is met). libvpx
takes a negative speed as it is; a positive one it changes by how long its last frames took."""


def worn(frames: np.ndarray, codec: str, loss: float) -> np.ndarray:
    """uint8 RGB pictures [F, H, W, 3] with even sides as they come out of a codec of `CODECS`."""
    height, width = frames.shape[1:3]
    options = CODECS[codec](loss)
    context = av.CodecContext.create(codec, "w")
    context.width, context.height, context.time_base, context.thread_count = width, height, Fraction(1, 12), 1
    context.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    if "qscale" in options:
        context.qmin = context.qmax = int(options.pop("qscale"))
    context.options = options
    decoder = av.CodecContext.create({"libx264": "h264", "libvpx": "vp8"}.get(codec, codec), "r")
    decoder.thread_type, decoder.thread_count = "NONE", 1
    back: list[np.ndarray] = []
    pictures = [av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24") for pixels in frames]
    for number, picture in enumerate([*pictures, None]):
        if picture is not None:
            picture.pts, picture.time_base = number, context.time_base
            picture = picture.reformat(format=context.pix_fmt)
        packets = context.encode(picture)
        back += [shown.to_ndarray(format="rgb24") for packet in packets for shown in decoder.decode(packet)]
    return np.stack(back + [shown.to_ndarray(format="rgb24") for shown in decoder.decode(None)])
