from __future__ import annotations

import numpy as np
import pytest

from curation.benchmark.metrics.sharing import Once, cosines


def test_an_answer_is_given_again_for_the_same_object_only() -> None:
    asked: list[object] = []
    once = Once(lambda *given: asked.append(given) or len(asked))
    a, b = np.zeros(3), np.zeros(3)
    assert [once(a), once(a), once(b), once(b, a), once(b, b), once(a)] == [1, 1, 2, 3, 4, 5]


def test_cosines_do_not_mind_lengths() -> None:
    a = np.array([[3.0, 0.0], [0.0, 0.0]], np.float32)
    assert cosines(a, np.array([[1.0, 1.0], [-2.0, 0.0]])) == pytest.approx(np.array([[0.5**0.5, -1], [0, 0]]))
