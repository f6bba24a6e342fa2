"""Localise any word with GroundingDINO, and cut out what is in a box with SAM."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from curation.models.boxes import Box, iou, same_place
from curation.models.grounding_dino import Hit, normal
from curation.models.sam import View
from curation.models.tracks import MOST, Candidate

ONE_BOX = 0.8
"""IoU above which two words claim one box; not stated by the paper. Below it a thing may be on another: a coat on its wearer."""
Clip = tuple[Sequence[np.ndarray], Sequence[str]]
"""Frames and words."""
Claim = tuple[str, Hit]
"""A word, and a box that it was found in."""


class Detects(Protocol):
    def __call__(self, frames: Sequence[np.ndarray], words: Sequence[Sequence[str]], lowest: float) -> list[list[list[Hit]]]: ...


class Segments(Protocol):
    def look(self, frames: Sequence[np.ndarray]) -> list[View]: ...

    def masks(self, view: View, boxes: Sequence[Box]) -> tuple[np.ndarray, np.ndarray]: ...

    def feature(self, view: View, mask: np.ndarray) -> np.ndarray: ...


class Seen(threading.local):
    """The frames that a thread saw last, SAM's views of them, and the masks and scores of their boxes."""

    def __init__(self) -> None:
        self.frames: list[np.ndarray] = []
        self.views: list[View] = []
        self.masks: dict[tuple[int, Box], tuple[np.ndarray, float]] = {}


class OpenSet:
    """`lowest` is the score, `text_threshold` the mean of its tokens, below which a box is not even a candidate for a word."""

    def __init__(self, detector: Detects, segmenter: Segments, lowest: float, text_threshold: float = 0.0):
        self._detector, self._segmenter = detector, segmenter
        self._lowest, self._text_threshold = lowest, text_threshold
        self._seen = Seen()

    def label(self, word: str) -> str | None:
        """What a word is looked for by: itself, lower case."""
        return normal(word) or None

    def localise(self, frames: Sequence[np.ndarray], words: Sequence[str]) -> list[list[list[Candidate]]]:
        """Candidates by frame and word, best first, at most `MOST`. Frames are RGB uint8."""
        return self.localise_all([(frames, words)])[0]

    def localise_all(self, clips: Sequence[Clip]) -> list[list[list[list[Candidate]]]]:
        """`localise` for several clips, all their frames through the detector together."""
        asked = [(frame, [*dict.fromkeys(filter(None, map(normal, words)))]) for frames, words in clips for frame in frames]
        hits = iter(self._detector([frame for frame, _ in asked], [words for _, words in asked], self._lowest))
        labelled = iter(words for _, words in asked)
        found = []
        for frames, words in clips:
            rows = [self._candidates(dict(zip(next(labelled), next(hits), strict=True))) for _ in frames]
            found.append([[row.get(normal(word), []) for word in words] for row in rows])
        return found

    def mask(self, frame: np.ndarray, box: Box, label: str, others: Sequence[Box] = ()) -> tuple[np.ndarray, float, str]:
        """What is in the box: bool H×W; SAM's predicted IoU, in [0, 1]; "sam". Neither label nor neighbours matter to SAM."""
        self.see([frame], [[box]])
        return *self._seen.masks[self._place(frame), box], "sam"

    def looks(self, frames: Sequence[np.ndarray], boxes: Sequence[Sequence[Box]]) -> list[list[np.ndarray]]:
        """SAM's features of what is in the boxes, by frame: float32 of length 1."""
        shown = [i for i, row in enumerate(boxes) if row]
        self.see([frames[i] for i in shown], [boxes[i] for i in shown])
        looks = []
        for frame, row in zip(frames, boxes, strict=True):
            place = self._place(frame)
            looks.append([self._segmenter.feature(self._seen.views[place], self._seen.masks[place, box][0]) for box in row])
        return looks

    def similarity(self, a: Box, b: Box, look_a: np.ndarray, look_b: np.ndarray) -> float:
        """How likely two looks are of one individual, in [0, 1]: the cosine, 0 if it is negative. The boxes do not matter."""
        return float(np.clip(look_a @ look_b, 0, 1))

    def see(self, frames: Sequence[np.ndarray], boxes: Sequence[Sequence[Box]]) -> None:
        """Embed each frame once, and mask its boxes together; kept until frames are seen that are not among these."""
        seen = self._seen
        if any(self._place(frame) < 0 for frame in frames):
            seen.frames, seen.views, seen.masks = list(frames), self._segmenter.look(frames), {}
        for frame, row in zip(frames, boxes, strict=True):
            place = self._place(frame)
            if new := [box for box in dict.fromkeys(row) if (place, box) not in seen.masks]:
                masks, scores = self._segmenter.masks(seen.views[place], new)
                for box, mask, score in zip(new, masks, scores, strict=True):
                    seen.masks[place, box] = mask, float(np.clip(score, 0, 1))

    def _place(self, frame: np.ndarray) -> int:
        """Where a frame stands among those seen last, -1 when it is not one of them."""
        return next((i for i, seen in enumerate(self._seen.frames) if seen is frame), -1)

    def _candidates(self, found: dict[str, list[Hit]]) -> dict[str, list[Candidate]]:
        """Of the hits of each word on a frame those that are its own: of two words that claim one box the better one has it, of
        two findings of one thing by a word the better one stays. Every candidate is its own `kind`: no two are one thing."""
        claims = [(word, hit) for word, hits in found.items() for hit in hits if hit.mean >= self._text_threshold]
        kept: list[Claim] = []
        for word, hit in sorted(claims, key=lambda claim: (-claim[1].score, claim[1].box, claim[0])):
            boxes, by_it = [theirs.box for _, theirs in kept], np.array([other == word for other, _ in kept], bool)
            if not np.where(by_it, same_place(hit.box, boxes), iou(hit.box, boxes) >= ONE_BOX).any():
                kept.append((word, hit))
        rows: dict[str, list[Candidate]] = {word: [] for word in found}
        for i, (word, hit) in enumerate(kept):
            if len(rows[word]) < MOST:
                rows[word].append(Candidate(hit.box, word, hit.score, str(i)))
        return rows
