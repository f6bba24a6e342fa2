from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from curation.models.matte import Matte
from curation.models.people import People
from curation.models.pose import Pose
from curation.store import store


def frame(path: Path, number: int) -> np.ndarray:
    with av.open(str(path)) as container:
        return next(f for i, f in enumerate(container.decode(video=0)) if i == number).to_ndarray(format="rgb24")


@pytest.fixture(scope="module")
def people() -> People:
    cv2.setNumThreads(1)
    return People(Matte(store.path("selfie-segmentation")), Pose(store.path("mediapipe-pose")))


def test_a_man_is_cut_out_by_his_outline(people: People) -> None:
    """Points by eye."""
    man = frame(store.path("sample-videos") / "carphone_pristine.mp4", 60)
    made = people(man, (25.0, 20.0, 160.0, 144.0), (20.0, 15.0, 165.0, 144.0))
    assert made is not None
    mask, score = made
    assert mask[45:85, 62:92].mean() > 0.95 and mask[:12, :30].mean() < 0.05 and score > 0.9


def test_where_nobody_is_seen_there_is_no_person(people: People) -> None:
    image = np.full((240, 320, 3), (60, 140, 70), np.uint8)
    image[60:200, 100:220] = (150, 40, 40)
    assert people(image, (95.0, 55.0, 225.0, 205.0), (90.0, 50.0, 230.0, 210.0)) is None


def test_legs_are_nobody(people: People) -> None:
    """The rest of him is above the frame; the box by eye."""
    street = frame(store.path("sample-videos") / "bikes.mp4", 191)
    assert people(street, (101.0, 0.0, 254.0, 233.0), (95.0, 0.0, 260.0, 242.0)) is None


def test_one_of_two_is_cut_out_without_the_other(people: People, panda: Path) -> None:
    """Two men in suits, shoulder before shoulder: the matte of the nearer one's box holds much of the other's; boxes by eye."""
    two = frame(panda / "clips/00000/0000051_00000.mp4", 5)
    box, wide = (175.0, 25.0, 470.0, 358.0), (163.0, 11.0, 482.0, 360.0)
    made = people(two, box, wide)
    assert made is not None
    mask, score = made
    matte = Matte(store.path("selfie-segmentation")).in_box(two, box) > 0.5
    beside = slice(40, 330), slice(455, 480)
    assert score > 0.95 and mask[beside].mean() < 0.5 and matte[beside].mean() > 0.7
    assert mask[100:330, 330:400].mean() > 0.95, "his tie and shirt"


def test_a_box_that_cuts_him_off_grows(people: People, panda: Path) -> None:
    """The man before another one, in a box that ends in his shoulder; by eye."""
    two = frame(panda / "clips/00000/0000051_00000.mp4", 5)
    made = people(two, (175.0, 25.0, 400.0, 358.0), (163.0, 11.0, 410.0, 360.0))
    assert made is not None
    assert made[0][250:350, 411:430].mean() > 0.9 and not made[0][:, 480:].any()
