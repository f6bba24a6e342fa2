"""Copy-paste: whether a video repeats the one view of its subject that it was given. Ours; none of the papers measures it.

V1 names the fault (PAPER.md §6: "poses and expressions are copied"), and a likeness such as Subj-S rewards it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from curation.benchmark.case import Case, Mode, References
from curation.benchmark.metrics import Score, Truth, Video
from curation.benchmark.metrics.sharing import OneColumn, cosines
from curation.benchmark.metrics.subjects import Subjects

ALIKE = 0.95
"""Cosine of the given view with the others from which they are too alike to tell them apart."""


def copy_paste(found: np.ndarray, given: np.ndarray, others: np.ndarray) -> float:
    """By how much the cut-outs of a video [found, D] are liker to the given view [D] than to the others of the same subject
    [N, D], in units of how much the given view itself is.

    mean over cut-outs of (cos(cut-out, given) − mean cos(cut-out, others)) / (1 − mean cos(given, others)).

    1: the given view itself, pasted; 0: as like to the others as to it; below 0: another view than the given one.
    """
    ahead = cosines(found, given[None])[:, 0] - cosines(found, others).mean(1)
    return float(ahead.mean() / (1 - cosines(given[None], others).mean()))


def undefined(given: np.ndarray, others: np.ndarray) -> str:
    """Why a subject's views [D] and [N, D] tell nothing; "" where they do."""
    if not len(others):
        return "one_view"
    return "views_alike" if cosines(given[None], others).mean() > ALIKE else ""


class CopyPaste(OneColumn):
    """The mean over the clip's subjects that have several views; the given one is `Case.single`'s, in face mode the whole subject
    of whom the given face is.

    Undefined: `all_references` where all views are given, `one_view` and `views_alike` where no subject has others that differ
    (the first subject's reason), `no_reference`, and `no_subject` where the video shows none of them: that copies nothing.
    """

    def __init__(
        self,
        subjects: Subjects,
        models: tuple[str, ...] = (),
        column: str = "copy_paste",
        references: References = "single",
        mode: Mode = "subject",
    ):
        self._subjects, self._references, self._mode = subjects, references, mode
        super().__init__(models, column)

    def truth(self, case: Case) -> Truth:
        words = [word for word in self._subjects.asked(case) if word in case.subjects]
        return {str(place): self._subjects.references(case, word) for place, word in enumerate(words)}

    def score(self, video: Video, case: Case, truth: Truth) -> dict[str, Score]:
        return {self.columns[0]: self._score(video, case, truth)}

    def _score(self, video: Video, case: Case, truth: Truth) -> Score:
        if self._references == "all":
            return "all_references"
        asked = self._subjects.asked(case)
        words = [word for word in asked if word in case.subjects]
        if not words:
            return "no_reference"
        views = [_parted(truth[str(place)], case.single(word, self._mode)) for place, word in enumerate(words)]
        reasons = [undefined(*pair) for pair in views]
        if all(reasons):
            return reasons[0]
        found = self._subjects.found(video, case)
        scores = _scores([found[asked.index(word)] for word in words], views, reasons)
        return float(np.mean(scores)) if scores else "no_subject"


def _parted(views: np.ndarray, given: int) -> tuple[np.ndarray, np.ndarray]:
    return views[given], np.delete(views, given, 0)


def _scores(found: Sequence[np.ndarray], views: Sequence[tuple[np.ndarray, np.ndarray]], reasons: Sequence[str]) -> list[float]:
    told = zip(found, views, reasons, strict=True)
    return [copy_paste(ours, *pair) for ours, pair, reason in told if len(ours) and not reason]
