from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from curation.benchmark.metrics import Video
from curation.benchmark.metrics.embedded import ClosedSetCuts, DlibFaces, NotAvailable, SurestFaces, closeness
from curation.models.boxes import Box
from curation.models.centerface import Face
from curation.models.tracks import Candidate
from tests.benchmark.metrics.cases import case


class Things:
    """Two boxes, and masks of their upper halves."""

    BOXES = (0.0, 0.0, 4.0, 4.0), (4.0, 2.0, 8.0, 8.0)

    def __init__(self, *scores: tuple[float, float]):
        self.scores = scores

    def localise(self, frames: Sequence[np.ndarray], words: Sequence[str]) -> list[list[list[Candidate]]]:
        rows = [[Candidate(box, "cup", s, "cup") for box, s in zip(self.BOXES, row, strict=True)] for row in self.scores]
        return [[sorted(row, key=lambda c: -c.score) for row in rows] for _ in frames]

    def mask(self, frame: np.ndarray, box: Box, label: str, others: Sequence[Box] = ()) -> tuple[np.ndarray, float, str]:
        mask = np.zeros(frame.shape[:2], bool)
        x0, y0, x1, y1 = map(int, box)
        mask[y0 : (y0 + y1) // 2, x0:x1] = label == "cup"
        return mask, 1.0, "box"


def test_of_two_words_each_has_a_box_of_its_own() -> None:
    frames = np.full((1, 8, 8, 3), 7, np.uint8)
    (row,) = ClosedSetCuts(Things((0.9, 0.5), (0.8, 0.7)))(frames, ["cup", "mug"])
    assert [cut.box for cut in row if cut] == [(0, 0, 4, 2), (4, 2, 8, 5)]
    (row,) = ClosedSetCuts(Things((0.34, 0.35), (0.1, 0.9)))(frames, ["cup", "mug"])
    assert [cut and cut.box for cut in row] == [(4, 2, 8, 5), None]
    assert row[0] and (row[0].picture == 7).all()


def test_the_surest_face_in_whole_pixels() -> None:
    class Finds:
        def faces(self, image: np.ndarray, threshold: float = 0.5) -> list[Face]:
            return [Face((0.6, 1.4, 5.5, 7.0), 0.9, ()), Face((0, 0, 1, 1), 0.6, ())] if image.any() else []

    frames = np.stack([np.ones((8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.uint8)])
    assert SurestFaces(Finds())(frames) == [(1, 1, 6, 7), None]


def test_descriptors_are_of_whole_crops_and_near_ones_are_alike() -> None:
    faces = DlibFaces(lambda image, face: np.array(face, np.float32))([np.zeros((5, 4, 3)), np.zeros((2, 9, 3))])
    assert faces.tolist() == [[0, 0, 4, 5], [0, 0, 9, 2]]
    assert closeness(np.array([[0.0, 0.0], [0.6, 0.0]]), np.array([[0.0, 0.0], [0.0, 1.0]])) == pytest.approx(
        np.array([[1, 0], [0.4, 1 - 1.36**0.5]])
    )


def test_what_has_no_network_says_so(tmp_path: Path) -> None:
    metric, video = NotAvailable("text_s"), Video(np.zeros((1, 8, 8, 3), np.uint8), 8.0)
    assert metric.score(video, case(tmp_path), metric.truth(case(tmp_path))) == {"text_s": "not_available"}
