"""FaceSim of OpenS2V-Eval, by its released rule and with MP's networks.

Its own networks are insightface's detector and two recognisers on aligned faces (ArcFace, CurricularFace), whose weights are not
in the store: this is not the number of its leaderboard, and is named after the recogniser that it has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from curation.benchmark.case import Case
from curation.benchmark.metrics import Score, Truth, Video
from curation.benchmark.metrics.face_s import Faces, no_face
from curation.benchmark.metrics.sharing import OneColumn, cosines

FRAMES = 32
"""Frames that are looked at, evenly from the first to the last; of a shorter video some more than once."""


def evenly(frames: np.ndarray, count: int = FRAMES) -> np.ndarray:
    """Frames rounded down to, both ends among them."""
    return frames[np.linspace(0, len(frames) - 1, count, dtype=int)]


def facesim(faces: np.ndarray, reference: np.ndarray) -> float:
    """Mean cosine of the faces found [N, D] with the given one [D], each at least 0. Frames without a face do not count, unlike
    in Face-S; 0 where none has one."""
    return float(np.maximum(0, cosines(faces, reference[None])).mean()) if len(faces) else 0.0


class FaceSim(OneColumn):
    """The given face is `Case.single`'s; undefined as Face-S is."""

    def __init__(self, faces: Faces, identify: Callable[[Sequence[np.ndarray]], np.ndarray], models: tuple[str, ...] = ()):
        super().__init__(models, "facesim_arcface")
        self._faces, self._identify = faces, identify

    def truth(self, case: Case) -> Truth:
        if no_face(case):
            return {}
        word = case.with_face[0]
        return {"face": self._identify([case.faces(word)[case.single(word, "face")][..., :3]])[0]}

    def score(self, video: Video, case: Case, truth: Truth) -> dict[str, Score]:
        if reason := no_face(case):
            return {self.columns[0]: reason}
        crops = self._faces.crops(Video(evenly(video.frames), video.fps))
        return {self.columns[0]: facesim(self._identify(crops) if crops else np.zeros((0, 1)), truth["face"])}
