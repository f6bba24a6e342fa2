from __future__ import annotations

import av
import numpy as np
import pytest

from curation.models.centerface import CenterFace
from curation.store import store


@pytest.fixture(scope="module")
def detector() -> CenterFace:
    return CenterFace(store.path("centerface"))


@pytest.fixture(scope="module")
def man() -> np.ndarray:
    with av.open(str(store.path("sample-videos") / "carphone_pristine.mp4")) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)][40]


def test_the_man_s_face_and_its_landmarks(detector: CenterFace, man: np.ndarray) -> None:
    (face,) = detector.faces(man)
    np.testing.assert_allclose(face.box, (49, 38, 102, 104), atol=5)  # by eye, of 176×144
    assert face.score > 0.8
    x0, y0, x1, y1 = face.box
    assert len(face.landmarks) == 5 and all(x0 < x < x1 and y0 < y < y1 for x, y in face.landmarks)
    left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks
    assert left_eye[0] < right_eye[0] and left_mouth[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])


def test_nothing_but_plain_floats_and_the_same_again(detector: CenterFace, man: np.ndarray) -> None:
    faces = detector.faces(man, 0.2)
    assert faces == detector.faces(man, 0.2)
    assert all(type(value) is float for face in faces for value in (face.score, *face.box, *face.landmarks[0]))


def test_a_face_is_where_it_is_in_any_shape_of_image(detector: CenterFace, man: np.ndarray) -> None:
    for height, width, top, left in ((300, 500, 100, 300), (500, 301, 333, 17)):
        canvas = np.full((height, width, 3), 127, np.uint8)
        canvas[top : top + 144, left : left + 176] = man
        (face,) = detector.faces(canvas)
        np.testing.assert_allclose(np.array(face.box) - (left, top, left, top), (49, 38, 102, 104), atol=6)


def test_two_faces_best_first(detector: CenterFace, man: np.ndarray) -> None:
    faces = detector.faces(np.hstack([man, man[:, ::-1]]))
    assert len(faces) == 2 and faces[0].score >= faces[1].score
    assert sorted(face.box[0] > 176 for face in faces) == [False, True]


def test_no_face_in_flat_grey(detector: CenterFace) -> None:
    assert detector.faces(np.full((90, 160, 3), 127, np.uint8), 0.2) == []
