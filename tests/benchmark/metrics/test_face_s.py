from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from curation.benchmark.metrics import Video
from curation.benchmark.metrics.face_s import FaceS, Faces, face_s, grown
from tests.benchmark.metrics.cases import case


def test_a_box_grows_down_by_a_share_of_its_extended_height() -> None:
    assert grown((10, 100, 60, 200), 400) == (10, 83, 60, 203)  # 3 % of 117, not of 100: 3.51
    assert grown((10, 1000, 60, 1200), 3000) == (10, 966, 60, 1207)  # of 234: 7.02; of 200 it were 6
    assert grown((0, 10, 5, 130), 131) == (0, 0, 5, 130)  # it ends before the last row
    assert grown((0, 40, 5, 130), 131)[1] == 24  # 24.7


def test_a_frame_without_a_face_counts_as_nothing() -> None:
    assert face_s(np.array([[0.8, 0.4], [0.6, 0.2]]), 4) == pytest.approx(0.5 * 2 / 4)
    assert face_s(np.zeros((0, 2)), 4) == 0.0


def metric(found: list[tuple[int, int, int, int] | None]) -> FaceS:
    """A face is its mean grey, on one axis of two."""
    faces = Faces(lambda frames: found)
    return FaceS(faces, lambda crops: np.array([[c.mean() > 150, c.mean() <= 150] for c in crops], float))


def test_faces_are_compared_with_the_true_ones_unmasked(tmp_path: Path) -> None:
    clip = case(tmp_path, with_face=("man",))
    score = metric([(2, 20, 30, 60), None])
    truth = score.truth(clip)
    assert truth["faces"].tolist() == [[1, 0], [1, 0]]
    bright, dark = (Video(np.full((2, 100, 64, 3), grey, np.uint8), 8.0) for grey in (200, 20))
    assert score.score(bright, clip, truth) == {"face_s": 0.5}
    assert score.score(dark, clip, truth) == {"face_s": 0.0}


def test_the_crop_is_the_extended_box() -> None:
    frame = np.tile(np.arange(100, dtype=np.uint8)[:, None, None], (1, 64, 3))
    (crop,) = Faces(lambda frames: [(2, 20, 30, 60)]).crops(Video(frame[None], 8.0))
    assert crop.shape == (61 - 13, 28, 3) and crop[0, 0, 0] == 13
    assert Faces(lambda frames: [(2, 20, 2, 60)]).crops(Video(frame[None], 8.0)) == []


def test_without_one_face_in_the_truth_there_is_no_score(tmp_path: Path) -> None:
    video = Video(np.zeros((1, 8, 8, 3), np.uint8), 8.0)
    for name, faces, reason in (("none", (), "no_face_in_truth"), ("two", ("man", "boy"), "several_faces_in_truth")):
        clip = case(tmp_path / name, ("man", "boy"), with_face=faces)
        score = metric([None])
        assert score.truth(clip) == {}
        assert score.score(video, clip, {}) == {"face_s": reason}


def test_the_middle_reference_is_the_given_one(tmp_path: Path) -> None:
    assert [case(tmp_path / str(n), views=n).single("man") for n in (1, 2, 3)] == [0, 1, 1]
    faces = [case(tmp_path / f"face{n}", views=3, with_face=("man",), faces=n) for n in (1, 2, 3)]
    assert [clip.single("man", "face") for clip in faces] == [0, 1, 1]
