from __future__ import annotations

import cv2
import numpy as np
import pytest

from curation.media import resample, video
from curation.media.members import to_jpeg
from tests import videos
from tests.trainer import made

pytestmark = pytest.mark.trainer


both = pytest.mark.parametrize("decoder", ["pyav", "decord"])


def said(clip: np.ndarray) -> list[int]:
    return [videos.number_of(frame.transpose(1, 2, 0)) for frame in clip]


@both
@pytest.mark.parametrize(
    ("fps", "numbers"),
    [
        (24, [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (48, [0, 2, 4, 6, 8, 10, 12, 14, 16]),
        (30, [0, 1, 2, 4, 5, 6, 7, 9, 10]),  # 1.25 · i; half-way, the earlier one
        (12, [0, 0, 1, 1, 2, 2, 3, 3, 4]),
    ],
)
def test_frames_nearest_in_time(fps, numbers, decoder):
    clip = resample.clip(made.mp4(40, fps), [i / 24 for i in range(9)], *made.SIZE, decoder=decoder)
    assert clip.shape == (9, 3, 112, 208) and clip.dtype == np.uint8
    assert said(clip) == numbers


@both
def test_frames_of_uneven_times(decoder):
    mp4 = videos.write((videos.picture(i) for i in range(6)), rate=24, ticks=[0, 1, 2, 10, 11, 12])
    assert said(resample.clip(mp4, [t / 24 for t in (0, 1, 2, 3, 5, 7, 9, 12)], *made.SIZE, decoder=decoder)) == [
        0,
        1,
        2,
        2,
        2,
        3,
        3,
        5,
    ]


def test_only_the_frames_needed_are_decoded(monkeypatch):
    decoded: list[video.Reader] = []
    monkeypatch.setattr(video, "on_decode", decoded.append)
    assert said(resample.clip(made.mp4(40, 24), [i / 24 for i in range(4, 9)], *made.SIZE)) == [4, 5, 6, 7, 8]
    assert len(decoded) == 10  # one more, to know that the last is the nearest


def test_a_late_start_leaps_over_key_frames(monkeypatch):
    decoded: list[video.Reader] = []
    mp4 = videos.numbered(240, rate=24, gop=12)
    monkeypatch.setattr(video, "on_decode", decoded.append)
    assert said(resample.clip(mp4, [(220 + i) / 24 for i in range(5)], *made.SIZE)) == [220, 221, 222, 223, 224]
    assert len(decoded) < 100


@both
def test_the_last_frame_can_be_reached_and_no_later_one(decoder):
    last = resample.clip(made.mp4(40, 24), [37 / 24, 39 / 24], *made.SIZE, decoder=decoder)
    assert said(last) == [37, 39]
    with pytest.raises(resample.DecodeError, match="shorter than its metadata says"):
        resample.clip(made.mp4(40, 24), [39 / 24, 42 / 24], *made.SIZE, decoder=decoder)


@both
def test_damage_is_said(decoder):
    whole = made.mp4(40, 24)
    with pytest.raises(resample.DecodeError, match="no index|not_a_video"):
        resample.clip(whole[: len(whole) // 4], [0.0], *made.SIZE, decoder=decoder)
    with pytest.raises(resample.DecodeError, match="not_a_video"):
        resample.clip(b"", [0.0], *made.SIZE, decoder=decoder)
    hurt = bytearray(whole)
    start = whole.index(b"mdat") + 1000
    hurt[start : start + 300] = bytes(300)
    with pytest.raises(resample.DecodeError, match="damaged"):
        resample.clip(bytes(hurt), [i / 24 for i in range(35)], *made.SIZE, decoder=decoder)


def ramps(width: int, height: int) -> bytes:
    """A clip whose red grows from left to right and whose green from top to bottom, both from 20 to 220."""
    image = np.zeros((height, width, 3))
    image[..., 0], image[..., 1] = np.linspace(20, 220, width), np.linspace(20, 220, height)[:, None]
    return videos.write([image.astype(np.uint8)] * 3, rate=24)


@both
@pytest.mark.parametrize(
    ("size", "at", "red", "green"),
    [
        ((320, 180), (0.5, 0.5), (20, 220), (20, 220)),  # the bucket's shape: nothing is cut
        ((320, 240), (0.5, 0.5), (20, 220), (45, 195)),  # 4:3 in 16:9: an eighth goes above and below
        ((320, 240), (0.5, 0.0), (20, 220), (20, 170)),
        ((320, 240), (0.5, 1.0), (20, 220), (70, 220)),
        ((640, 180), (1.0, 0.5), (120, 220), (20, 220)),  # 32:9 in 16:9: half goes
    ],
)
def test_pictures_cover_the_size_and_are_cropped(size, at, red, green, decoder):
    frame = resample.clip(ramps(*size), [0.0], 160, 90, at, decoder)[0].astype(float)
    assert frame.shape == (3, 90, 160)
    assert [frame[0, :, :2].mean(), frame[0, :, -2:].mean()] == pytest.approx(red, abs=6)
    assert [frame[1, :2].mean(), frame[1, -2:].mean()] == pytest.approx(green, abs=6)


@both
def test_a_turned_clip_is_upright(decoder):
    mp4 = videos.write([videos.picture(5)] * 3, rate=24, rotate=180)
    frame = resample.clip(mp4, [0.0], *made.SIZE, decoder=decoder)[0].transpose(1, 2, 0)
    assert videos.number_of(frame[::-1, ::-1]) == 5


def test_a_cut_out_stands_on_white():
    picture = resample.picture(made.webp(made.cut_out((200, 30, 30))))
    assert picture.shape == (3, 48, 48) and picture.dtype == np.uint8
    assert picture[:, 24, 24].tolist() == [200, 30, 30]
    assert picture[:, 0, 0].tolist() == [255, 255, 255]  # not the green that lies under it


def test_half_transparent_pixels_are_mixed_with_white():
    rgba = np.full((20, 20, 4), (200, 100, 0, 128), np.uint8)
    assert resample.picture(made.webp(rgba))[:, 5, 5].tolist() == [227, 177, 127]


def test_a_jpeg_keeps_its_colours():
    image = np.full((30, 50, 3), (180, 60, 20), np.uint8)
    picture = resample.picture(to_jpeg(image, 95))
    assert picture.shape == (3, 30, 50)
    assert picture[:, 10, 10].tolist() == pytest.approx([180, 60, 20], abs=4)


@pytest.mark.parametrize(("data", "says"), [(None, "not in the shard"), (b"nothing", "not a colour picture")])
def test_a_picture_that_cannot_be_had(data, says):
    with pytest.raises(resample.DecodeError, match=says):
        resample.picture(data)


def test_a_grey_picture_is_refused():
    grey = cv2.imencode(".jpg", np.full((10, 10), 90, np.uint8))[1].tobytes()
    with pytest.raises(resample.DecodeError, match="not a colour picture"):
        resample.picture(grey)
