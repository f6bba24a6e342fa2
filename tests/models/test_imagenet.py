from __future__ import annotations

import json

import pytest

from curation.models.imagenet import ImageNet
from curation.models.wordnet import WordNet
from curation.store import store

NAMES = store.path("imagenet-classes")


@pytest.fixture(scope="module")
def nouns() -> ImageNet:
    return ImageNet(NAMES, WordNet(store.path("wordnet")))


@pytest.mark.parametrize(
    "phrase, label, classes",
    [
        ("a mortar", "mortar", {"mortar"}),
        ("microphones", "microphone", {"microphone, mike"}),
        ("electric drill", "electric drill", {"power drill"}),
        ("large tortoises", "tortoise", {"mud turtle", "terrapin", "box turtle, box tortoise"}),
        ("crane", "crane", {"crane"}),
        ("candle", "candle", {"candle, taper, wax light"}),
    ],
)
def test_a_noun_is_its_classes_and_those_below_it(nouns: ImageNet, phrase: str, label: str, classes: set[str]) -> None:
    named = json.loads(NAMES.read_text())
    assert nouns.label(phrase) == label and classes <= {named[str(n)] for n in nouns.classes(phrase)}
    assert len(nouns.classes(phrase)) <= 5


def test_a_bird_and_a_machine_of_one_name_are_two(nouns: ImageNet) -> None:
    assert nouns.classes("crane") == (517,), "134 is the bird"


@pytest.mark.parametrize(
    "phrase",
    [
        *("dog", "bowl", "jeep", "kite"),  # COCO's
        *("groom", "man", "crowd of people"),
        *("stuffed monkey", "cartoon turtle"),
        *("white lab coat", "suit", "sombrero"),
        *("building", "church", "tent"),
        *("container", "vehicle", "thing"),
        *("volcano", "valley", "chopsticks", "the", ""),
    ],
)
def test_what_has_no_class(nouns: ImageNet, phrase: str) -> None:
    assert nouns.classes(phrase) == () and nouns.label(phrase) is None


def test_an_animal_may_be_any(nouns: ImageNet) -> None:
    assert len(nouns.classes("animal")) > 390 and len(nouns.classes("monkey")) > 10
