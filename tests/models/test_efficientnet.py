from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest

from curation.models.efficientnet import KNOWN, EfficientNet, coco_classes
from curation.models.wordnet import WordNet
from curation.store import store

GOLD = json.loads(Path(__file__).with_name("efficientnet_gold.json").read_text())
"""What the network of the package `efficientnet-lite-pytorch` 0.1.0 says of frames of the sample videos: its five likeliest
classes, and the first numbers of the embedding."""


@pytest.fixture(scope="module")
def network() -> EfficientNet:
    return EfficientNet(store.path("efficientnet-lite2"))


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    found = []
    for video, facts in GOLD.items():
        with av.open(str(store.path("sample-videos") / f"{video}.mp4")) as container:
            picture = next(f for i, f in enumerate(container.decode(video=0)) if i == facts["frame"])
            found.append(picture.to_ndarray(format="rgb24"))
    return found


def test_equals_the_published_implementation(network: EfficientNet, pictures: list[np.ndarray]) -> None:
    looks = network(pictures)
    assert looks.classes.shape == (3, 1000) and looks.embedding.shape == (3, 1280)
    for classes, embedding, facts in zip(*looks, GOLD.values(), strict=True):
        likeliest = {str(i): float(classes[i]) for i in np.argsort(-classes)[:5]}
        assert likeliest == pytest.approx(facts["classes"], abs=1e-4)
        assert embedding[:8].tolist() == pytest.approx(facts["embedding"], abs=1e-4)
        assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-5) and classes.sum() == pytest.approx(1, abs=1e-5)


def test_alone_it_is_as_in_company(network: EfficientNet, pictures: list[np.ndarray]) -> None:
    assert np.abs(network(pictures).classes[1] - network(pictures[1:2]).classes[0]).max() < 1e-5


def test_the_classes_of_coco() -> None:
    found = coco_classes(store.path("imagenet-classes"), WordNet(store.path("wordnet")))
    assert found.keys() == {label for family in KNOWN for label in family}
    assert 281 in found["cat"] and 207 in found["dog"] and found["car"] == found["truck"] and 609 in found["bus"], "a jeep"
    assert not {*found["cat"]} & {*found["dog"]} and len(found["dog"]) > 100 and len(found["bird"]) > 50


def test_cells_are_the_same_network_seen_locally(network: EfficientNet, pictures: list[np.ndarray]) -> None:
    """The man of a phone's sample on the right of a grey picture twice as wide."""
    cells = network.cells(np.zeros((360, 640, 3), np.uint8))
    assert cells.shape == (10, 18, 1000) and cells.dtype == np.float32
    assert np.abs(cells.sum(-1) - 1).max() < 1e-5
    assert network.cells(np.zeros((3, 640, 3), np.uint8)).shape == (1, 18, 1000)
