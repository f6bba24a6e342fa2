"""Dync-D: whether a video moves (PAPER.md §6); the metric of a model is the share of its videos that do."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from curation.benchmark.case import Case
from curation.benchmark.metrics import Score, Truth, Video
from curation.benchmark.metrics.sharing import Once, OneColumn

RATE = 8
"""Frames a second that motion is measured between, about (PAPER.md §6)."""
FASTEST = 0.05
"""Share of a flow's pixels, the fastest, whose mean is its strength."""
MOVES = 6 / 256
"""Strength above which a pair of frames moves, as a share of the frame's short side."""
PART = 4
"""A video moves when a pair in so many frames does."""


def stride(fps: float) -> int:
    """Every how many-th frame is looked at; halves go to the even number (MP's released code, which fails below 4 fps)."""
    return max(1, round(fps / RATE))


def strength(flow: np.ndarray) -> float:
    """Mean length of the fastest twentieth of a flow [H, W, 2], px."""
    lengths = np.sqrt(np.square(flow).sum(2)).ravel()
    return float(-np.sort(-lengths)[: max(1, int(lengths.size * FASTEST))].mean())


def moves(strengths: Sequence[float], frames: int, short_side: int, share: float = MOVES) -> bool:
    """Whether at least round(frames / 4) pairs do, halves to the even number: of two frames none needs to, so two are always
    dynamic (MP's released code). `frames` are those looked at, one more than `strengths`."""
    moving = sum(value > share * short_side for value in strengths)
    return bool(strengths) and moving >= round(frames / PART)


class DyncD(OneColumn):
    """`flow`: two uint8 RGB frames → their flow [h, w, 2] in pixels of the frames; its sides may be filled up, and count so.

    Where one frame is all that is looked at there is no motion to speak of: undefined, as in the papers' tables; MP's released
    code would say 0.
    """

    def __init__(
        self,
        flow: Callable[[np.ndarray, np.ndarray], np.ndarray],
        models: tuple[str, ...] = (),
        column: str = "dync_d",
        share: float = MOVES,
    ):
        self.strengths = Once(self._strengths)
        self._flow, self._share = flow, share
        super().__init__(models, column)

    def score(self, video: Video, case: Case, truth: Truth) -> dict[str, Score]:
        strengths = self.strengths(video)
        if not strengths:
            return {self.columns[0]: "one_frame"}
        return {self.columns[0]: float(moves(strengths, len(strengths) + 1, min(video.frames.shape[1:3]), self._share))}

    def _strengths(self, video: Video) -> list[float]:
        frames = video.frames[:: stride(video.fps)]
        return [strength(self._flow(a, b)) for a, b in zip(frames[:-1], frames[1:], strict=True)]
