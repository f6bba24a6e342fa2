"""The mask of one person, from what a matte and the outline of a body say together."""

from __future__ import annotations

from typing import Protocol

import cv2
import numpy as np

from curation.models.boxes import Box, around, bounds
from curation.models.cutout import clipped
from curation.models.grabcut import LIKELY, agreement, grabcut, tidy
from curation.models.pose import Body

POSE, PRESENCE = 0.6, 0.5
"""Scores of MediaPipe's pose detector and of its landmarks network from which there is a body. Of 67 people on panda70m-mini 62
are known by them, and none of 28 hands, arms and legs and of 14 boxes with nobody in them is taken for one."""
AROUND = 0.25
"""Share of its box's sides that the pose network sees around a person; as measured on panda70m-mini."""

STRAIGHT = 0.05
"""Share of its outline that a mask may have along a side of its box: of 16 whole people 0.039 at most. Of 24 that have more and
are cut out anew five are whole then (a shoulder, a sleeve), nobody's mask is a worse one that would still be kept."""


class Bodies(Protocol):
    def __call__(self, image: np.ndarray) -> Body: ...


class Mattes(Protocol):
    def in_box(self, image: np.ndarray, box: Box, margin: float = ...) -> np.ndarray: ...


class People:
    """The matte tells people from what is behind them and takes two for one; the outline of a body is of one, and coarse.

    By eye on 25 people of every second clip of panda70m-mini, against the matte alone: of 5 the neighbour's head, arm or
    laptop leaves, 4 more have their own shoulder or sleeve, where a line between two boxes cut it off; one has a worse cap, one
    a neighbour's glove; 14 are as they were.
    """

    def __init__(self, matte: Mattes, bodies: Bodies):
        self._matte, self._bodies = matte, bodies

    def __call__(self, frame: np.ndarray, box: Box, wide: Box) -> tuple[np.ndarray, float] | None:
        """The mask, bool H×W, of the person in a box, nothing outside the box `wide`, and how far it agrees with what it starts
        from (IoU); None where no body is seen. Where that box cuts him off at length, it is widened as far as matte and outline
        both see him."""
        height, width = frame.shape[:2]
        left, top, right, bottom = around(box, width, height, AROUND)
        body = self._bodies(frame[top:bottom, left:right])
        if body.score < POSE or body.presence < PRESENCE:
            return None
        outline = np.zeros((height, width), np.float32)
        outline[top:bottom, left:right] = body.matte
        matte = self._matte.in_box(frame, box)
        prior = (matte + outline) / 2
        mask, score = _cut(frame, prior, wide)
        if clipped(mask) > STRAIGHT:
            wider = _grown(wide, (matte > LIKELY) & (outline > LIKELY))
            mask, score = _cut(frame, prior, wider) if wider != wide else (mask, score)
        return mask, score


def _cut(frame: np.ndarray, prior: np.ndarray, box: Box) -> tuple[np.ndarray, float]:
    x0, y0, x1, y1 = (int(v) for v in box)
    inside = np.zeros_like(prior)
    inside[y0:y1, x0:x1] = prior[y0:y1, x0:x1]
    cut = grabcut(frame, box, inside)
    return tidy(cut), agreement(cut, inside > LIKELY)


def _grown(box: Box, seen: np.ndarray) -> Box:
    """The box and the whole of what it holds most of among the parts of `seen`, bool H×W."""
    _, parts = cv2.connectedComponents(seen.astype(np.uint8), connectivity=8)
    x0, y0, x1, y1 = (int(v) for v in box)
    sizes = np.bincount(parts[y0:y1, x0:x1].ravel(), minlength=2)
    sizes[0] = 0
    if not sizes.any():
        return box
    own = bounds(parts == sizes.argmax())
    return min(box[0], own[0]), min(box[1], own[1]), max(box[2], own[2]), max(box[3], own[3])
