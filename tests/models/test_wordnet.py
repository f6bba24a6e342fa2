from __future__ import annotations

import time

import pytest

from curation.models.wordnet import COCO, WordNet
from curation.store import store

CLASSES = {
    "golden retriever dog": "dog", "jeep": "car", "orange dodge challenger": "car", "boy": "person", "young girls": "person",
    "men": "person", "women": "person", "group of people": "person", "truck driver": "person", "hot dog": "hot dog",
    "wine glass": "wine glass", "cup of coffee": "cup", "smart phone": "cell phone", "mountain bike": "bicycle",
    "dirt bike": "motorcycle", "polar bear": "bear", "teddy bear": "teddy bear", "computer mouse": "mouse", "yacht": "boat",
    "chef's knife": "knife", "Kitten": "cat", "soccer ball": "sports ball", "coffee table": "dining table", "toy car": "car",
}  # fmt: skip
NO_CLASS = [
    "woman's hand", "mask", "car seat", "mouse", "model", "3d rendering", "illustration of a man", "statue of a man",
    "cartoon dog", "stuffed bear", "toy soldier", "tiger", "bobcat", "lion", "flower bed", "pool table", "ambulance",
    "dvd player", "pasta maker", "apple pie", "new york yankees cap", "crowd", "bag", "", "  ", "of", "💥", "猫",
]  # fmt: skip
SEVERAL = [
    "dogs", "women", "people", "police officers", "puppies", "wolves", "twins", "group of dolphins", "crowd", "young couple",
    "geese",
]  # fmt: skip
ONE = [
    "dog", "princess", "dress", "boss", "walrus", "octopus", "lens", "bus", "sheep", "woman in glasses", "man", "species", "",
    "news anchor",
]  # fmt: skip


@pytest.fixture(scope="module")
def wordnet() -> WordNet:
    return WordNet(store.path("wordnet"))


def test_a_phrase_has_the_class_of_its_head(wordnet: WordNet) -> None:
    assert {phrase: wordnet.to_coco(phrase) for phrase in CLASSES} == CLASSES


def test_doubt_has_no_class(wordnet: WordNet) -> None:
    assert {phrase: name for phrase in NO_CLASS if (name := wordnet.to_coco(phrase))} == {}


def test_every_class_is_found_by_its_own_name(wordnet: WordNet) -> None:
    found = {name: wordnet.to_coco(name) for name in COCO if name != "mouse"}  # an animal or a device
    assert found == {name: name for name in found}


def test_plurals(wordnet: WordNet) -> None:
    assert [phrase for phrase in SEVERAL + ONE if wordnet.is_plural(phrase)] == SEVERAL


def test_beings(wordnet: WordNet) -> None:
    people, animals = (
        ["chef", "baseball player", "kids", "queen"],
        ["tiger", "cat", "butterflies", "polar bear", "chicken", "seal"],
    )
    things = ["statue", "robot", "blender", "pan", "printer", "dresser", "grass", "hand", "doll", "toy bear", "stuffed dog"]
    assert [p for p in people + animals + things if wordnet.is_person(p)] == people
    assert [p for p in people + animals + things if wordnet.is_animal(p)] == animals


def test_vehicles(wordnet: WordNet) -> None:
    moving = ["red jeep", "helicopter", "ship", "train", "bus", "tractor"]
    assert [p for p in [*moving, "bicycle", "house", "dog", "car seat"] if wordnet.is_vehicle(p)] == moving


def test_bisection_finds_what_a_scan_finds(wordnet: WordNet) -> None:
    lines = [line.split() for line in (store.path("wordnet") / "index.noun").read_text().splitlines() if line[0] != " "]
    sampled = [lines[0], *lines[1::97], lines[-1]]
    assert [wordnet.senses(line[0]) for line in sampled] == [tuple(map(int, line[-int(line[2]) :])) for line in sampled]
    assert wordnet.senses("") == wordnet.senses("zzzz") == ()


def test_opening_is_quick() -> None:
    start = time.perf_counter()
    assert WordNet(store.path("wordnet")).to_coco("dog") == "dog"
    assert time.perf_counter() - start < 1.0  # measured: 0.04 s
