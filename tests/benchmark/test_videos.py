from __future__ import annotations

import cv2
import numpy as np
import pytest

from curation.benchmark import videos
from curation.benchmark.errors import BenchmarkError
from curation.faults import DataError
from tests import videos as written
from tests.benchmark import made


def test_files_are_found_by_their_key(tmp_path):
    for name in ("a.mp4", "a.png", "b.PNG", "c.webm", "stray.mp4", ".hidden.mp4", "a.txt"):
        (tmp_path / name).touch()
    (tmp_path / "d.mp4").mkdir()
    found, others = videos.find(tmp_path, ["a", "b", "c", "d", "e"])
    assert {key: path.name for key, path in found.items()} == {"a": "a.mp4", "b": "b.PNG", "c": "c.webm"}
    assert others == 1
    with pytest.raises(BenchmarkError, match="No such file.*KEY.mp4"):
        videos.find(tmp_path / "none", ["a"])


def test_frames_are_read_upright_and_only_the_first(tmp_path):
    pictures = [written.picture(number) for number in range(7)]
    written.write(pictures, tmp_path / "a.mp4", rate=24)
    video = videos.read(tmp_path / "a.mp4")
    assert [written.number_of(frame) for frame in video.frames] == list(range(7)) and video.fps == 24
    assert video.frames.shape == (7, 112, 208, 3) and video.frames.dtype == np.uint8
    assert [written.number_of(frame) for frame in videos.read(tmp_path / "a.mp4", 3).frames] == [0, 1, 2]
    assert len(videos.read(tmp_path / "a.mp4", 30).frames) == 7


def test_a_picture_is_a_video_of_one_frame(tmp_path):
    made.png(tmp_path / "a.png", made.RED)
    video = videos.read(tmp_path / "a.png")
    assert video.frames.shape == (1, 20, 24, 3) and tuple(video.frames[0, 9, 9]) == made.RED
    cv2.imwrite(str(tmp_path / "b.jpg"), np.zeros((8, 9), np.uint8))
    assert videos.read(tmp_path / "b.jpg").frames.shape == (1, 8, 9, 3)


@pytest.mark.parametrize("name, reason", [("a.png", "not_a_picture"), ("a.mp4", "not_a_video")])
def test_what_is_none_is_the_files_fault(tmp_path, name, reason):
    (tmp_path / name).write_bytes(b"none")
    with pytest.raises(DataError, match=reason):
        videos.read(tmp_path / name)


def test_a_video_that_does_not_end_is_refused(tmp_path, monkeypatch):
    made.video(tmp_path / "a.mp4", made.RED)
    monkeypatch.setattr(videos, "MOST_BYTES", 48 * 64 * 3 * 4)
    with pytest.raises(DataError, match="too_long: more than 4 frames"):
        videos.read(tmp_path / "a.mp4")
    assert len(videos.read(tmp_path / "a.mp4", 4).frames) == 4
