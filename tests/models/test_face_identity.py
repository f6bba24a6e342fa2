from __future__ import annotations

import av
import cv2
import numpy as np
import pytest

from curation.models.centerface import CenterFace
from curation.models.face_identity import FaceIdentity
from curation.store import store


@pytest.fixture(scope="module")
def identify() -> FaceIdentity:
    return FaceIdentity(store.path("dlib-faces"))


def faces(*times: float) -> list[tuple[np.ndarray, tuple[float, float, float, float]]]:
    """Frames of a talking man and the box of his face."""
    finds, found = CenterFace(store.path("centerface")), []
    with av.open(str(store.path("sample-videos") / "carphone_pristine.mp4")) as container:
        frames = list(container.decode(video=0))
    for time in times:
        image = next(f for f in frames if f.time >= time).to_ndarray(format="rgb24")
        found.append((image, finds.faces(image)[0].box))
    return found


def test_a_face_is_itself_later_and_tilted(identify: FaceIdentity) -> None:
    (early, at), (late, there) = faces(0.5, 3.0)
    first = identify(early, at)
    assert first.shape == (128,) and first.dtype == np.float32
    assert np.linalg.norm(first - identify(late, there)) < 0.5
    middle = ((at[0] + at[2]) / 2, (at[1] + at[3]) / 2)
    tilted = cv2.warpAffine(early, cv2.getRotationMatrix2D(middle, 20, 1.0), early.shape[1::-1])
    assert np.linalg.norm(first - identify(tilted, at)) < 0.45
    assert np.array_equal(first, identify(early, at))


def test_what_is_no_face_is_far(identify: FaceIdentity) -> None:
    [(image, at)] = faces(0.5)
    assert np.linalg.norm(identify(image, at) - identify(image, (120.0, 90.0, 172.0, 144.0))) > 0.65
