"""Boxes for nouns outside COCO: an image classifier's map says whether and where, another network's box how big. The map's own
regions are no boxes: they are half a mortar, a fish's head, all the air around a tripod (by eye on 22 frames)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import cv2
import numpy as np

from curation.models.boxes import Box, area, iou, nms, squared
from curation.models.efficientnet import Looks
from curation.models.nanodet import Detection

ABOUT = 0.05
"""How much less the classifier may give to a smaller box for that to be the better one: a wide one shows the thing, too."""
PEAK = 0.5
"""Probability a cell of the map must give to the noun for the frame to show it."""
BAR = 0.65
"""The same of the classifier for the box. Chosen on panda70m-mini: of 5 boxes above it 4 are right, one holds two tortoises; of
the next 3, from 0.6, one is a fish, one a single wing, one two butterflies and their flower."""
WEAK = 0.12
"""Score of a NanoDet box, of whatever class but person, that may be the thing's."""
SURROUNDINGS = 0.1
"""Share of a box's longer side that the classifier sees on each side."""
STANDS_OUT, LEAST = 0.5, 0.004
"""Saliency of a component's pixels; its least share of the frame."""
CLAIMED, PERSON = 0.25, 0.3
"""IoU with a person's box from which a box is theirs; that person's least score."""
MOST, ALIKE = 8, 0.9
"""Proposals a noun that are classified, the first ones; IoU with an earlier one above which a proposal is none of its own."""


class Classifies(Protocol):
    def __call__(self, pictures: Sequence[np.ndarray]) -> Looks: ...

    def cells(self, picture: np.ndarray) -> np.ndarray: ...


class Nouns(Protocol):
    def classes(self, phrase: str) -> tuple[int, ...]: ...

    def label(self, phrase: str) -> str | None: ...


class ClassMap:
    """Where words are shown, and their boxes, by a classifier of the classes they mean."""

    def __init__(self, classifier: Classifies, nouns: Nouns):
        self._classifier, self._nouns, self.label = classifier, nouns, nouns.label

    def peaks(self, frame: np.ndarray, words: Sequence[str]) -> dict[int, tuple[float, float]]:
        """The words that an RGB uint8 frame shows, by their index, and where, in pixels."""
        meant = {i: classes for i, word in enumerate(words) if (classes := self._nouns.classes(word))}
        if not meant:
            return {}
        cells, (height, width) = self._classifier.cells(frame), frame.shape[:2]
        found = {i: peak(cells, classes, width, height) for i, classes in meant.items()}
        return {i: at for i, (score, at) in found.items() if score >= PEAK}

    def box(
        self, frame: np.ndarray, word: str, at: tuple[float, float], saliency: np.ndarray | None, found: Sequence[Detection]
    ) -> list[tuple[float, Box]]:
        """The box of what a word names around a point, with its score, if there is one: among what stands out and what a detector
        found (with scores from `WEAK`)."""
        boxes = [] if saliency is None else salient_boxes(saliency)
        boxes += [d.box for d in found if d.label != "person"]
        boxes = [box for box in boxes if not is_claimed(box, found)]
        return confirmed(self._classifier, frame, boxes, at, self._nouns.classes(word))


def peak(cells: np.ndarray, classes: Sequence[int], width: int, height: int) -> tuple[float, tuple[float, float]]:
    """Highest probability of the classes in a cell, and where that is in pixels of the frame: a cell's padding is all right and
    below, so that it looks at its lower right corner."""
    found = cells[..., list(classes)].sum(-1)
    row, column = np.unravel_index(found.argmax(), found.shape)
    return float(found.max()), ((column + 1) / found.shape[1] * width, (row + 1) / found.shape[0] * height)


def salient_boxes(saliency: np.ndarray) -> list[Box]:
    """Of what stands out, the largest first."""
    _, _, stats, _ = cv2.connectedComponentsWithStats((saliency > STANDS_OUT).astype(np.uint8), connectivity=8)
    large = sorted((s for s in stats[1:].tolist() if s[4] >= LEAST * saliency.size), key=lambda s: -s[4])
    return [(float(x), float(y), float(x + w), float(y + h)) for x, y, w, h, _ in large]


def is_claimed(box: Box, found: Sequence[Detection]) -> bool:
    """Whether the box is a person's rather than a thing's: about as theirs, or around them."""
    people = [d.box for d in found if d.label == "person" and d.score >= PERSON]
    return bool((iou(box, people) > CLAIMED).any()) if people else False


def confirmed(
    classifier: Classifies, frame: np.ndarray, boxes: Sequence[Box], at: tuple[float, float], classes: Sequence[int]
) -> list[tuple[float, Box]]:
    """The box around a point that shows the classes best, with their probability, if one does; the smaller of two as good."""
    height, width = frame.shape[:2]
    there = [box for box in boxes if box[0] <= at[0] <= box[2] and box[1] <= at[1] <= box[3]]
    if not there:
        return []
    there = [there[i] for i in nms(np.array(there), -np.arange(len(there)), ALIKE)[:MOST]]
    views = [squared(box, width, height, SURROUNDINGS) for box in there]
    looks = classifier([frame[top:bottom, left:right] for left, top, right, bottom in views]).classes[:, list(classes)].sum(1)
    found = [(min(1.0, score), box) for score, box in zip(looks.tolist(), there, strict=True) if score >= BAR]
    return sorted(found, key=lambda one: (-round(one[0] / ABOUT), area(one[1]), one[1]))[:1]
