from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from curation.models.u2net import U2Net
from curation.store import store

GOLD = json.loads(Path(__file__).with_name("u2net_gold.json").read_text())
"""What rembg's own session says of frames of the sample videos, in 6×6 fields: stretched to 0 … 1."""


@pytest.fixture(scope="module")
def network() -> U2Net:
    return U2Net(store.path("u2netp"))


def picture(video: str, number: int) -> np.ndarray:
    with av.open(str(store.path("sample-videos") / f"{video}.mp4")) as container:
        return next(f for i, f in enumerate(container.decode(video=0)) if i == number).to_ndarray(format="rgb24")


def far_from(found: np.ndarray, fields: Sequence[Sequence[float]]) -> float:
    """Mean difference from what rembg says; it shrinks pictures in another way."""
    stretched = (found - found.min()) / (found.max() - found.min())
    return float(np.abs(cv2.resize(stretched, (6, 6), interpolation=cv2.INTER_AREA) - fields).mean())


@pytest.mark.parametrize("video", [*GOLD])
def test_it_says_what_rembg_says(network: U2Net, video: str) -> None:
    found = network(picture(video, GOLD[video]["frame"]))
    assert found.dtype == np.float32 and found.min() >= 0 and found.max() <= 1
    assert far_from(found, GOLD[video]["u2netp"]) < 0.008


@pytest.mark.slow
@pytest.mark.parametrize("video", [*GOLD])
def test_in_full_as_well(video: str) -> None:
    assert far_from(U2Net(store.path("u2net"))(picture(video, GOLD[video]["frame"])), GOLD[video]["u2net"]) < 0.02


def test_a_map_is_as_large_as_its_picture_and_where_the_thing_is(network: U2Net) -> None:
    image = np.full((180, 320, 3), (70, 130, 80), np.uint8)
    cv2.circle(image, (230, 90), 50, (200, 60, 40), -1)
    found = network(image)
    disc = cv2.circle(np.zeros((180, 320), np.uint8), (230, 90), 50, 1, -1) > 0
    assert found.shape == (180, 320) and found[disc].mean() > 0.9 and found[~disc].mean() < 0.05


def test_dim_is_as_good_as_bright(network: U2Net) -> None:
    dim = picture("bigbuckbunny", 60) // 4
    assert np.abs(network(dim) - network(dim * 4)).mean() < 0.005


@pytest.mark.parametrize("value", [0, 1, 128, 255])
def test_nothing_stands_out_of_a_plain_picture(network: U2Net, value: int) -> None:
    assert network(np.full((90, 160, 3), value, np.uint8)).max() < 0.5


def test_the_same_picture_gives_the_same_map(network: U2Net) -> None:
    image = picture("bikes", 100)
    first = network(image)
    network(image[::-1])
    assert np.array_equal(first, network(image)) and np.array_equal(first, U2Net(store.path("u2netp"))(image))
