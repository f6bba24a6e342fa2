from __future__ import annotations

import av
import numpy as np
import pytest

from curation.models.nanodet import COCO, NanoDet
from curation.store import store


@pytest.fixture(scope="module")
def detect() -> NanoDet:
    return NanoDet(store.path("nanodet"))


def frame(video: str, index: int) -> np.ndarray:
    with av.open(str(store.path("sample-videos") / f"{video}.mp4")) as container:
        for i, found in enumerate(container.decode(video=0)):
            if i == index:
                return found.to_ndarray(format="rgb24")
    raise AssertionError(f"{video} has no frame {index}")


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    width, height = (max(0.0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1))
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def test_coco_has_its_80_names_in_order() -> None:
    assert len(set(COCO)) == 80
    assert (COCO[0], COCO[1], COCO[15], COCO[67], COCO[79]) == ("person", "bicycle", "cat", "cell phone", "toothbrush")


def test_the_man_in_the_car(detect: NanoDet) -> None:
    best = detect(frame("carphone_pristine", 40))[0]
    assert best.label == "person" and best.score > 0.5
    assert overlap(best.box, (25, 16, 172, 144)) > 0.7  # by eye, of 176×144


def test_people_bicycles_and_cars_in_the_street(detect: NanoDet) -> None:
    seen = {found.label for index in range(0, 250, 25) for found in detect(frame("bikes", index))}
    assert {"person", "bicycle", "car"} <= seen


def test_results_are_plain_sorted_inside_the_image_and_the_same_again(detect: NanoDet) -> None:
    image = frame("bikes", 100)
    found = detect(image, 0.1)
    assert len(found) > 3 and found == detect(image, 0.1)
    assert [d.score for d in found] == sorted((d.score for d in found), reverse=True)
    for detection in found:
        x0, y0, x1, y1 = detection.box
        assert 0 <= x0 < x1 <= 640 and 0 <= y0 < y1 <= 272
        assert all(type(value) is float for value in (*detection.box, detection.score))


def test_one_class_has_no_two_boxes_at_one_place(detect: NanoDet) -> None:
    found = detect(frame("bikes", 100), 0.05)
    pairs = [(a, b) for i, a in enumerate(found) for b in found[:i] if a.label == b.label]
    assert pairs and all(overlap(a.box, b.box) <= 0.5 + 1e-6 for a, b in pairs)


def test_threshold_and_labels_only_filter(detect: NanoDet) -> None:
    image = frame("bikes", 100)
    low = detect(image, 0.2)
    assert detect(image, 0.4) == [d for d in low if d.score > 0.4]
    assert detect(image, 0.2, labels={"car"}) == [d for d in low if d.label == "car"]


def test_the_box_follows_the_object_in_portrait_and_landscape(detect: NanoDet) -> None:
    """The man on a wide and on a tall grey canvas is found at the same place of the picture, shifted."""
    image = frame("carphone_pristine", 40)
    for height, width, top, left in ((144, 400, 0, 200), (400, 176, 200, 0)):
        canvas = np.full((height, width, 3), 127, np.uint8)
        canvas[top : top + 144, left : left + 176] = image
        best = detect(canvas, 0.3, labels=["person"])[0]
        assert overlap(best.box, (25 + left, 16 + top, 172 + left, 144 + top)) > 0.6
