from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from curation.models.class_map import PEAK, ClassMap, confirmed, is_claimed, peak, salient_boxes
from curation.models.efficientnet import EfficientNet, Looks
from curation.models.nanodet import Detection
from curation.store import store

MORTAR, MICROPHONE = (666,), (650,)
BOX = (198.0, 122.0, 478.0, 358.0)
"""The mortar, by eye."""


@pytest.fixture(scope="module")
def network() -> EfficientNet:
    return EfficientNet(store.path("efficientnet-lite2"))


def test_a_mortar_is_where_it_is(network: EfficientNet, panda: Path) -> None:
    with av.open(str(panda / "clips/00000/0000030_00000.mp4")) as container:
        frame = next(f.to_ndarray(format="rgb24") for i, f in enumerate(container.decode(video=0)) if i == 4)
    cells = network.cells(frame)
    score, at = peak(cells, MORTAR, 640, 360)
    assert score > PEAK > peak(cells, MICROPHONE, 640, 360)[0]
    assert BOX[0] < at[0] < BOX[2] and BOX[1] < at[1] < BOX[3]
    boxes = [BOX, (0.0, 0.0, 120.0, 90.0), (0.0, 0.0, 640.0, 360.0)]
    ((sure, box),) = confirmed(network, frame, boxes, at, MORTAR)
    assert box == BOX and 0.6 <= sure <= 1
    assert confirmed(network, frame, boxes, at, MICROPHONE) == [] == confirmed(network, frame, boxes[1:2], at, MORTAR)


def test_a_peak_is_at_the_lower_right_of_its_cell() -> None:
    cells = np.zeros((3, 4, 2), np.float32)
    cells[1, 2] = 0.4
    assert peak(cells, (0, 1), 400, 300) == (pytest.approx(0.8), (300, 200))


def test_what_stands_out_has_boxes() -> None:
    saliency = cv2.rectangle(np.zeros((100, 100), np.float32), (10, 20), (29, 39), 0.9, -1)
    saliency[50:90, 50:90], saliency[0, 0] = 0.7, 1.0
    assert salient_boxes(saliency) == [(50, 50, 90, 90), (10, 20, 30, 40)]


@pytest.mark.parametrize(
    "label, score, box, claimed",
    [
        ("person", 0.6, (0, 0, 100, 100), True),
        ("person", 0.2, (0, 0, 100, 100), False),
        ("dog", 0.6, (0, 0, 100, 100), False),
        ("person", 0.6, (0, 0, 400, 400), False),  # holds it
    ],
)
def test_a_box_about_as_a_persons_is_theirs(label: str, score: float, box: tuple[float, ...], claimed: bool) -> None:
    assert is_claimed((5, 5, 95, 95), [Detection(label, score, box)]) is claimed  # type: ignore[arg-type]
    assert not is_claimed((5, 5, 95, 95), [])


class Sure:
    """A classifier that is sure of class 0 everywhere, and of no other."""

    def cells(self, picture: np.ndarray) -> np.ndarray:
        return np.eye(1, 1000, dtype=np.float32)[None].repeat(2, 0)

    def __call__(self, pictures: list[np.ndarray]) -> Looks:
        return Looks(np.eye(1, 1000, dtype=np.float32).repeat(len(pictures), 0), np.zeros((len(pictures), 1280), np.float32))


class Nouns:
    def classes(self, phrase: str) -> tuple[int, ...]:
        return {"mortar": (0,), "drum": (1,)}.get(phrase, ())

    def label(self, phrase: str) -> str | None:
        return phrase if self.classes(phrase) else None


def test_a_words_box_is_among_what_stands_out_and_what_was_detected_and_no_persons() -> None:
    able, frame, salient = ClassMap(Sure(), Nouns()), np.zeros((100, 100, 3), np.uint8), np.zeros((100, 100), np.float32)
    salient[20:60, 20:60] = 1
    assert able.peaks(frame, ["drum", "sky", "mortar"]) == {2: (100, 50)} and able.label("sky") is None
    at, detected = (30.0, 30.0), [Detection("vase", 0.2, (10.0, 10.0, 90.0, 90.0))]
    assert able.box(frame, "mortar", at, salient, detected) == [(1, (20, 20, 60, 60))]
    assert able.box(frame, "mortar", at, None, detected) == [(1, (10, 10, 90, 90))]
    assert able.box(frame, "drum", at, salient, detected) == []
    assert able.box(frame, "mortar", at, None, [Detection("person", 0.2, (20.0, 20.0, 60.0, 60.0))]) == []
    assert able.box(frame, "mortar", at, salient, [Detection("person", 0.6, (20.0, 20.0, 60.0, 65.0))]) == []


def test_copies_of_one_box_do_not_crowd_out_another() -> None:
    boxes = [(0.0, 0.0, 90.0 + i / 10, 90.0) for i in range(20)] + [(20.0, 20.0, 50.0, 50.0)]
    assert confirmed(Sure(), np.zeros((100, 100, 3), np.uint8), boxes, (30.0, 30.0), (0,)) == [(1, boxes[-1])]
