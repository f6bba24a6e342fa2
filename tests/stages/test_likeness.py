from __future__ import annotations

import numpy as np
import pytest

from curation.stages.likeness import Look, face_distance, likeness, strangers


def look(angle: float, face: float | None = None) -> Look:
    """Cosine of two: of the difference of their angles in degrees; distance of two faces: of their places."""
    turned = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))], np.float32)
    return Look(turned, None if face is None else np.array([face, 0], np.float32))


SURE = {0: 0.9, 1: 0.8, 2: 0.7}


@pytest.mark.parametrize(
    "looks, expected",
    [
        ([look(0), look(50), look(10)], []),
        ([look(0), look(80), look(10)], [1]),
        ([look(0), look(80)], [1]),  # of two the one found less surely
        ([look(0), look(80), look(160)], [2, 1]),
        ([look(0, 0.0), look(80, 0.3)], []),  # unlike, but their faces are one person's
        ([look(0, 0.0), look(0, 0.7)], [1]),  # alike, but two people
        ([look(0, 0.0), look(0, 0.7), look(0, 0.1)], [1]),
        ([look(0, 0.0), look(0, 0.7), look(10)], [1]),  # the third has no face: it is like both
        ([look(0, 0.0), look(80)], [1]),  # one face is none to compare
        ([look(0)], []),
    ],
)
def test_strangers(looks: list[Look], expected: list[int]) -> None:
    assert strangers(dict(enumerate(looks)), SURE, 0.55, 0.65) == expected


def test_faces_decide_without_embeddings_too() -> None:
    assert strangers({0: look(0, 0.0), 1: look(0, 0.7)}, SURE, 0.0, 0.65) == [1]
    assert strangers({0: look(0, 0.0), 1: look(0, 0.7)}, SURE, 0.0, 2.0) == []


def test_means() -> None:
    looks = {0: look(0, 0.0), 1: look(60, 0.4), 2: look(90)}
    assert likeness(looks, 0) == pytest.approx(0.25, abs=1e-6) and likeness({0: look(0)}, 0) is None
    assert face_distance(looks, 0) == pytest.approx(0.4) and face_distance(looks, 2) is None
