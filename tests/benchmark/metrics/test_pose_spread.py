from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from curation.benchmark.metrics import Video
from curation.benchmark.metrics.pose_spread import PoseSpread, pose_spread
from curation.benchmark.metrics.subjects import Cut, Place, Subjects
from tests.benchmark.metrics.cases import case


def test_each_of_four_numbers_counts_alike() -> None:
    still = (10, 10, 30, 30)
    assert pose_spread([still] * 3, 100, 200) == pytest.approx(0, abs=1e-12)
    assert pose_spread([still, (30, 10, 50, 30)], 100, 200) == pytest.approx(0.05 / 2)  # x, ±0.05 of the width
    assert pose_spread([still, (10, 20, 30, 40)], 100, 200) == pytest.approx(0.05 / 2)  # y, ±0.05 of the height
    assert pose_spread([still, (0, 0, 40, 40)], 100, 200) == pytest.approx(np.log(2) / 2 / 2)  # size
    assert pose_spread([still, (0, 15, 40, 25)], 100, 200) == pytest.approx(np.log(4) / 2 / 2)  # aspect


def test_subjects_alone_are_followed_where_they_are_found(tmp_path: Path) -> None:
    def cut(box: Place | None) -> Cut | None:
        return box and Cut(box, *[np.zeros((1, 1, 3), np.uint8)] * 2)

    clip = case(tmp_path, ("man",), ("hat",))
    video = Video(np.zeros((3, 100, 200, 3), np.uint8), 8.0)

    def score(*man: Place | None) -> float | str:
        rows = [[cut(box), cut((place, 0, place + 9, 9))] for place, box in enumerate(man)]
        metric = PoseSpread(Subjects(lambda frames, words: rows, lambda crops: np.zeros((1, 1))))
        return metric.score(video, clip, metric.truth(clip))["pose_spread"]

    assert score((10, 10, 30, 30), None, (30, 10, 50, 30)) == pytest.approx(0.05 / 2)
    assert score((10, 10, 30, 30), None, None) == "no_subject"
    one = PoseSpread(Subjects(lambda frames, words: [], lambda crops: np.zeros((1, 1))))
    assert one.score(Video(video.frames[:1], 8.0), clip, {}) == {"pose_spread": "one_frame"}
