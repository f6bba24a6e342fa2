from __future__ import annotations

import av
import cv2
import numpy as np
import pytest

from curation.models.pose import Pose
from curation.store import store


@pytest.fixture(scope="module")
def pose() -> Pose:
    return Pose(store.path("mediapipe-pose"))


@pytest.fixture(scope="module")
def man() -> np.ndarray:
    """A man in a car, to the chest, 176×144."""
    with av.open(str(store.path("sample-videos") / "carphone_pristine.mp4")) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


NOSE, MOUTH, SHOULDERS = 0, [9, 10], [11, 12]


def test_a_man_is_there_to_the_chest(pose: Pose, man: np.ndarray) -> None:
    body = pose(man)
    assert body.score > 0.8 and body.presence > 0.9
    assert body.parts(176, 144) == {"head": 1, "shoulders": 1, "hips": 0, "knees": 0, "feet": 0}
    nose, mouth, shoulders = (body.landmarks[points, :2] for points in (NOSE, MOUTH, SHOULDERS))
    assert 75 < nose[0] < 100 and 50 < nose[1] < 70, "by eye"
    assert nose[1] < mouth[:, 1].min() and mouth[:, 1].max() < shoulders[:, 1].min()
    assert shoulders[0, 0] > nose[0] > shoulders[1, 0], "his left is to the right"


@pytest.mark.parametrize("turn", [cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_COUNTERCLOCKWISE])
def test_turned_he_is_the_same(pose: Pose, man: np.ndarray, turn: int) -> None:
    """What it is of the body's square that the landmarks are looked for in."""
    upright, turned = pose(man), pose(cv2.rotate(man, turn))
    x, y = upright.landmarks[NOSE, :2]
    expected = {cv2.ROTATE_90_CLOCKWISE: (143 - y, x), cv2.ROTATE_180: (175 - x, 143 - y)}.get(turn, (y, 175 - x))
    assert np.abs(turned.landmarks[NOSE, :2] - expected).max() < 12


def test_in_a_larger_picture_he_is_at_his_place(pose: Pose, man: np.ndarray) -> None:
    alone = pose(man).landmarks[NOSE, :2]
    wide = np.full((300, 400, 3), 90, np.uint8)
    wide[100:244, 150:326] = man
    assert np.abs(pose(wide).landmarks[NOSE, :2] - alone - (150, 100)).max() < 8


def test_nobody(pose: Pose) -> None:
    ramp = np.linspace(0, 255, 200).astype(np.uint8)
    body = pose(np.dstack([np.tile(ramp, (150, 1))] * 3))
    assert min(body.score, body.presence) < 0.3


def test_of_a_part_the_rest_is_outside(pose: Pose, man: np.ndarray) -> None:
    body = pose(man)
    body.landmarks[[23, 24]] = (50, 200, 0.9)
    assert body.parts(176, 144)["hips"] == 0 and body.parts(176, 300)["hips"] == 1


def test_the_same_bytes_twice(pose: Pose, man: np.ndarray) -> None:
    assert pose(man).landmarks.tobytes() == pose(man).landmarks.tobytes()


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (900, 3)])
def test_of_odd_sizes(pose: Pose, size: tuple[int, int]) -> None:
    assert np.isfinite(pose(np.zeros((*size, 3), np.uint8)).landmarks).all()
