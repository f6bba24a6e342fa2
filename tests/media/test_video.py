"""Reading and encoding: every frame is the right one, and everything unreadable says why."""

from __future__ import annotations

import functools
import io
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from curation.media import video
from curation.media.encode import Encoder
from curation.media.picture import Painter
from tests import videos


def encoded(mp4: bytes, crf: int = 18) -> bytes:
    """A file through the encoder, frame by frame."""
    with video.Reader(io.BytesIO(mp4)) as reader:
        encoder = Encoder(reader.rate, crf, "veryfast")
        for frame in reader.frames():
            encoder.add(frame)
    return encoder.finish()


def times(mp4: bytes) -> list[float]:
    return [round(frame.time, 4) for frame in video.frames(io.BytesIO(mp4))]


def first_image(mp4: bytes) -> np.ndarray:
    return Painter()(next(video.frames(io.BytesIO(mp4))))


def failure(data: bytes) -> str:
    with pytest.raises(video.VideoError) as caught:
        for _ in video.frames(io.BytesIO(data)):
            pass
    return str(caught.value)


KINDS = {
    "h264 mp4": {},
    "h264 mov with sound": {"container": "mov", "sound": True},
    "h264 mkv": {"container": "matroska"},
    "vp9 webm": {"codec": "libvpx-vp9", "container": "webm"},
    "mpeg2 ts": {"codec": "mpeg2video", "container": "mpegts"},
    "mpeg4 avi": {"codec": "mpeg4", "container": "avi"},
    "h264 4:4:4": {"pix_fmt": "yuv444p"},
    "h265 10 bit": {"codec": "libx265", "pix_fmt": "yuv420p10le"},
    "fragmented mp4": {"options": {"movflags": "frag_keyframe+empty_moov"}},
    "29.97 frames/s": {"rate": Fraction(30000, 1001)},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_frame_is_read_and_survives_encoding(kind: str) -> None:
    data = videos.numbered(40, **KINDS[kind])
    assert videos.numbers(data) == list(range(40))
    assert video.count_frames(io.BytesIO(data)) == 40
    copy = encoded(data)
    assert videos.numbers(copy) == list(range(40))
    with video.Reader(io.BytesIO(copy)) as reader:
        assert reader.is_plain
    assert np.allclose(times(copy), times(data), atol=0.001)


def test_encoding_is_deterministic_has_its_index_in_front_and_no_sound() -> None:
    data = videos.numbered(30, sound=True)
    copy = encoded(data)
    assert copy == encoded(data)
    assert 0 < copy.find(b"moov") < copy.find(b"mdat")
    assert b"soun" in data and b"soun" not in copy
    assert b"Lavf" not in copy


def test_variable_rate_keeps_each_frames_time_and_the_last_ones_duration() -> None:
    ticks = [0, 3, 4, 5, 9, 10, 20, 21, 24, 30]
    copy = encoded(videos.numbered(10, ticks=ticks, rate=30))
    assert times(copy) == [round(tick / 30, 4) for tick in ticks]
    assert videos.numbers(copy) == list(range(10))
    assert [*video.frames(io.BytesIO(copy))][-1].end == pytest.approx(31 / 30, abs=0.001)


# Corner by corner, what each display matrix makes of a picture whose corners are 0 1 / 2 3; seen with ffplay.
TURNS = {
    (90, False): [[1, 3], [0, 2]],
    (-90, False): [[2, 0], [3, 1]],
    (180, False): [[3, 2], [1, 0]],
    (0, True): [[1, 0], [3, 2]],
    (90, True): [[3, 1], [2, 0]],
}
GREYS = np.array([[20, 90], [160, 230]])


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_a_display_matrix_is_applied_to_the_pixels(turn: tuple[int, bool]) -> None:
    corners = np.kron(GREYS, np.ones((48, 80)))[:, :, None].repeat(3, axis=2).astype(np.uint8)
    data = videos.write([corners] * 3, rotate=turn[0], mirror=turn[1])
    expected = GREYS.ravel()[np.array(TURNS[turn])]
    for image in (first_image(data), first_image(encoded(data))):
        height, width = image.shape[:2]
        assert (width, height) == ((96, 160) if turn[0] in (90, -90) else (160, 96))
        shown = image[[10, 10, -10, -10], [10, -10, 10, -10], 0].reshape(2, 2)
        assert np.abs(shown.astype(int) - expected).max() < 12


def test_odd_sides_lose_one_row_or_column() -> None:
    odd = videos.write([videos.picture(i, 211, 117) for i in range(5)], pix_fmt="yuv444p")
    copy = encoded(odd)
    assert first_image(copy).shape == (116, 210, 3)
    assert videos.numbers(copy) == list(range(5))


def test_full_range_becomes_limited_with_the_same_colours() -> None:
    image = videos.picture(5, colour=(200, 60, 30))
    data = videos.write([image] * 3, codec="mjpeg", pix_fmt="yuvj420p", container="matroska")
    assert np.abs(first_image(encoded(data)).astype(int) - first_image(data).astype(int)).mean() < 4


def test_hdr_becomes_sdr() -> None:
    pq = {"color_trc": 16, "color_primaries": 9, "colorspace": 9}
    data = videos.write([videos.picture(4095)] * 3, codec="libx265", pix_fmt="yuv420p10le", colours=pq)
    copy = encoded(data)
    picture = next(video.frames(io.BytesIO(copy))).picture
    assert (picture.color_trc, picture.color_primaries, picture.colorspace) == (1, 1, 1)
    image = first_image(copy)
    assert image[: videos.BLOCK].mean() > 200  # 10,000 nits are still white
    assert 80 < image[videos.BLOCK + 8 :].mean() < 130  # about 10 nits: dark when shown as they are stored


@pytest.mark.parametrize("codec, container, pix_fmt", [("libx264rgb", "mp4", "rgb24"), ("png", "mov", "rgb24")])
def test_rgb_is_stored_as_what_it_is_said_to_be(codec: str, container: str, pix_fmt: str) -> None:
    """4:2:0 marked as RGB is against the standard, and some players show it green."""
    source = videos.numbered(2, codec=codec, container=container, pix_fmt=pix_fmt)
    frame = next(video.frames(io.BytesIO(encoded(source))))
    assert (frame.picture.colorspace, frame.picture.color_range) == (1, 1)
    shown = frame.picture.reformat(format="rgb24", src_colorspace="ITU709").to_ndarray()
    assert np.abs(shown.astype(int) - videos.picture(0)).mean() < 2


def test_a_file_that_lies_about_its_pixels() -> None:
    assert failure(videos.numbered(2, colours={"sample_aspect_ratio": Fraction(9, 1)})) == "bad_aspect_ratio: pixels of 9:1"


def test_broken_files_say_what_is_wrong() -> None:
    good = videos.numbered(90, options={"movflags": "faststart"}, gop=30)
    cut = failure(good[: len(good) * 6 // 10])
    assert cut.startswith("truncated: decoded ") and cut.endswith(" of 90 frames")
    assert 5 < int(cut.split()[2]) < 80
    assert failure(videos.numbered(30)[:-200]) == "truncated: no index"
    matroska = videos.numbered(90, container="matroska", codec="mpeg4")
    assert failure(matroska[: len(matroska) // 2]).startswith("truncated: decoded ")
    hurt = bytearray(good)
    middle = len(good) * 6 // 10
    hurt[middle : middle + 600] = bytes(600)
    assert failure(bytes(hurt)).startswith("damaged: at frame ")
    assert failure(videos.sound_only()) == "no_video_stream"
    assert failure(b"once upon a time\n" * 100) == "not_a_video"
    assert failure(bytes(4000)) == "not_a_video"
    assert failure(b"") == "not_a_video"


SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nother.mp4\n#EXT-X-ENDLIST\n"
DASH = '<?xml version="1.0"?>\n<MPD profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"/>\n'
SUBTITLES = "1\n00:00:00,000 --> 00:00:05,000\nhello\n\n" * 20


@pytest.mark.parametrize("text", [SDP, HLS, DASH, SUBTITLES, "ffconcat version 1.0\nfile other.mp4\n", "hello\n" * 200])
def test_a_text_is_no_video_and_leads_nowhere(tmp_path: Path, text: str) -> None:
    """Neither to the file beside it nor to a network, on a disk or in memory; nor is it played as a terminal."""
    videos.numbered(20, path=tmp_path / "other.mp4")
    (tmp_path / "a.mp4").write_text(text)
    for source in (str(tmp_path / "a.mp4"), io.BytesIO(text.encode())):
        start = time.monotonic()
        with pytest.raises(video.VideoError, match="not_a_video"):
            next(video.frames(source))
        assert time.monotonic() - start < 5, "SDP waits for 20 s"


@pytest.mark.parametrize("codec, pix_fmt", [("png", "rgb24"), ("mjpeg", "yuvj420p")])
def test_a_picture_is_no_video(codec: str, pix_fmt: str) -> None:
    assert failure(videos.numbered(1, codec=codec, container="image2pipe", pix_fmt=pix_fmt)) == "not_a_video"


def test_a_files_extent_is_what_its_frames_say() -> None:
    for data in (videos.numbered(40), videos.numbered(10, ticks=[0, 3, 4, 5, 9, 10, 20, 21, 24, 30])):
        last = [*video.frames(io.BytesIO(data))][-1]
        extent = video.extent(io.BytesIO(data))
        assert (extent.last, extent.seconds) == (last.ticks, pytest.approx(last.end))


def test_frames_before_the_damage_are_good() -> None:
    good = videos.numbered(90, options={"movflags": "faststart"}, gop=30)
    paint, seen = Painter(), []
    with pytest.raises(video.VideoError):
        for frame in video.frames(io.BytesIO(good[: len(good) * 6 // 10])):
            seen.append(videos.number_of(paint(frame)))
    assert seen == list(range(len(seen))) and len(seen) > 5


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_skipping_is_exact_and_decodes_less(container: str) -> None:
    data = videos.numbered(600, gop=30, container=container)
    paint, seen = Painter(), []
    with video.Reader(io.BytesIO(data)) as reader:
        for frame in reader.frames():
            if frame.time >= 15.0:
                seen.append(videos.number_of(paint(frame)))
            elif not seen:
                reader.skip_to(15.0)
        assert seen == list(range(450, 600))
        assert reader.decoded < 250


@pytest.mark.parametrize("container", ["mp4", "matroska"])
@pytest.mark.parametrize("begin", range(60, 590, 31))
def test_skipping_never_goes_back_whatever_the_key_frames(container: str, begin: int) -> None:
    """With frames out of order the index (decoding times) and a seek (times shown) disagree about which key frame is meant."""
    data = _sparse(container)
    with video.Reader(io.BytesIO(data)) as reader:
        numbers = []
        for frame in reader.frames():
            if frame.time >= (begin - 0.5) / 30:
                numbers.append(videos.number_of(Painter()(frame)))
            elif not numbers:
                reader.skip_to((begin - 0.5) / 30)
            if len(numbers) == 3:
                break
    assert numbers == [begin, begin + 1, begin + 2]


@functools.cache
def _sparse(container: str) -> bytes:
    return videos.numbered(600, gop=100, container=container)


def test_pictures_are_freed_as_soon_as_nobody_holds_them() -> None:
    """Without waiting for the garbage collector, which may come hundreds of full-size pictures late."""
    import gc

    gc.collect()
    gc.disable(), gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        encoder, paint = Encoder(Fraction(30), 30, "ultrafast"), Painter(lambda width, height: (48, 27))
        for frame in video.frames(io.BytesIO(videos.numbered(40))):
            paint(frame), encoder.add(frame)
        del frame
        gc.collect()  # counted by kind: other tests' threads leave cycles of their own meanwhile
        held = [one for one in gc.garbage if type(one).__module__.partition(".")[0] in ("av", "curation")]
        assert len(held) < 40  # with cycles there would be several objects for each of the 40 frames
    finally:
        gc.set_debug(0), gc.garbage.clear(), gc.enable()
