from __future__ import annotations

import av
import numpy as np
import pytest

from curation.models.matte import Matte
from curation.store import store


@pytest.fixture(scope="module")
def matte() -> Matte:
    return Matte(store.path("selfie-segmentation"))


@pytest.fixture(scope="module")
def man() -> np.ndarray:
    """A man in a car, 176×144; his face is in the middle, the top left corner is the car's ceiling."""
    with av.open(str(store.path("sample-videos") / "carphone_pristine.mp4")) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def test_a_man_is_claimed_and_the_car_is_not(matte: Matte, man: np.ndarray) -> None:
    found = matte(man)
    assert found.shape == man.shape[:2] and found.dtype == np.float32
    assert found.min() >= 0 and found.max() <= 1
    assert found[40:90, 60:95].mean() > 0.9
    assert found[:15, :30].mean() < 0.1
    assert 0.25 < (found > 0.5).mean() < 0.75


def test_nobody_is_seen_in_a_gradient(matte: Matte) -> None:
    ramp = np.linspace(0, 255, 200).astype(np.uint8)
    assert (matte(np.dstack([np.tile(ramp, (150, 1))] * 3)) > 0.5).mean() < 0.02


def test_in_box_sees_the_box_and_its_margin_only(matte: Matte, man: np.ndarray) -> None:
    found = matte.in_box(man, (50, 20, 110, 120), margin=0.1)
    assert found.shape == man.shape[:2]
    outside = np.ones(found.shape, bool)
    outside[10:130, 44:116] = False
    assert not found[outside].any()
    assert found[40:90, 60:95].mean() > 0.9


def test_a_box_over_the_edge_is_cut(matte: Matte, man: np.ndarray) -> None:
    assert matte.in_box(man, (-20.0, -5.0, 400.0, 300.0)).shape == man.shape[:2]


def test_the_same_image_gives_the_same_bits(matte: Matte, man: np.ndarray) -> None:
    first = matte(man)
    matte(255 - man)
    assert np.array_equal(first, matte(man))
