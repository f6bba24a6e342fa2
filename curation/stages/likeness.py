"""Whether the references of an entity are of one individual: by their looks, and where there are two faces by those."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np


class Look(NamedTuple):
    """Of one reference: its `embedding`, float32 of length 1, and the descriptor of its `face`, if one is large enough."""

    embedding: np.ndarray
    face: np.ndarray | None = None


Looks = Mapping[int, Look]
"""By frame."""


def strangers(looks: Looks, scores: Mapping[int, float], min_likeness: float, max_face_distance: float) -> list[int]:
    """Frames of which a reference is too unlike the others, the least like one first; of two the one found less surely.

    Two faces decide for their pair: it is as like as can be, or not at all. Else the cosine of the embeddings says how like.
    """

    def pair(a: Look, b: Look) -> float:
        apart = _apart(a, b)
        return _cosine(a, b) if apart is None else 1.0 if apart <= max_face_distance else -1.0

    left, found = dict(looks), []
    while len(left) > 1:
        like = {frame: _mean(left, frame, pair) or 0.0 for frame in left}
        worst = min(left, key=lambda frame: (like[frame], scores[frame]))
        if like[worst] >= min_likeness:
            break
        del left[worst]
        found.append(worst)
    return found


def likeness(looks: Looks, frame: int) -> float | None:
    """Mean cosine of one's embedding with the others', None without others."""
    return _mean(looks, frame, _cosine)


def face_distance(looks: Looks, frame: int) -> float | None:
    """Mean distance of one's face from the others', None without two faces."""
    return _mean(looks, frame, _apart)


def _mean(looks: Looks, frame: int, of: Callable[[Look, Look], float | None]) -> float | None:
    values = [value for other in looks if other != frame if (value := of(looks[frame], looks[other])) is not None]
    return sum(values) / len(values) if values else None


def _cosine(a: Look, b: Look) -> float:
    return float(a.embedding @ b.embedding)


def _apart(a: Look, b: Look) -> float | None:
    return None if a.face is None or b.face is None else float(np.linalg.norm(a.face - b.face))
