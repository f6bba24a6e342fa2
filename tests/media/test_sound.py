from __future__ import annotations

import io
import subprocess
from fractions import Fraction

import av
import numpy as np
import pytest

from curation.media.sound import with_sound
from curation.media.video import VideoError
from tests import videos
from tests.media.fixtures import FFMPEG
from tests.sounds import ROUND, SLOT, clock, heard, slots


def packets(mp4: bytes) -> list[tuple[int, bytes]]:
    with av.open(io.BytesIO(mp4)) as file:
        return [(p.pts, bytes(p)) for p in file.demux(video=0) if p.size]


SILENT = videos.numbered(25, rate=25)


@pytest.fixture(scope="module")
def source() -> bytes:
    return videos.numbered(50, rate=25, sound=clock(2.0))


@pytest.mark.parametrize("container, suffix", [("mp4", "mp4"), ("matroska", "mkv"), ("mpegts", "ts")])
@pytest.mark.parametrize("start, end", [(0.0, 1.0), (0.4, 1.4), (1.0, 2.0)])
def test_what_is_heard_is_what_was_heard_then(container, suffix, start, end, tmp_path):
    path = tmp_path / f"v.{suffix}"
    videos.numbered(50, rate=25, sound=clock(2.0), container=container, path=path)
    made, seconds = with_sound(SILENT, str(path), start, end)
    first = round(start / SLOT)
    assert slots(made)[:10] == list(range(first, first + 10)) and seconds == pytest.approx(end - start, abs=0.06)
    assert heard(made).shape[1] == pytest.approx(48_000, abs=2048), "not beyond the clip's end"
    assert packets(made) == packets(SILENT)


def test_far_into_a_long_file(tmp_path):
    """Where it is sought, and pictures begin later than sound."""
    path = tmp_path / "long.mkv"
    videos.write([videos.picture(i) for i in range(300)], path, rate=10, sound=clock(30.0), container="matroska")
    late = tmp_path / "late.mkv"
    words = [FFMPEG, "-v", "error", "-itsoffset", "0.5", "-i", path, "-i", path, "-map", "0:v", "-map", "1:a", "-c", "copy", late]
    subprocess.run(words, check=True)
    assert slots(with_sound(SILENT, str(path), 25.0, 26.0)[0])[:10] == [slot % ROUND for slot in range(250, 260)]
    assert slots(with_sound(SILENT, str(late), 25.0, 26.0)[0])[:10] == [slot % ROUND for slot in range(255, 265)]


def test_left_is_left_and_the_same_bytes_come_twice(source):
    made, _ = with_sound(SILENT, io.BytesIO(source), 0.5, 1.5)
    left, right = np.abs(heard(made)[:, 4800:43_200]).mean(1)
    assert left / right == pytest.approx(5, rel=0.1)
    assert with_sound(SILENT, io.BytesIO(source), 0.5, 1.5)[0] == made


def test_one_channel_stays_one_and_six_become_two(source, tmp_path):
    (tmp_path / "v.mp4").write_bytes(source)
    for channels, left in ((1, 1), (6, 2)):
        there = tmp_path / f"{channels}.mkv"
        words = [FFMPEG, "-v", "error", "-i", tmp_path / "v.mp4", "-c:v", "copy", "-c:a", "flac", "-ac", str(channels), there]
        subprocess.run(words, check=True)
        made, _ = with_sound(SILENT, str(there), 0.0, 1.0)
        assert len(heard(made)) == left and slots(made)[:10] == list(range(10))


def test_without_sound_nothing_changes():
    silent = videos.numbered(30)
    assert with_sound(SILENT, io.BytesIO(silent), 0.0, 1.0) == (SILENT, 0.0)


def test_sound_that_ends_early_or_begins_late(tmp_path):
    path = tmp_path / "early.mp4"
    videos.numbered(50, rate=25, sound=clock(0.5), path=path)
    made, seconds = with_sound(SILENT, str(path), 0.2, 1.2)
    assert slots(made)[:3] == [2, 3, 4] and seconds == pytest.approx(0.3, abs=0.06)
    assert with_sound(SILENT, str(path), 1.0, 2.0) == (SILENT, 0.0)
    late = tmp_path / "late.mkv"
    words = [FFMPEG, "-v", "error", "-i", path, "-itsoffset", "0.7", "-i", path, "-map", "0:v", "-map", "1:a", "-c", "copy", late]
    subprocess.run(words, check=True)
    made, seconds = with_sound(SILENT, str(late), 0.0, 1.0)
    assert slots(made)[:10] == [None] * 7 + [0, 1, 2] and seconds == pytest.approx(0.3, abs=0.06)


def test_damaged_sound_is_silence_and_costs_no_picture(source):
    """Bits of all packets of a second are turned."""
    with av.open(io.BytesIO(source)) as file:
        places = [p.pos for p in file.demux(audio=0) if p.size and 0.5 <= p.pts * p.time_base < 1.0]
    broken = bytearray(source)
    for place in places:
        broken[place : place + 8] = b"\xff" * 8
    made, _ = with_sound(SILENT, io.BytesIO(bytes(broken)), 0.0, 1.0)
    assert slots(made)[:4] == [0, 1, 2, 3] and packets(made) == packets(SILENT)


def test_pictures_that_cannot_be_read(source):
    with pytest.raises(VideoError):
        with_sound(SILENT, io.BytesIO(source[: len(source) // 3]), 0.0, 1.0)


def test_longer_than_ffmpeg_waits(tmp_path):
    """Pictures and sound stay side by side in the file, also where a clip is longer than the muxer keeps packets back."""
    path = tmp_path / "long.mp4"
    pictures = videos.write([videos.picture(i) for i in range(130)], rate=10)
    videos.write([videos.picture(i) for i in range(130)], path, rate=10, sound=clock(13.0))
    made, _ = with_sound(pictures, str(path), 0.0, 13.0)
    with av.open(io.BytesIO(made)) as file:
        order = [(p.pos, float(p.dts * p.time_base)) for p in file.demux() if p.size]
    times = [time for _, time in sorted(order)]
    assert max(before - after for before, after in zip(times, times[1:], strict=False)) < Fraction(3, 2)


def test_times_in_whole_milliseconds_make_no_clicks(tmp_path):
    tone = np.sin(2 * np.pi * 440 * np.arange(88_200) / 44_100).astype(np.float32)
    path = tmp_path / "v.mkv"
    videos.numbered(50, rate=25, sound=np.stack([tone, tone]) / 2, container="matroska", path=path)
    made, _ = with_sound(SILENT, str(path), 0.5, 1.5)
    steps = np.abs(np.diff(heard(made)[0, 2000:46_000]))
    assert steps.max() < 0.04, "a sine of this height steps 0.029 at most"
