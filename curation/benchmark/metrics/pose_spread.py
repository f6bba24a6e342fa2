"""Pose spread: how much a subject's place, size and shape change over a video. Ours; a picture that stands still has 0.

Where references are copied, subjects also hold still (V1, PAPER.md §6): few poses beside a high likeness say so.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from curation.benchmark.case import Case
from curation.benchmark.metrics import Score, Truth, Video
from curation.benchmark.metrics.sharing import OneColumn
from curation.benchmark.metrics.subjects import Place, Subjects


def pose_spread(boxes: Sequence[Place], height: int, width: int) -> float:
    """Of a subject's boxes in a video of that size: the root of the mean, over four numbers, of their variance over frames.

    The numbers: its middle, x and y as shares of the frame's sides; the logarithm of its size (the root of its area), and of its
    aspect. 0.1: for example, each of them strays by a tenth.
    """
    x0, y0, x1, y1 = np.array(boxes, np.float64).T
    wide, high = np.maximum(x1 - x0, 1), np.maximum(y1 - y0, 1)
    numbers = [(x0 + x1) / 2 / width, (y0 + y1) / 2 / height, np.log(wide * high) / 2, np.log(high / wide)]
    return float(np.sqrt(np.mean([values.var() for values in numbers])))


class PoseSpread(OneColumn):
    """The mean over the clip's subjects that are found on two frames at least; `no_subject` where none is, `one_frame` in a
    video of one."""

    def __init__(self, subjects: Subjects, models: tuple[str, ...] = (), column: str = "pose_spread"):
        self._subjects = subjects
        super().__init__(models, column)

    def score(self, video: Video, case: Case, truth: Truth) -> dict[str, Score]:
        if len(video.frames) < 2:
            return {self.columns[0]: "one_frame"}
        asked, height, width = self._subjects.asked(case), *video.frames.shape[1:3]
        rows = self._subjects.cuts(video, case)
        columns = [[cut.box for row in rows if (cut := row[asked.index(word)])] for word in asked if word in case.subjects]
        spreads = [pose_spread(boxes, height, width) for boxes in columns if len(boxes) > 1]
        return {self.columns[0]: float(np.mean(spreads)) if spreads else "no_subject"}
