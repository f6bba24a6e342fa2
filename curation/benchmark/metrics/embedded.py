"""What the CPU profile asks instead of the papers' networks; every model comes out of a package registry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from curation.benchmark.case import Case
from curation.benchmark.metrics import Score, Truth, Video
from curation.benchmark.metrics.face_s import Place
from curation.benchmark.metrics.pictures import masked
from curation.benchmark.metrics.subjects import Cut
from curation.models.boxes import Box, bounds
from curation.models.centerface import Face
from curation.models.tracks import Candidate

BOX = 0.35
"""Score above which a box is kept: `segment_entities`' own (NanoDet has no scores that compare with GroundingDINO's 0.4)."""
FACE = 0.5
"""CenterFace's own threshold."""
CLOSE = 1.0
"""Distance of two of dlib's descriptors at which likeness is 0; 0.4 is what dlib takes for one person (`FaceIdentity`)."""


class FindsThings(Protocol):
    def localise(self, frames: Sequence[np.ndarray], words: Sequence[str]) -> list[list[list[Candidate]]]: ...

    def mask(self, frame: np.ndarray, box: Box, label: str, others: Sequence[Box] = ()) -> tuple[np.ndarray, float, str]: ...


class FindsFaces(Protocol):
    def faces(self, image: np.ndarray, threshold: float = ...) -> list[Face]: ...


class Identifies(Protocol):
    def __call__(self, image: np.ndarray, face: Box) -> np.ndarray: ...


class ClosedSetCuts:
    """`Locate` by NanoDet's boxes of COCO's classes and the masks of `ClosedSet`: of each word the best box that no word before
    it has taken."""

    def __init__(self, closed_set: FindsThings):
        self._closed_set = closed_set

    def __call__(self, frames: np.ndarray, words: Sequence[str]) -> list[list[Cut | None]]:
        return [self._cuts(frame, row) for frame, row in zip(frames, self._closed_set.localise(list(frames), words), strict=True)]

    def _cuts(self, frame: np.ndarray, row: Sequence[Sequence[Candidate]]) -> list[Cut | None]:
        taken: list[Candidate] = []
        cuts: list[Cut | None] = []
        for candidates in row:
            best = next((c for c in candidates if c.score >= BOX and c.box not in [t.box for t in taken]), None)
            if best:
                taken.append(best)
            cuts.append(self._cut(frame, best) if best else None)
        return cuts

    def _cut(self, frame: np.ndarray, candidate: Candidate) -> Cut | None:
        mask, _, _ = self._closed_set.mask(frame, candidate.box, candidate.label)
        if not mask.any():
            return None
        x0, y0, x1, y1 = bounds(mask)
        region = frame[y0:y1, x0:x1]
        return Cut((x0, y0, x1, y1), masked(region, mask[y0:y1, x0:x1]), region)


class SurestFaces:
    """`face_s.FindsFaces` by CenterFace."""

    def __init__(self, detector: FindsFaces):
        self._detector = detector

    def __call__(self, frames: np.ndarray) -> list[Place | None]:
        found: list[Place | None] = []
        for frame in frames:
            faces = self._detector.faces(frame, FACE)
            found.append(tuple(round(side) for side in faces[0].box) if faces else None)  # type: ignore[arg-type]
        return found


class DlibFaces:
    """Face crops → descriptors [N, 128]; the whole crop is taken for the face's box."""

    def __init__(self, identify: Identifies):
        self._identify = identify

    def __call__(self, faces: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack([self._identify(np.ascontiguousarray(face), (0, 0, face.shape[1], face.shape[0])) for face in faces])


def closeness(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of descriptors [N, 128] and [M, 128] 1 − their distance, [N, M]: 1 of one picture, 0.4 at dlib's threshold of one person,
    below 0 of people who are very unlike."""
    return 1 - np.linalg.norm(a[:, None].astype(np.float64) - b[None], axis=2) / CLOSE


class NotAvailable:
    """A column that the profile has no network for."""

    models: tuple[str, ...] = ()

    def __init__(self, *columns: str):
        self.columns = columns

    def truth(self, case: Case) -> Truth:
        return {}

    def score(self, video: Video, case: Case, truth: Truth) -> dict[str, Score]:
        return dict.fromkeys(self.columns, "not_available")
