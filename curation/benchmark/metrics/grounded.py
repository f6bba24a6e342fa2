"""Things located by MP's rules (PAPER.md §3, §6): GroundingDINO's queries scored on each word's tokens, SAM's masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from curation.benchmark.metrics.pictures import masked
from curation.benchmark.metrics.subjects import Cut, Place

BOX, IOU = 0.4, 0.9
"""Scores above which a box, and the predicted IoU above which a mask, is kept."""
SHORT = 3
"""Pixels by which a box may pass the frame at one end; one that passes it by more, or at its top or left, counts as a miss: MP
does not clip boxes, and compares the size of what it cut out (its released code)."""


class Detects(Protocol):
    def tokens(self, text: str) -> list[int]:
        """A text's, with [CLS] and [SEP] around them."""

    def queries(self, frames: Sequence[np.ndarray], text: str) -> tuple[np.ndarray, np.ndarray]:
        """Of uint8 RGB frames of one size: probabilities [N, queries, 256] of the text's tokens; boxes [N, queries, 4], xyxy px,
        float32, which may pass the frame."""


Segments = Callable[[np.ndarray, Sequence[Place]], tuple[np.ndarray, np.ndarray]]
"""A frame and boxes → one mask for each, bool [boxes, H, W], and its predicted IoU [boxes]."""


def prompt(words: Sequence[str]) -> str:
    text = " . ".join(words).lower().strip()
    return text if text.endswith(".") else f"{text}."


def occurrences(text: Sequence[int], word: Sequence[int]) -> list[int]:
    """Places of a text's tokens that belong to a word, wherever it stands: "man" also in "old man" (MP's released code)."""
    count = len(word)
    starts = [i for i in range(len(text) - count + 1) if count and list(text[i : i + count]) == list(word)]
    return sorted({place for start in starts for place in range(start, start + count)})


def word_scores(chances: np.ndarray, places: Sequence[Sequence[int]]) -> np.ndarray:
    """Probabilities [queries, 256] → (max + mean) / 2 over the tokens of each word, [queries, words]; 0 of a word without any
    (MP's released code finds nothing at all then)."""
    columns = [chances[:, [place for place in own if place < chances.shape[1]]] for own in places]
    return np.stack([(c.max(1) + c.mean(1)) / 2 if c.shape[1] else np.zeros(len(c), c.dtype) for c in columns], 1)


def best_boxes(scores: np.ndarray, boxes: np.ndarray) -> list[Place | None]:
    """Of each word the box of its best query, if that scores above `BOX`: a query belongs to the word that it scores best on.

    Sides are cut to whole pixels towards zero."""
    own = scores.argmax(1)
    found: list[Place | None] = []
    for word in range(scores.shape[1]):
        mine = np.where(own == word, scores[:, word], 0)
        best = int(mine.argmax())
        x0, y0, x1, y1 = (int(side) for side in boxes[best])
        found.append((x0, y0, x1, y1) if mine[best] > BOX else None)
    return found


def cut(frame: np.ndarray, mask: np.ndarray, box: Place) -> Cut | None:
    """What is in a box, white outside the mask, bool [H, W] of the whole frame; None if the box passes the frame (`SHORT`)."""
    x0, y0, x1, y1 = box
    inside = mask[y0:y1, x0:x1]
    high, wide = y1 - y0 - inside.shape[0], x1 - x0 - inside.shape[1]
    if not ((high == 0 and 0 <= wide <= SHORT) or (wide == 0 and 0 <= high <= SHORT)) or not inside.size:
        return None
    region = frame[y0:y1, x0:x1]
    return Cut(box, masked(region, inside), region)


class Grounded:
    """`Locate` by GroundingDINO and SAM."""

    def __init__(self, detector: Detects, segment: Segments):
        self._detector, self._segment = detector, segment

    def __call__(self, frames: np.ndarray, words: Sequence[str]) -> list[list[Cut | None]]:
        text = prompt(words)
        places = [occurrences(self._detector.tokens(text), self._detector.tokens(word)[1:-1]) for word in words]
        chances, boxes = self._detector.queries(list(frames), text)
        rows = [best_boxes(word_scores(c, places), b) for c, b in zip(chances, boxes, strict=True)]
        return [self._cuts(frame, row) for frame, row in zip(frames, rows, strict=True)]

    def _cuts(self, frame: np.ndarray, row: Sequence[Place | None]) -> list[Cut | None]:
        there = [box for box in row if box]
        if not there:
            return [None for _ in row]
        kept = zip(there, *self._segment(frame, there), strict=True)
        cuts = iter([cut(frame, mask, box) if score > IOU else None for box, mask, score in kept])
        return [next(cuts) if box else None for box in row]
