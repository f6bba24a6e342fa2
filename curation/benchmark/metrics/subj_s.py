"""Subj-S: how like the things a video shows are to their references (PAPER.md §6)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from curation.benchmark.case import Case
from curation.benchmark.metrics import Score, Truth, Video
from curation.benchmark.metrics.sharing import OneColumn, cosines
from curation.benchmark.metrics.subjects import Subjects


def subj_s(found: Sequence[np.ndarray], references: Sequence[np.ndarray], frames: int) -> float:
    """By word the embeddings of its cut-outs [found, D] and of its references [N, D].

    A cut-out's likeness is its mean cosine with the references; their sum is divided by frames × words: a miss counts 0.
    """
    sums = [cosines(ours, theirs).mean(1).sum() for ours, theirs in zip(found, references, strict=True) if len(ours)]
    return float(sum(sums)) / (frames * len(found))


class SubjS(OneColumn):
    """Every subject and every object of the clip is asked for, whichever of them the video was made from (PAPER.md §6).

    Undefined where a clip has no reference of anything that can be found.
    """

    def __init__(self, subjects: Subjects, models: tuple[str, ...] = (), column: str = "subj_s"):
        self._subjects = subjects
        super().__init__(models, column)

    def truth(self, case: Case) -> Truth:
        """Named by the words' places among those asked for: a word may hold what no name should."""
        return {str(place): self._subjects.references(case, word) for place, word in enumerate(self._subjects.asked(case))}

    def score(self, video: Video, case: Case, truth: Truth) -> dict[str, Score]:
        if not truth:
            return {self.columns[0]: "no_reference"}
        references = [truth[str(place)] for place in range(len(truth))]
        return {self.columns[0]: subj_s(self._subjects.found(video, case), references, len(video.frames))}
