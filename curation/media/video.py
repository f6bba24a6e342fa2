"""Open and decode video; with `media.picture`, `media.encode` and `media.sound` the only user of PyAV.

Time is seconds from the first frame of a file's video stream. Pictures leave upright: a display matrix is applied to the pixels.
Decoding runs on one thread; the same input gives the same bytes.
"""

from __future__ import annotations

import errno
import io
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import IO, Any, NamedTuple

import av
import av.error
import av.logging
from av.stream import Disposition

from curation.faults import DataError
from curation.media import index
from curation.media.picture import Frame, Turn, squared

av.logging.set_level(av.logging.PANIC)  # what FFmpeg has to say about broken files is said by VideoError

FORMATS = ("mov", "matroska", "avi", "mpegts", "mpeg", "mpegvideo", "flv", "ogg", "asf", "gif")
"""FFmpeg's demuxers that may read what is called a video. Others open further files (playlists), wait for a network (SDP) or play
texts and pictures."""
SEEK_MARGIN = 1.0  # seconds; more than an encoder reorders frames by
MOST_STRETCH = 4
"""Sides of a pixel differ by this factor at most, or the file lies: anamorphic films have 2, PAL at 16:9 64/45."""
DURATION_SLACK = 0.5  # seconds a file may end before the duration it states; measured: muxers round by a frame or two

Input = str | io.BytesIO
"""What a reader opens: a local path, or a file in memory."""


def on_decode(reader: Reader) -> None:
    """Called once for every frame that any reader decodes, wanted or not; tests put a counter in its place."""


class VideoError(DataError):
    """A video cannot be read, and that is the file's fault."""


class Extent(NamedTuple):
    """Frames of a file, ticks of the last one, seconds until that one ends; whether all its packets are frames that are shown."""

    frames: int
    last: int
    seconds: float
    clean: bool


class Reader:
    """One sequential decode of a file's first video stream (a cover picture is none).

    Bytes are read here, not by FFmpeg, so that an error of the disk arrives as what it is, an OSError; what FFmpeg itself cannot
    make sense of is a `VideoError`.
    """

    def __init__(self, source: Input, most_pixels: int | None = None):
        """`most_pixels`: of a frame. Raises `VideoError` when there is no video in it, or one of larger frames (too_big)."""
        self._file = _bytes_of(source)
        bound = {"max_pixels": str(most_pixels)} if most_pixels else {}
        try:
            self._container = _open(self._file, bound)
        except BaseException:
            self._file.close()
            raise
        streams = [s for s in self._container.streams.video if not s.disposition & Disposition.attached_pic]
        if not streams:
            self.close()
            raise VideoError("no_video_stream")
        self._stream = stream = streams[0]
        if stream.codec_context is None:
            self.close()
            raise VideoError("unknown_codec")
        stream.thread_type, stream.thread_count = "NONE", 1
        context = stream.codec_context
        if most_pixels and context.width * context.height > most_pixels:
            self.close()
            raise VideoError("too_big", f"{context.width}×{context.height} pixels")
        context.options = bound  # for what turns larger on the way
        self.name = self._container.name
        """The path, "<none>" for a file in memory."""
        self.rate = Fraction(stream.guessed_rate or stream.average_rate or 25)
        """Nominal frames per second."""
        self.pixel = Fraction(stream.sample_aspect_ratio or 1)
        """Width of a pixel in heights of it."""
        if not 1 / MOST_STRETCH <= self.pixel <= MOST_STRETCH:
            self.close()
            raise VideoError("bad_aspect_ratio", f"pixels of {self.pixel.numerator}:{self.pixel.denominator}")
        self.decoded = 0
        """Frames decoded so far."""
        self.clean = True
        """Whether, of the packets so far, the first is a key frame and none is hidden. A stream copy may have such."""
        self._last_packet: int | None = None  # decoding time of the last whole packet, in ticks
        self._zero: int | None = None  # ticks of the first frame
        self._last: int | None = None  # ticks of the last frame
        self._skipped_to: float | None = None
        self._turn: Turn | None = None  # the first frame's: PyAV's side data keep a picture from being freed at once
        if self._container.format.name.startswith("matroska"):
            with suppress(av.error.FFmpegError):
                self._container.seek(0)  # makes FFmpeg read the index, which lies at the end

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._container.close()
        self._file.close()

    @property
    def stream(self) -> av.VideoStream:
        return self._stream

    @property
    def time_base(self) -> Fraction:
        """Seconds of a tick."""
        return self._stream.time_base

    @property
    def frame_seconds(self) -> float:
        """Nominal duration of a frame."""
        return float(1 / self.rate)

    @property
    def is_plain(self) -> bool:
        """Whether the file already is what `Encoder` makes: H.264, 4:2:0, 8 bits, square pixels, in mp4."""
        context = self._stream.codec_context
        in_mp4 = self._container.format.name.startswith("mov,mp4")
        size = context.width, context.height
        is_square = squared(*size, self.pixel) == size
        return in_mp4 and context.name == "h264" and context.pix_fmt in ("yuv420p", "yuvj420p") and is_square

    def frames(self) -> Iterator[Frame]:
        """Every frame in order of time.

        Raises `VideoError` after the last good frame when the file is cut short or damaged, or when times do not increase.
        """
        for picture in self._pictures():
            self.decoded += 1
            on_decode(self)
            if picture.is_corrupt:
                raise VideoError("damaged", f"at frame {self.decoded - 1}")
            yield self._frame(picture)
        self._check_whole()
        if not self.decoded:
            raise VideoError("no_frames")

    def skip_to(self, time: float) -> None:
        """Let `frames` go on from the last key frame before `time`, if the index knows one that lies ahead; else do nothing.

        No frame from `time` on is lost and none is decoded twice, so the caller only has to ignore those before `time`.
        """
        if self._zero is None or self._last is None:
            return
        margin = int(SEEK_MARGIN / self._stream.time_base)
        target = self._zero + int(time / self._stream.time_base) - margin
        # The index has decoding times, seeking goes by presentation times, which are later: a key frame that is decoded a margin
        # before the target is shown before it, so seeking to the target lands on it or on a later one.
        found = self._stream.index_entries.search_timestamp(target - margin, backward=True)
        if found >= 0 and self._stream.index_entries[found].timestamp > self._last + margin:
            try:
                self._container.seek(target, stream=self._stream, backward=True)
            except av.error.FFmpegError as error:
                raise VideoError("bad_index", "seeking fails") from error
            self._skipped_to = time

    def extent(self) -> Extent:
        """By reading packets and decoding none. Use it on a fresh reader. Raises `VideoError` as `frames`."""
        shown = [(p.pts or 0, p.duration or 0) for p in self.packets() if p.size and not p.is_discard]
        self._check_whole()
        if not shown:
            return Extent(0, 0, 0.0, False)
        (first, _), (last, duration) = min(shown), max(shown)
        step = duration or round(1 / self.rate / self.time_base)
        return Extent(len(shown), last - first, float((last - first + step) * self.time_base), self.clean)

    def zero(self) -> float:
        """When the first frame is shown, in seconds of the file's own clock. Use it on a fresh reader. Raises `VideoError`."""
        next(self.frames())
        assert self._zero is not None
        return float(self._zero * self.time_base)

    def sounds(self, start: float) -> Iterator[av.AudioFrame]:
        """What can be decoded of the file's first sound track, from a little before second `start` of its own clock on. Use it on
        a fresh reader."""
        track = next((stream for stream in self._container.streams.audio if stream.codec_context), None)
        if track is None:
            return
        track.thread_type, track.thread_count = "NONE", 1
        if self._container.format.name.startswith(("mov,mp4", "matroska")) and start > SEEK_MARGIN:
            with suppress(av.error.FFmpegError):
                self._container.seek(int((start - SEEK_MARGIN) / track.time_base), stream=track, backward=True)
        with suppress(av.error.FFmpegError):
            for packet in self._container.demux(track):
                with suppress(av.error.FFmpegError):
                    yield from (frame for frame in packet.decode() if frame.pts is not None and not frame.is_corrupt)

    def packets(self) -> Iterator[av.Packet]:
        """Whole packets, up to the first that is not: `_check_whole` says whether that is the end of the file."""
        with suppress(av.error.FFmpegError):
            for packet in self._container.demux(self._stream):
                if packet.size and packet.is_corrupt:
                    return
                if packet.size:
                    begins = self._last_packet is None
                    self.clean = self.clean and not packet.is_discard and (packet.is_keyframe or not begins)
                    self._last_packet = packet.dts
                yield packet

    def _pictures(self) -> Iterator[av.VideoFrame]:
        damaged: Exception | None = None
        for packet in self.packets():
            try:
                pictures = packet.decode()
            except av.error.FFmpegError as error:
                if not self.decoded:
                    continue  # nothing can be made of packets before the first key frame
                damaged = error
                break
            yield from pictures
        try:
            left = self._stream.codec_context.decode(None)
        except av.error.FFmpegError as error:
            left, damaged = [], damaged or (None if isinstance(error, av.error.EOFError) else error)
        yield from left
        if damaged:
            raise VideoError("damaged", f"at frame {self.decoded}") from damaged

    def _check_whole(self) -> None:
        """Compare the last packet with what the container promises: an index of frames (mp4) or a duration (Matroska, FLV)."""
        kind, stream = self._container.format.name, self._stream
        if kind.startswith("mov,mp4"):
            times = [entry.timestamp for entry in stream.index_entries if not entry.is_discard]
            have = 0 if self._last_packet is None else sum(time <= self._last_packet for time in times)
            if have < len(times):
                raise VideoError("truncated", f"decoded {have} of {len(times)} frames")
        elif kind.startswith(("matroska", "flv")) and (promised := self._promised_seconds()) is not None:
            have_seconds = float((self._last_packet or 0) * stream.time_base) + self.frame_seconds
            if have_seconds < promised - DURATION_SLACK:
                raise VideoError("truncated", f"decoded {have_seconds:.1f} of {promised:.1f} s")

    def _promised_seconds(self) -> float | None:
        if stated := self._stream.metadata.get("DURATION"):  # of this stream, "00:00:02.669000000"
            hours, minutes, seconds = stated.split(":")
            return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        duration = self._container.duration  # of the longest stream
        return duration / av.time_base if duration and len(self._container.streams) == 1 else None

    def _frame(self, picture: av.VideoFrame) -> Frame:
        base = picture.time_base or self._stream.time_base
        step = picture.duration or round(1 / self.rate / base)
        ticks = picture.pts if picture.pts is not None else (0 if self._last is None else self._last + step)
        if self._last is not None and ticks <= self._last:
            raise VideoError("timestamps_go_backwards", f"at frame {self.decoded - 1}")
        self._zero = ticks if self._zero is None else self._zero
        self._last = ticks
        time = float((ticks - self._zero) * base)
        if self._skipped_to is not None and time > self._skipped_to:
            raise VideoError("bad_index", "it points to wrong places")
        self._skipped_to = None
        if self._turn is None:
            self._turn = Turn.of(picture)
        return Frame(picture, self._turn, time, float(step * base), ticks - self._zero, base, self.pixel)


def _bytes_of(source: Input) -> IO[bytes]:
    """With a position of its own."""
    return io.BytesIO(source.getvalue()) if isinstance(source, io.BytesIO) else Path(source).open("rb")


class _Reached:
    """A file for FFmpeg: a place that no file has, which a damaged index may name, cannot be reached, and that is no error of
    the disk."""

    def __init__(self, file: IO[bytes]):
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._file.seek(offset, whence)
        except (ValueError, OverflowError):  # of a file in memory
            return -1
        except OSError as error:
            if error.errno == errno.EINVAL:
                return -1
            raise


def _open(file: IO[bytes], bound: dict[str, str]) -> av.container.InputContainer:
    """`bound`: for the decoders, also when FFmpeg looks at the first frames by itself."""
    allowed = {"format_whitelist": ",".join(FORMATS), "protocol_whitelist": "none"}
    if wrong := index.overclaims(file):
        raise VideoError("bad_index", wrong)
    try:
        return av.open(_Reached(file), metadata_errors="ignore", options=bound, container_options=allowed)
    except av.error.FFmpegError as error:
        file.seek(4)
        if file.read(4) == b"ftyp":  # an mp4 that FFmpeg cannot open lacks its end, where the index was
            raise VideoError("truncated", "no index") from error
        raise VideoError("not_a_video") from error


def frames(source: Input) -> Iterator[Frame]:
    """Every frame of a file in order. Raises `VideoError`."""
    with Reader(source) as reader:
        yield from reader.frames()


def extent(source: Input) -> Extent:
    """How many frames a file has and how long it is, without decoding any. Raises `VideoError`."""
    with Reader(source) as reader:
        return reader.extent()


def count_frames(source: Input) -> int:
    """Frames in a file, without decoding any. Raises `VideoError`."""
    return extent(source).frames
