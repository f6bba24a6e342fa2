"""ImageNet's 1,000 classes as WordNet's nouns: which of them a phrase means."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from curation.models.wordnet import COCO, WordNet, depicted, word_set

KINDS = ((398, "animal"), (924, "artifact"), (970, "food plant"), (984, ""), (1000, "plant"))
"""Lexicographer classes of what ImageNet's numbers below these mean, so that "crane" is once the bird and once the machine.
Landscapes and people (970 to 983) are left out: neither is a thing that stands out at one place."""
MOST = 20
"""Classes of an artifact or a dish beyond which a word is too wide: "container" would be an ambulance, too."""
NEAR = 5
"""The same of the next wider animal, that is looked for where ImageNet has none of a word's own: turtles for "tortoise"."""
NO_THINGS = ("clothing", "structure")
"""Their kinds have no class: worn, a garment is somebody's; what stands out of a building is a part (panda70m-mini, by eye)."""


class ImageNet:
    """The classes by the words of a JSON file {number: "word, word"}."""

    def __init__(self, names: Path, wordnet: WordNet):
        self._wordnet, self._no_things = wordnet, frozenset(map(wordnet.known, NO_THINGS))
        self._classes: dict[int, list[int]] = {}
        self._exact: set[int] = set()
        for number, words in json.loads(names.read_text()).items():
            meant = self._meant(int(number), words)
            self._exact.update(meant)
            for synset in {above for sense in meant for above in wordnet.ancestors(sense)}:
                self._classes.setdefault(synset, []).append(int(number))
        self.classes = cache(self._of)

    def label(self, phrase: str) -> str | None:
        """WordNet's first word for what the phrase's head names, None unless there is a class for it."""
        return self._name(phrase) if self.classes(phrase) else None

    def _of(self, phrase: str) -> tuple[int, ...]:
        """The classes that are what the phrase's head names, or kinds of it. None for words of COCO's classes, for people,
        pictures, garments, buildings, and what is too wide."""
        wordnet = self._wordnet
        found = wordnet.head(phrase)
        if found is None or self._name(phrase) is None or wordnet.to_coco(phrase) or wordnet.is_person(phrase):
            return ()
        if not self._no_things.isdisjoint(wordnet.ancestors(found)) or (depicted(phrase) and wordnet.is_being(phrase)):
            return ()
        animal = wordnet.is_animal(phrase)
        own = self._classes.get(found, [])
        if not own:
            wider = [s for s in wordnet.synset(found).hypernyms if s in self._exact or animal]
            own = next((near for s in wider if 0 < len(near := self._classes.get(s, [])) <= NEAR), [])
        return tuple(own) if animal or len(own) <= MOST else ()

    def _name(self, phrase: str) -> str | None:
        """Never the name of a class of COCO's."""
        found = self._wordnet.head(phrase)
        words = () if found is None else (word.replace("_", " ").lower() for word in self._wordnet.synset(found).words)
        return next((word for word in words if word not in COCO), None)

    def _meant(self, number: int, words: str) -> list[int]:
        """The senses of the right kind that most of a class's words have."""
        kinds = word_set(next(kinds for end, kinds in KINDS if number < end))
        senses = [s for word in words.split(", ") for s in self._wordnet.senses(word.strip().lower().replace(" ", "_"))]
        senses = [s for s in senses if self._wordnet.synset(s).lexname in kinds]
        return [s for s in senses if senses.count(s) == max(map(senses.count, senses))]
