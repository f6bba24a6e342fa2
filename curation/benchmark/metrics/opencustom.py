"""OpenCustom's metrics: CLIP-T, CLIP-I, DINO-I, those by region, motion smoothness, dynamic degree (PAPER.md §7).

PAPER.md names them, eight in all, and no more: that the eighth is CLIP-T by region, and what is said here of networks, crops and
misses, is our choice, made so that they share networks and rules with MP's five. So they rank models against each other, and do
not stand beside OpenCustom's printed rows. Dynamic degree is VBench's, which is MP's too: `DyncD`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import cv2
import numpy as np

from curation.benchmark.case import Case
from curation.benchmark.metrics import Score, Truth, Video
from curation.benchmark.metrics.pictures import on_white
from curation.benchmark.metrics.sharing import Once, OneColumn, cosines
from curation.benchmark.metrics.subj_s import subj_s
from curation.benchmark.metrics.subjects import Embed, Subjects


class ImageSimilarity(OneColumn):
    """CLIP-I and DINO-I: mean cosine of the video's frames, each its middle square, with all references of the clip's subjects.

    As in DreamBooth, whose names they are. Undefined without a reference.
    """

    def __init__(self, column: str, frames: Callable[[np.ndarray], np.ndarray], crops: Embed, models: tuple[str, ...] = ()):
        self._frames, self._crops = frames, crops
        super().__init__(models, column)

    def truth(self, case: Case) -> Truth:
        cutouts = [cutout for word in case.subjects if case.cutouts.get(word) for cutout in case.references(word)]
        return {"references": self._crops([on_white(cutout) for cutout in cutouts])} if cutouts else {}

    def score(self, video: Video, case: Case, truth: Truth) -> dict[str, Score]:
        if not truth:
            return {self.columns[0]: "no_reference"}
        return {self.columns[0]: float(cosines(self._frames(video.frames), truth["references"]).mean())}


class RegionSimilarity(OneColumn):
    """The same of what is in the boxes of the clip's words, background and all; a miss counts 0, as in Subj-S.

    `truth_of`: a word and its references on white → what its regions are compared with, [N, D].
    """

    def __init__(
        self,
        column: str,
        subjects: Subjects,
        crops: Embed,
        truth_of: Callable[[str, list[np.ndarray]], np.ndarray],
        models: tuple[str, ...] = (),
    ):
        self._subjects, self._crops, self._truth_of = subjects, crops, truth_of
        self._regions = Once(self._embedded)
        super().__init__(models, column)

    def truth(self, case: Case) -> Truth:
        words = self._subjects.asked(case)
        return {str(i): self._truth_of(word, [on_white(c) for c in case.references(word)]) for i, word in enumerate(words)}

    def score(self, video: Video, case: Case, truth: Truth) -> dict[str, Score]:
        if not truth:
            return {self.columns[0]: "no_reference"}
        references = [truth[str(place)] for place in range(len(truth))]
        return {self.columns[0]: subj_s(self._regions(video, case), references, len(video.frames))}

    def _embedded(self, video: Video, case: Case) -> list[np.ndarray]:
        columns = [[cut.region for cut in column if cut] for column in zip(*self._subjects.cuts(video, case), strict=True)]
        return [self._crops(column) if column else np.zeros((0, 1)) for column in columns]


def halfway(first: np.ndarray, last: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """A frame between two, uint8 [H, W, 3]: both carried half of the flow [H, W, 2] from the first to the last, their mean."""
    rows, columns = np.indices(flow.shape[:2], np.float32)
    there = np.stack([columns, rows], 2)
    back, on = (there - flow / 2).astype(np.float32), (there + flow / 2).astype(np.float32)
    carried = [cv2.remap(f, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for f, at in ((first, back), (last, on))]
    return cv2.addWeighted(carried[0], 0.5, carried[1], 0.5, 0)


def smoothness(frames: Iterable[np.ndarray], between: Iterable[np.ndarray]) -> float:
    """1 − mean absolute difference, as a share of 255, of every second frame from what its neighbours say of it."""
    return 1 - float(np.mean([cv2.absdiff(ours, theirs).mean() for ours, theirs in zip(frames, between, strict=True)])) / 255


class MotionSmoothness(OneColumn):
    """VBench's rule: every second frame is left out, interpolated from its neighbours and compared. VBench interpolates with AMT,
    this with the flow of the neighbours. Undefined in a video of fewer than three frames."""

    def __init__(self, flow: Callable[[np.ndarray, np.ndarray], np.ndarray], models: tuple[str, ...] = ()):
        self._flow = flow
        super().__init__(models, "motion_smoothness")

    def score(self, video: Video, case: Case, truth: Truth) -> dict[str, Score]:
        kept = video.frames[::2]
        if len(kept) < 2:
            return {self.columns[0]: "too_few_frames"}
        between = [halfway(a, b, _inner(self._flow(a, b), a)) for a, b in zip(kept[:-1], kept[1:], strict=True)]
        return {self.columns[0]: smoothness(video.frames[1::2][: len(between)], between)}


def _inner(flow: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """A flow without what fills its sides up."""
    top, left = ((have - want) // 2 for have, want in zip(flow.shape[:2], frame.shape[:2], strict=True))
    return flow[top : top + frame.shape[0], left : left + frame.shape[1]]
