from __future__ import annotations

import cv2
import numpy as np
import pytest

from curation.models.colours import colour_of, shown

SEEN = {
    "red": (180, 20, 25), "orange": (225, 110, 25), "yellow": (230, 210, 40), "green": (40, 140, 60), "blue": (40, 80, 190),
    "white": (235, 235, 230), "black": (25, 25, 28), "pink": (240, 120, 180), "purple": (120, 50, 160), "gray": (120, 120, 122),
}  # fmt: skip


@pytest.mark.parametrize("colour", SEEN)
def test_a_colour_is_seen_where_it_is_and_nowhere_else(colour: str) -> None:
    image = np.full((100, 200, 3), 128, np.uint8)
    image[:, :100] = SEEN[colour]
    image[:, 100:] = SEEN["blue" if colour != "blue" else "red"]
    assert shown(image, (0, 0, 100, 100), colour) == 1
    assert shown(image, (100, 0, 200, 100), colour) == 0


def test_a_part_of_that_colour_counts_in_proportion() -> None:
    image = np.full((100, 100, 3), 128, np.uint8)
    cv2.circle(image, (50, 50), 12, SEEN["red"], -1)
    assert 0 < shown(image, (0, 0, 100, 100), "red") < 0.6


@pytest.mark.parametrize(
    "phrase, colour",
    [("Red jeep", "red"), ("grey cat", "gray"), ("golden retriever dog", "golden"), ("man", None), ("black and white cow", None)],
)
def test_the_colour_of_a_phrase(phrase: str, colour: str | None) -> None:
    assert colour_of(phrase) == colour
