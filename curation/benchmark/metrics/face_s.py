"""Face-S: how like the faces of a video are to the true ones (PAPER.md §3, §6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from curation.benchmark.case import Case
from curation.benchmark.metrics import Score, Truth, Video
from curation.benchmark.metrics.sharing import Once, OneColumn, cosines

UP, DOWN = 0.17, 0.03
"""Shares by which a face's box is extended above and below (PAPER.md §3): below by the height that it has then, not by the
detector's (MP's released code)."""

Place = tuple[int, int, int, int]
"""A box, xyxy px."""


class FindsFaces(Protocol):
    def __call__(self, frames: np.ndarray) -> Sequence[Place | None]:
        """Of uint8 RGB frames [N, H, W, 3] the box of the surest face of each, whole pixels within it."""


def grown(face: Place, height: int) -> Place:
    """A face's box extended, in a frame of that height; it ends at the last row but one at most (MP's released code)."""
    left, top, right, bottom = face
    top = max(int(top - UP * (bottom - top)), 0)
    return left, top, right, min(int(bottom + DOWN * (bottom - top)), height - 1)


def face_s(alike: np.ndarray, frames: int) -> float:
    """Mean likeness of the faces found to the true ones, [found, true], times the share of frames in which one was found."""
    return float(alike.mean() * (len(alike) / frames)) if len(alike) else 0.0


class Faces:
    """The face crops of a video, for all metrics that ask: where the surest face is, extended; a frame without one has none."""

    def __init__(self, find: FindsFaces):
        self.crops = Once(self._crops)
        self._find = find

    def _crops(self, video: Video) -> list[np.ndarray]:
        crops = []
        for frame, face in zip(video.frames, self._find(video.frames), strict=True):
            if face:
                left, top, right, bottom = grown(face, len(frame))
                crops.append(frame[top:bottom, left:right])
        return [crop for crop in crops if crop.size]


class FaceS(OneColumn):
    """`identify`: uint8 RGB face crops of any sizes → [N, D]; `alike`: [N, D] and [M, D] → [N, M].

    The truth is the faces of the one subject that has any, their crops without the mask: a network of faces needs no white
    background. Undefined (MP has no embeddings then) where no subject has a face, or several have.
    """

    def __init__(
        self,
        faces: Faces,
        identify: Callable[[Sequence[np.ndarray]], np.ndarray],
        models: tuple[str, ...] = (),
        column: str = "face_s",
        alike: Callable[[np.ndarray, np.ndarray], np.ndarray] = cosines,
    ):
        self._faces, self._identify, self._alike = faces, identify, alike
        super().__init__(models, column)

    def truth(self, case: Case) -> Truth:
        if no_face(case):
            return {}
        return {"faces": self._identify([face[..., :3] for face in case.faces(case.with_face[0])])}

    def score(self, video: Video, case: Case, truth: Truth) -> dict[str, Score]:
        if reason := no_face(case):
            return {self.columns[0]: reason}
        crops = self._faces.crops(video)
        alike = self._alike(self._identify(crops), truth["faces"]) if crops else np.zeros((0, 1))
        return {self.columns[0]: face_s(alike, len(video.frames))}


def no_face(case: Case) -> str:
    """Why a clip has no one face to compare with; "" where it has."""
    words = [word for word in case.with_face if case.face_files.get(word)]
    return (
        ""
        if len(words) == 1 == len(case.with_face)
        else "several_faces_in_truth"
        if len(case.with_face) > 1
        else "no_face_in_truth"
    )
