from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from curation.benchmark.metrics import Video
from curation.benchmark.metrics.opencustom import ImageSimilarity, MotionSmoothness, RegionSimilarity, halfway, smoothness
from curation.benchmark.metrics.subjects import Cut, Subjects
from tests.benchmark.metrics.cases import case


def bars(shift: int) -> np.ndarray:
    frame = np.zeros((40, 60, 3), np.uint8)
    frame[:, 20 + shift : 30 + shift] = 200
    return frame


def to_the_right(pixels: float) -> np.ndarray:
    return np.tile(np.array([pixels, 0], np.float32), (40, 60, 1))


def test_halfway_both_frames_are_carried_half_of_the_flow() -> None:
    assert (halfway(bars(0), bars(8), to_the_right(8)) == bars(4)).all()
    assert (halfway(bars(8), bars(0), to_the_right(-8)) == bars(4)).all()
    assert not (halfway(bars(0), bars(8), to_the_right(4)) == bars(4)).all()


def test_smooth_is_what_the_neighbours_foresee(tmp_path: Path) -> None:
    metric, clip = MotionSmoothness(lambda a, b: np.pad(to_the_right(8), ((0, 0), (2, 2), (0, 0)))), case(tmp_path)
    smooth = Video(np.stack([bars(4 * i) for i in range(4)]), 8.0)
    assert metric.score(smooth, clip, {}) == {"motion_smoothness": 1.0}
    jumps = Video(np.stack([bars(0), bars(20), bars(8)]), 8.0)
    score = metric.score(jumps, clip, {})["motion_smoothness"]
    assert score == pytest.approx(1 - 20 * 200 / 60 / 255)
    assert metric.score(Video(smooth.frames[:2], 8.0), clip, {}) == {"motion_smoothness": "too_few_frames"}
    assert smoothness([np.full((2, 2, 3), 51, np.uint8)], [np.zeros((2, 2, 3), np.uint8)]) == pytest.approx(0.8)


def embed(crops: list[np.ndarray]) -> np.ndarray:
    return np.array([[c.mean() // 10 == 1, c.mean() // 10 == 2] for c in crops], float)


def test_whole_frames_are_held_against_the_subjects_references(tmp_path: Path) -> None:
    clip = case(tmp_path, ("man",), ("hat",))
    metric = ImageSimilarity("clip_i", embed, embed)
    truth = metric.truth(clip)
    assert len(truth["references"]) == 3
    video = Video(np.stack([np.full((8, 8, 3), grey, np.uint8) for grey in (10, 20)]), 8.0)
    assert metric.score(video, clip, truth) == {"clip_i": pytest.approx(0.5)}
    empty = case(tmp_path / "empty", views=0)
    assert metric.score(video, empty, metric.truth(empty)) == {"clip_i": "no_reference"}


def test_regions_show_what_is_behind_and_misses_count_nothing(tmp_path: Path) -> None:
    clip = case(tmp_path, ("man",))
    cut = Cut((0, 0, 1, 1), np.full((1, 1, 3), 255, np.uint8), np.full((1, 1, 3), 10, np.uint8))
    subjects = Subjects(lambda frames, words: [[cut], [None]], embed)
    metric = RegionSimilarity("region", subjects, embed, lambda word, cutouts: embed(cutouts))
    video = Video(np.zeros((2, 8, 8, 3), np.uint8), 8.0)
    assert metric.score(video, clip, metric.truth(clip)) == {"region": pytest.approx(0.5)}
    words = RegionSimilarity("region", subjects, embed, lambda word, _: np.array([[0.0, float(word == "man")]]))
    assert words.score(video, clip, words.truth(clip)) == {"region": 0.0}
