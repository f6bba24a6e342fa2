from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from curation.benchmark.metrics import Video
from curation.benchmark.metrics.face_s import Faces
from curation.benchmark.metrics.open_s2v import FaceSim, evenly, facesim
from tests.benchmark.metrics.cases import case


def test_thirty_two_frames_from_the_first_to_the_last() -> None:
    assert evenly(np.arange(100))[[0, 1, 30, 31]].tolist() == [0, 3, 95, 99] and len(evenly(np.arange(5))) == 32


def test_what_is_unlike_counts_as_nothing_and_who_is_missing_not_at_all() -> None:
    assert facesim(np.array([[1.0, 0.0], [-1.0, 0.0]]), np.array([2.0, 0.0])) == pytest.approx(0.5)
    assert facesim(np.zeros((0, 1)), np.array([2.0, 0.0])) == 0.0


def test_the_given_face_is_the_reference(tmp_path: Path) -> None:
    clip = case(tmp_path, with_face=("man",), faces=3)
    metric = FaceSim(Faces(lambda frames: [(0, 0, 8, 8)] * len(frames)), lambda crops: np.array([[c.mean()] for c in crops]))
    assert metric.truth(clip)["face"].tolist() == [201]
    video = Video(np.full((2, 9, 9, 3), 5, np.uint8), 8.0)
    assert metric.score(video, clip, metric.truth(clip)) == {"facesim_arcface": pytest.approx(1)}
    assert metric.score(video, case(tmp_path / "none"), {}) == {"facesim_arcface": "no_face_in_truth"}
