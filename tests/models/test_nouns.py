from __future__ import annotations

import subprocess
import sys

import pytest

from curation.models.nouns import LONGEST_TEXT, Nouns
from curation.models.wordnet import WordNet
from curation.store import store
from tests.conftest import ROOT

PAPER = "A woman in a mask and coat, with long brown hair, shows a small green-capped bottle to the camera."

WITHOUT_TORCH = """
import sys
from curation.models.nouns import Nouns
from curation.models.wordnet import WordNet
from curation.store import store

Nouns(store.path("spacy-en"), WordNet(store.path("wordnet")))(["A dog in a park."])
print("torch" in sys.modules)
import torch
print(torch.ones(2).sum().item() == 2)
"""


@pytest.fixture(scope="module")
def nouns() -> Nouns:
    return Nouns(store.path("spacy-en"), WordNet(store.path("wordnet")))


def test_the_papers_example(nouns: Nouns) -> None:
    assert nouns([PAPER]) == [
        {"subject": ["woman"], "object": ["mask", "coat", "long brown hair", "green-capped bottle"], "background": []}
    ]


@pytest.mark.parametrize(
    ("caption", "subject", "objects", "background"),
    [
        ("A dog chases another dog in a park.", ["dog", "dog"], [], ["park"]),
        ("A man sings and the man dances.", ["man"], [], []),
        ("A herd of cows is in the distance.", ["cows"], [], []),
        ("A close up of a frog's eye.", ["frog"], ["eye"], []),
        ("A statue of a king stands in a park with trees in the background.", [], ["statue"], ["park", "trees"]),
        ("It is a two-year-old boy.", ["two-year-old boy"], [], []),
        ("A person is frying fish in a pan.", ["person"], ["fish", "pan"], []),
        ("A fish is swimming over a reef.", ["fish"], [], ["reef"]),
        ("Yesterday he had an idea about love.", [], [], []),
    ],
)
def test_roles(nouns: Nouns, caption: str, subject: list[str], objects: list[str], background: list[str]) -> None:
    assert nouns([caption]) == [{"subject": subject, "object": objects, "background": background}]


def test_vehicles_are_subjects_when_asked() -> None:
    nouns = Nouns(store.path("spacy-en"), WordNet(store.path("wordnet")), subjects="agent")
    answers = nouns(["A red bus is turning left.", "A man is washing a red bus."])
    assert [a["subject"] for a in answers] == [["red bus"], ["man"]]


def test_places_point_into_the_caption_as_it_is(nouns: Nouns) -> None:
    captions = [
        PAPER,
        "A man\nand\ta\n\nbig dog.",
        "  A MAN holds a Red\nCup 🎸 ",
        "Une femme joue du piano.",
        "猫が走る。",
        "🎸" * 40,
        "\n" * 400,
    ]
    for caption, mentions in zip(captions, nouns.mentions(captions), strict=True):
        assert all(caption[m.first : m.last] == m.word for m in mentions)


def test_a_very_long_caption_is_read_in_part(nouns: Nouns) -> None:
    mentions = nouns.mentions(["A man holds a cup. " * 600])[0]
    assert mentions and mentions[-1].last <= LONGEST_TEXT
    assert nouns.mentions(["x" * 10_000]) == [[]]


def test_torch_is_neither_loaded_nor_lost() -> None:
    """A planning process needs none; a worker's next stage does."""
    said = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert said.stdout.split() == ["False", "True"], said.stderr
