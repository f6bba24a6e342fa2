from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from curation.benchmark.metrics import Video
from curation.benchmark.metrics.subj_s import SubjS, subj_s
from curation.benchmark.metrics.subjects import Cut, Subjects
from tests.benchmark.metrics.cases import case

VIDEO = Video(np.zeros((4, 8, 8, 3), np.uint8), 8.0)


def test_misses_count_nothing_and_references_are_averaged() -> None:
    references = [np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[1.0, 0.0]])]
    found = [np.array([[1.0, 0.0]]), np.zeros((0, 1))]
    assert subj_s(found, references, 5) == pytest.approx(0.5 / (5 * 2))
    assert subj_s([np.array([[1.0, 0.0]] * 5), np.array([[2.0, 0.0]] * 5)], references, 5) == pytest.approx((0.5 + 1) / 2)


def subjects(greys: list[list[int | None]], **more: object) -> Subjects:
    """Cut-outs of one grey by frame and word; its embedding tells the word of `cases.case` apart, and is white where white is."""
    rows = [[grey and Cut((0, 0, 2, 2), *[np.full((2, 2, 3), grey, np.uint8)] * 2) for grey in row] for row in greys]
    return Subjects(
        lambda frames, words: rows,
        lambda crops: np.array([[c.mean() // 10 == 1, c.mean() // 10 == 2, 0] for c in crops], float),
        **more,
    )  # type: ignore[arg-type]


def test_every_subject_and_object_is_asked_for_once(tmp_path: Path) -> None:
    clip = case(tmp_path, ("man",), ("hat", "man"), views=2)
    metric = SubjS(subjects([[10, 20], [10, 10], [None, 20], [10, None]]), column="mine")
    truth = metric.truth(clip)
    assert {name: value[:, :2].tolist() for name, value in truth.items()} == {"0": [[1, 0], [1, 0]], "1": [[0, 1], [0, 1]]}
    assert metric.score(VIDEO, clip, truth) == {"mine": pytest.approx(5 / 8)}


def test_words_that_cannot_be_found_or_have_no_reference_are_not_asked_for(tmp_path: Path) -> None:
    clip = case(tmp_path, ("man", "hat"), views=1)
    metric = SubjS(subjects([[20]] * 4, knows=lambda word: word == "hat"))
    assert metric.score(VIDEO, clip, metric.truth(clip)) == {"subj_s": 1.0}
    empty = case(tmp_path / "empty", views=0)
    assert SubjS(subjects([])).score(VIDEO, empty, SubjS(subjects([])).truth(empty)) == {"subj_s": "no_reference"}
