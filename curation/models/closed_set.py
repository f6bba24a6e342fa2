"""Localise entity words with a detector of COCO's 80 classes and a classifier's map of others, and cut out what is in a box."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

import cv2
import numpy as np

from curation.models.boxes import SAME, Box, around, bounds, iou, same_place
from curation.models.class_map import WEAK, ClassMap
from curation.models.grabcut import LIKELY, SIDE, agreement, grabcut, tidy
from curation.models.nanodet import Detection
from curation.models.people import People
from curation.models.tracks import ByColour, Candidate

FAMILIES = (("car", "truck", "bus"),)
"""Classes NanoDet takes for one another (seen on panda70m-mini: jeeps, pickups, vans)."""
KIN = 0.7
"""Factor on the score of a box whose class is only of the word's family."""
MATTED = frozenset(("person", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe"))
"""Classes whose masks start from the person matte; it knows animals well enough to be tried (by eye on panda70m-mini)."""
SHOWS = 0.15
"""Share of a box the matte must claim to be believed; below it the mask starts from the box alone."""
VIEWS = (0.15, 0.5)
"""Shares of its sides the matte sees around a box, in the order tried: small people need the second (by eye)."""
CAUTIOUS = 0.4
"""Reach of the second opinion on a mask without a matte. On 35 masks of panda70m-mini's cars, bowls, planes and boats the right
ones agree with it by 0.82 and more; of seven that leak, five do by 0.27 to 0.57, a plane and a canoe by 0.87. Other second
opinions (a smaller box, another core or surrounding) told them apart less well."""
WITHIN, AGREES = 0.75, 0.9
"""Share of what stands out in a picture that must lie in a box, and agreement with GrabCut, from which it is taken for what the
detector found. By eye on 217 boxes (score 0.35) of things and animals on three frames of each clip of panda70m-mini, with
U²-Net-p: 50 are taken; of their masks 32 are better than by the other ways (whole wheels, no shadows), 16 as good, 2 worse. By
WITHIN nothing else lies between 0.6 and 0.89; of what agrees by less, 10 would be worse, 6 as good, 2 better. People are left
out: of 40 whose matte agrees by less than 0.7 none would be better, and a drill and half a crowd would become masks."""
MAYBE, DECIDED = 0.1, 0.6
"""Saliency above which a pixel might stand out, and share of those in a box that must do so for GrabCut to be asked: none of the
50 has less than 0.7; of those whose agreement is too low the four that have less take GrabCut 0.25 to 1 s."""
FRAMES = 3
"""Of a clip, whose saliency is kept for all their boxes."""
SLACK = 0.04
"""Share of its sides a box is widened by on each side before cutting: NanoDet's boxes end inside wheels, feet and hair."""


class Detects(Protocol):
    def __call__(self, image: np.ndarray, threshold: float = ...) -> Sequence[Detection]: ...


class Names(Protocol):
    def to_coco(self, phrase: str) -> str | None: ...


class Mattes(Protocol):
    def in_box(self, image: np.ndarray, box: Box, margin: float = ...) -> np.ndarray: ...


class Salient(Protocol):
    def __call__(self, image: np.ndarray) -> np.ndarray: ...


class ClosedSet(ByColour):
    """NanoDet's boxes through WordNet's names; GrabCut's masks, for people and animals with the matte as prior, for what stands
    out in its picture with its saliency.

    `lowest` is the score below which a detection is not even a candidate; without `people` the matte alone says who is a person,
    without `salient` nothing is taken to stand out, without `class_map` no word outside COCO has candidates.
    """

    def __init__(
        self,
        detector: Detects,
        names: Names,
        matte: Mattes,
        lowest: float = 0.2,
        people: People | None = None,
        salient: Salient | None = None,
        class_map: ClassMap | None = None,
    ):
        self._detector, self._names, self._matte, self._lowest, self._salient = detector, names, matte, lowest, salient
        self._people, self._class_map = people, class_map
        self._seen: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=FRAMES)

    def label(self, word: str) -> str | None:
        """The class a word is looked for by, None when this backend knows none."""
        return self._names.to_coco(word) or (self._class_map.label(word) if self._class_map else None)

    def localise(self, frames: Sequence[np.ndarray], words: Sequence[str]) -> list[list[list[Candidate]]]:
        """Candidates by frame and word, best first, at most one for a word outside COCO. Frames are RGB uint8."""
        return [self._on_frame(frame, words) for frame in frames]

    def mask(self, frame: np.ndarray, box: Box, label: str, others: Sequence[Box] = ()) -> tuple[np.ndarray, float, str]:
        """What is in the box: bool H×W; how far two ways to it agree (their IoU, in [0, 1]); and which two ways.

        "body": the mean of a person's matte and the outline of his body, and GrabCut from it. "saliency": what stands out in the
        picture, where that is what is in the box and no person, and GrabCut from it. "matte", of animals and of people of whom no
        body is seen: the matte alone, and GrabCut from it. "box": GrabCut that starts from most of the box, and from its middle.
        `others` are boxes of things of the same kind: where one overlaps this box from the side, the nearer one has the pixel,
        unless the outline of a body tells them apart.
        """
        height, width = frame.shape[:2]
        wide = around(box, width, height, SLACK)
        if label == "person" and self._people and (person := self._people(frame, box, wide)):
            return *person, "body"
        free = ~_claimed(wide, [around(other, width, height, SLACK) for other in others], (height, width))
        if label != "person" and (found := self._standing_out(frame, box, wide, free)):
            return *found, "saliency"
        if label in MATTED:
            prior = self._prior(frame, wide) * free
            matted = _inside(prior > 0.5, wide)
            believed = np.count_nonzero(matted) >= SHOWS * (wide[2] - wide[0]) * (wide[3] - wide[1])
            cut = grabcut(frame, wide, prior if believed else None) & free
            if believed or label == "person":
                return tidy(cut) & free, agreement(cut, matted), "matte"
        cut = grabcut(frame, wide) & free
        return tidy(cut) & free, agreement(cut, grabcut(frame, wide, reach=CAUTIOUS, side=SIDE // 2) & free), "box"

    def _on_frame(self, frame: np.ndarray, words: Sequence[str]) -> list[list[Candidate]]:
        """By word. What the class map finds is of one kind, and nothing that a word of COCO's might mean."""
        labels = [self._names.to_coco(word) for word in words]
        peaks = self._class_map.peaks(frame, words) if self._class_map else {}
        if not peaks and not any(labels):
            return [[] for _ in words]
        boxes = self._detector(frame, min(self._lowest, WEAK) if peaks else self._lowest)
        rows = [self._candidates(boxes, label) if label else [] for label in labels]
        taken = [candidate.box for row in rows for candidate in row]
        for word, at in peaks.items():
            assert self._class_map
            for score, box in self._class_map.box(frame, words[word], at, self._saliency(frame), boxes):
                if not same_place(box, taken).any():
                    rows[word].append(Candidate(box, str(self.label(words[word])), score, "class_map", "class_map"))
        return rows

    def _saliency(self, frame: np.ndarray) -> np.ndarray | None:
        """Of a frame that is seen once, whatever for."""
        if self._salient is None:
            return None
        saliency = next((saliency for seen, saliency in self._seen if seen is frame), None)
        if saliency is None:
            saliency = self._salient(frame)
            self._seen.append((frame, saliency))
        return saliency

    def _standing_out(self, frame: np.ndarray, box: Box, wide: Box, free: np.ndarray) -> tuple[np.ndarray, float] | None:
        """Mask and agreement of what stands out in the frame, if that is what the box is about."""
        saliency = self._saliency(frame)
        if saliency is None:
            return None
        prior = _inside(saliency, wide) * free
        own = prior > LIKELY
        if not own.any() or iou(box, bounds(own))[0] <= SAME or own.sum() < DECIDED * np.count_nonzero(prior > MAYBE):
            return None
        _, parts = cv2.connectedComponents((saliency > LIKELY).astype(np.uint8), connectivity=8)
        if np.count_nonzero(own) < WITHIN * np.count_nonzero(np.isin(parts, np.unique(parts[own]))):
            return None
        cut = grabcut(frame, wide, prior) & free
        score = agreement(cut, own)
        return (tidy(cut) & free, score) if score >= AGREES else None

    def _prior(self, frame: np.ndarray, box: Box) -> np.ndarray:
        """The matte of the box: the narrow view, or the wide one where the narrow one shows next to nobody."""
        area = (box[2] - box[0]) * (box[3] - box[1])
        for margin in VIEWS:
            prior = _inside(self._matte.in_box(frame, box, margin), box)
            if np.count_nonzero(prior > 0.5) >= SHOWS * area:
                break
        return prior

    def _candidates(self, boxes: Sequence[Detection], label: str) -> list[Candidate]:
        """Boxes of the class, then of its family at a lower score; of two at one place the better."""
        family = next((family for family in FAMILIES if label in family), (label,))
        weight = {name: 1.0 if name == label else KIN for name in family}
        found = [Candidate(d.box, d.label, d.score * weight[d.label], family[0]) for d in boxes if d.label in family]
        kept: list[Candidate] = []
        for candidate in sorted(found, key=lambda c: (-c.score, c.box)):
            if candidate.score >= self._lowest and not same_place(candidate.box, [k.box for k in kept]).any():
                kept.append(candidate)
        return kept


def _inside(mask: np.ndarray, box: Box) -> np.ndarray:
    x0, y0, x1, y1 = (int(v) for v in box)
    full = np.zeros_like(mask)
    full[y0:y1, x0:x1] = mask[y0:y1, x0:x1]
    return full


def _claimed(box: Box, others: Sequence[Box], shape: tuple[int, int]) -> np.ndarray:
    """Pixels nearer to the middle of a neighbour that overlaps from the side (in units of the boxes' widths). bool H×W."""
    claimed = np.zeros(shape, bool)
    columns = np.arange(shape[1]) + 0.5
    for other in others:
        shared = min(box[2], other[2]) - max(box[0], other[0])
        narrow = min(box[2] - box[0], other[2] - other[0])
        if not 0 < shared < 0.5 * narrow:
            continue
        ours, theirs = (abs(columns - (b[0] + b[2]) / 2) / (b[2] - b[0]) for b in (box, other))
        rows = slice(max(0, int(other[1])), int(np.ceil(other[3])))
        claimed[rows] |= ((theirs < ours) & (columns > other[0]) & (columns < other[2]))[None]
    return claimed
