"""Open and decode video; with `curation.picture` and `curation.encode` the only user of PyAV.

Time is seconds from the first frame of a file's video stream. Pictures leave upright: a display matrix is applied to the pixels.
Decoding runs on one thread; the same input gives the same bytes.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import av.logging
from av.stream import Disposition

from curation.picture import Turn

av.logging.set_level(av.logging.PANIC)  # what FFmpeg has to say about broken files is said by VideoError

SEEK_MARGIN = 1.0  # seconds; more than an encoder reorders frames by
DURATION_SLACK = 0.5  # seconds a file may end before the duration it states; measured: muxers round by a frame or two

Input = str | io.BytesIO
"""What PyAV opens: a local path, or a file in memory."""


def on_decode(reader: Reader) -> None:
    """Called once for every frame that any reader decodes, wanted or not; tests put a counter in its place."""


class VideoError(Exception):
    """A video cannot be read; the message is a short reason, the same for the same kind of damage."""


@contextmanager
def open_source(source: Mapping[str, Any]) -> Iterator[Input]:
    """Something to open for the `path` of a planned clip's source: itself, a download of it, or a member of a shard.

    A remote URL (fsspec) is downloaded to a temporary file; a shard's member is read by its `offset` and `size` alone.
    Raises `VideoError` when there is nothing to open.
    """
    path = str(source["path"])
    with tempfile.TemporaryDirectory(prefix="curation-") as folder:
        try:
            if source.get("member"):
                yield io.BytesIO(_part(path, source["offset"], source["size"]))
                return
            if "://" in path:
                path = _downloaded(path, Path(folder))
            if not Path(path).stat().st_size:
                raise VideoError("empty file")
        except (FileNotFoundError, IsADirectoryError) as error:
            raise VideoError("no such file") from error
        yield path


def _downloaded(url: str, folder: Path) -> str:
    from fsspec.core import url_to_fs

    files, path = url_to_fs(url)
    local = folder / Path(path).name
    files.get_file(path, str(local))
    return str(local)


def _part(path: str, offset: int, size: int) -> bytes:
    import fsspec

    with fsspec.open(path, "rb") as file:
        file.seek(offset)
        data = file.read(size)
    if len(data) < size:
        raise VideoError("empty file" if not data else "the shard ends within the clip")
    return data


def read_bytes(source: Input) -> bytes:
    """All bytes of an opened source."""
    return source.getvalue() if isinstance(source, io.BytesIO) else Path(source).read_bytes()


@dataclass(frozen=True)
class Frame:
    """One decoded picture and how to turn it; its time and duration in seconds, and its time in ticks of `time_base`."""

    picture: av.VideoFrame
    turn: Turn
    time: float
    duration: float
    ticks: int
    time_base: Fraction

    @property
    def end(self) -> float:
        return self.time + self.duration

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, upright."""
        return self.turn.size(self.picture.width, self.picture.height)


class Reader:
    """One sequential decode of a file's first video stream (a cover picture is none)."""

    def __init__(self, source: Input):
        """Raises `VideoError` when there is no video in it."""
        self._container = _open(source)
        streams = [s for s in self._container.streams.video if not s.disposition & Disposition.attached_pic]
        if not streams:
            self._container.close()
            raise VideoError("no video stream")
        self._stream = stream = streams[0]
        stream.thread_type, stream.thread_count = "NONE", 1
        self.name = self._container.name
        """The path, "<none>" for a file in memory."""
        self.rate = Fraction(stream.guessed_rate or stream.average_rate or 25)
        """Nominal frames per second."""
        self.decoded = 0
        """Frames decoded so far."""
        self._last_packet: int | None = None  # decoding time of the last whole packet, in ticks
        self._zero: int | None = None  # ticks of the first frame
        self._last: int | None = None  # ticks of the last frame
        self._skipped_to: float | None = None
        self._turn: Turn | None = None  # the first frame's: PyAV's side data keep a picture from being freed at once
        if self._container.format.name.startswith("matroska"):
            self._container.seek(0)  # makes FFmpeg read the index, which lies at the end

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *error: object) -> None:
        self._container.close()

    @property
    def frame_seconds(self) -> float:
        """Nominal duration of a frame."""
        return float(1 / self.rate)

    @property
    def is_plain(self) -> bool:
        """Whether the file already is what `Encoder` makes: H.264, 4:2:0, 8 bits, in mp4."""
        context = self._stream.codec_context
        in_mp4 = self._container.format.name.startswith("mov,mp4")
        return in_mp4 and context.name == "h264" and context.pix_fmt in ("yuv420p", "yuvj420p")

    def frames(self) -> Iterator[Frame]:
        """Every frame in order of time.

        Raises `VideoError` after the last good frame when the file is cut short or damaged, or when times do not increase.
        """
        for picture in self._pictures():
            self.decoded += 1
            on_decode(self)
            if picture.is_corrupt:
                raise VideoError(f"damaged at frame {self.decoded - 1}")
            yield self._frame(picture)
        self._check_whole()
        if not self.decoded:
            raise VideoError("no frames")

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
            self._container.seek(target, stream=self._stream, backward=True)
            self._skipped_to = time

    def count(self) -> int:
        """Frames in the file, by reading packets and decoding none. Use it on a fresh reader. Raises `VideoError` as `frames`."""
        frames = 0
        for packet in self._packets():
            frames += bool(packet.size and not packet.is_discard)
        self._check_whole()
        return frames

    def _packets(self) -> Iterator[av.Packet]:
        """Whole packets, up to the first that is not: `_check_whole` says whether that is the end of the file."""
        with suppress(av.error.FFmpegError):
            for packet in self._container.demux(self._stream):
                if packet.size and packet.is_corrupt:
                    return
                if packet.size:
                    self._last_packet = packet.dts
                yield packet

    def _pictures(self) -> Iterator[av.VideoFrame]:
        damaged: Exception | None = None
        for packet in self._packets():
            try:
                pictures = packet.decode()
            except av.error.FFmpegError as error:
                if not self.decoded:
                    continue  # nothing can be made of packets before the first key frame
                damaged = error
                break
            yield from pictures
        with suppress(av.error.EOFError):
            yield from self._stream.codec_context.decode(None)
        if damaged:
            raise VideoError(f"damaged at frame {self.decoded}") from damaged

    def _check_whole(self) -> None:
        """Compare the last packet with what the container promises: an index of frames (mp4) or a duration (Matroska, FLV)."""
        kind, stream = self._container.format.name, self._stream
        if kind.startswith("mov,mp4"):
            times = [entry.timestamp for entry in stream.index_entries if not entry.is_discard]
            have = 0 if self._last_packet is None else sum(time <= self._last_packet for time in times)
            if have < len(times):
                raise VideoError(f"truncated: decoded {have} of {len(times)} frames")
        elif kind.startswith(("matroska", "flv")) and (promised := self._promised_seconds()) is not None:
            have_seconds = float((self._last_packet or 0) * stream.time_base) + self.frame_seconds
            if have_seconds < promised - DURATION_SLACK:
                raise VideoError(f"truncated: decoded {have_seconds:.1f} of {promised:.1f} s")

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
            raise VideoError("timestamps go backwards")
        self._zero = ticks if self._zero is None else self._zero
        self._last = ticks
        time = float((ticks - self._zero) * base)
        if self._skipped_to is not None and time > self._skipped_to:
            raise VideoError("the index points to wrong places")
        self._skipped_to = None
        if self._turn is None:
            self._turn = Turn.of(picture)
        return Frame(picture, self._turn, time, float(step * base), ticks, base)


def _open(source: Input) -> av.container.InputContainer:
    try:
        # No playlist may lead the reader elsewhere.
        options = {"protocol_whitelist": "file"} if isinstance(source, str) else {}
        file = io.BytesIO(source.getvalue()) if isinstance(source, io.BytesIO) else source  # each reader has its own position
        container = av.open(file, metadata_errors="ignore", container_options=options)
    except av.error.FFmpegError as error:
        is_mp4 = read_bytes(source)[4:8] == b"ftyp"  # an mp4 that FFmpeg cannot open lacks its end, where the index was
        raise VideoError("truncated: no index" if is_mp4 else "not a video") from error
    if container.format.name == "tty":  # FFmpeg plays text files as pictures of a terminal
        container.close()
        raise VideoError("not a video")
    return container


def frames(source: Input) -> Iterator[Frame]:
    """Every frame of a file in order. Raises `VideoError`."""
    with Reader(source) as reader:
        yield from reader.frames()


def count_frames(source: Input) -> int:
    """Frames in a file, without decoding any. Raises `VideoError`."""
    with Reader(source) as reader:
        return reader.count()
