from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from curation.benchmark.metrics import Video
from curation.benchmark.metrics.copy_paste import CopyPaste, copy_paste, undefined
from curation.benchmark.metrics.subjects import Cut, Subjects
from tests.benchmark.metrics.cases import case

GIVEN, OTHERS = np.array([1.0, 0.0]), np.array([[0.0, 1.0], [0.6, 0.8]])
VIDEO = Video(np.zeros((2, 8, 8, 3), np.uint8), 8.0)


def test_one_is_the_given_view_itself_and_none_is_as_like_to_the_others() -> None:
    assert copy_paste(np.array([[5.0, 0.0]] * 3), GIVEN, OTHERS) == pytest.approx(1)
    between = GIVEN + OTHERS.mean(0) / np.linalg.norm(OTHERS.mean(0))
    assert abs(copy_paste(between[None], GIVEN, OTHERS)) < 0.1
    assert copy_paste(OTHERS, GIVEN, OTHERS) < -0.5
    assert copy_paste(np.stack([GIVEN, OTHERS[0]]), GIVEN, OTHERS) == pytest.approx((1 + (0 - 0.9) / 0.7) / 2)


def test_views_that_are_alike_tell_nothing() -> None:
    assert undefined(GIVEN, OTHERS[:0]) == "one_view" and undefined(GIVEN, OTHERS) == ""
    close = np.array([[0.96, 0.28], [0.95, 0.3122499]])
    assert undefined(GIVEN, close) == "views_alike" and undefined(GIVEN, close[1:] * [0.99, 1]) == ""


def subjects(angle: float | None) -> Subjects:
    """The views of `cases.case` are 40 degrees apart; the video shows an angle."""
    cut = None if angle is None else Cut((0, 0, 1, 1), *[np.full((1, 1, 3), 100 + angle, np.uint8)] * 2)

    def embed(crops: list[np.ndarray]) -> np.ndarray:
        greys = np.array([float(crop.mean()) for crop in crops])
        degrees = np.deg2rad(np.where(greys < 100, (greys % 10) * 40, greys - 100))
        return np.stack([np.cos(degrees), np.sin(degrees)], 1)

    return Subjects(lambda frames, words: [[cut] * len(words)] * len(frames), embed)


def test_a_video_is_held_against_the_view_that_was_given(tmp_path: Path) -> None:
    clip = case(tmp_path, objects=("hat",))

    def score(angle: float | None, **more: str) -> float | str:
        metric = CopyPaste(subjects(angle), column="mine", **more)  # type: ignore[arg-type]
        truth = metric.truth(clip)
        assert len(truth) == 1, "objects were not given"
        return metric.score(VIDEO, clip, truth)["mine"]

    assert score(40) == pytest.approx(1)
    assert score(0) == pytest.approx((np.cos(np.deg2rad(40)) - (1 + np.cos(np.deg2rad(80))) / 2) / (1 - np.cos(np.deg2rad(40))))
    assert score(None) == "no_subject"
    assert score(40, references="all") == "all_references"


def test_what_no_view_can_tell_is_undefined(tmp_path: Path) -> None:
    for views, reason in ((1, "one_view"), (0, "no_reference")):
        clip = case(tmp_path / str(views), views=views)
        metric = CopyPaste(subjects(40))
        assert metric.score(VIDEO, clip, metric.truth(clip)) == {"copy_paste": reason}
    alike = CopyPaste(Subjects(lambda frames, words: [], lambda crops: np.ones((len(crops), 2))))
    clip = case(tmp_path / "alike")
    assert alike.score(VIDEO, clip, alike.truth(clip)) == {"copy_paste": "views_alike"}
