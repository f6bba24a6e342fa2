from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from curation.benchmark.metrics import grounded
from curation.benchmark.metrics.grounded import Grounded, best_boxes, cut, occurrences, prompt, word_scores


def test_the_prompt_is_lower_case_with_points_between() -> None:
    assert prompt(["Man", "Green Bottle"]) == "man . green bottle."
    assert prompt(["man", "mr."]) == "man . mr."


def test_a_word_is_scored_wherever_its_tokens_stand() -> None:
    assert occurrences([0, 5, 9, 6, 5, 9, 1], [5]) == [1, 4]
    assert occurrences([0, 5, 6, 9, 5, 6, 5, 6, 1], [5, 6]) == [1, 2, 4, 5, 6, 7]
    assert occurrences([0, 5, 1], []) == [] == occurrences([0, 5, 1], [7])


def test_a_score_is_the_mean_of_the_best_token_and_of_the_average() -> None:
    chances = np.zeros((1, 256), np.float32)
    chances[0, [3, 4, 9]] = 0.9, 0.3, 1.0
    assert word_scores(chances, [[3, 4], [9], [], [300]])[0] == pytest.approx([0.75, 1.0, 0, 0])


def test_a_query_has_one_word_and_a_word_its_best_box_above_the_threshold() -> None:
    scores = np.array([[0.9, 0.95, 0.0], [0.8, 0.1, 0.0], [0.85, 0.2, 0.4]], np.float64)
    boxes = np.array([[0, 0, 1, 1], [-0.9, 2.9, 5.9, 7], [1, 1, 2, 2]], np.float32)
    assert best_boxes(scores, boxes) == [(1, 1, 2, 2), (0, 0, 1, 1), None]
    assert best_boxes(scores[1:2], boxes[1:2]) == [(0, 2, 5, 7), None, None]  # towards zero
    assert best_boxes(np.array([[0.4]]), boxes[:1]) == [None] and best_boxes(np.array([[0.401]]), boxes[:1]) != [None]


@pytest.mark.parametrize(
    ("box", "found"),
    [
        ((0, 0, 20, 10), True),
        ((5, 2, 23, 10), True),  # 3 px too far to the right
        ((5, 2, 24, 10), False),
        ((5, 2, 20, 13), True),
        ((5, 2, 20, 14), False),
        ((5, 2, 21, 11), False),  # both
        ((-1, 2, 8, 9), False),
        ((5, -1, 8, 9), False),
        ((5, 2, 5, 9), False),
    ],
)
def test_a_box_that_passes_the_frame_counts_as_a_miss(box: grounded.Place, found: bool) -> None:
    frame, mask = np.full((10, 20, 3), 7, np.uint8), np.zeros((10, 20), bool)
    mask[:, ::2] = True
    thing = cut(frame, mask, box)
    assert (thing is not None) is found
    if thing:
        assert set(np.unique(thing.picture)) == {7, 255} and set(np.unique(thing.region)) == {7}
        assert thing.picture.shape == thing.region.shape and thing.box == box


class Detector:
    """Word k is token k + 1; two queries, of the first word and of the second."""

    def tokens(self, text: str) -> list[int]:
        return [0, *(ord(word) for word in text.replace(" . ", " ").rstrip(".").split()), 1]

    def queries(self, frames: Sequence[np.ndarray], text: str) -> tuple[np.ndarray, np.ndarray]:
        chances = np.zeros((len(frames), 2, 256))
        chances[:, 0, 1], chances[:, 1, 2] = 0.9, [0.9 - 0.6 * i for i in range(len(frames))]
        return chances, np.tile(np.array([[0, 0, 4, 4], [2, 2, 8, 8]], np.float32), (len(frames), 1, 1))


def test_masks_are_of_found_boxes_and_kept_when_sure() -> None:
    asked = []

    def segment(frame: np.ndarray, boxes: Sequence[grounded.Place]) -> tuple[np.ndarray, np.ndarray]:
        asked.append(list(boxes))
        return np.ones((len(boxes), 10, 10), bool), np.array([0.9, 0.901])[-len(boxes) :]

    frames = np.zeros((2, 10, 10, 3), np.uint8)
    rows = Grounded(Detector(), segment)(frames, ["a", "b"])
    assert asked == [[(0, 0, 4, 4), (2, 2, 8, 8)], [(0, 0, 4, 4)]]
    assert [[c and c.box for c in row] for row in rows] == [[None, (2, 2, 8, 8)], [(0, 0, 4, 4), None]]
