"""Text-S: how well a video's frames fit its prompt (PAPER.md §6)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from curation.benchmark.case import Case
from curation.benchmark.metrics import Score, Truth, Video
from curation.benchmark.metrics.sharing import OneColumn, cosines


def text_s(frames: np.ndarray, prompt: np.ndarray) -> float:
    """Mean cosine of the frames' embeddings [N, D] with the prompt's [D]: no ×100, nothing clamped.

    MP's number for a model is the mean of this over videos, each counting once however long it is; that holds for all five.
    """
    return float(cosines(frames, prompt[None]).mean())


class TextS(OneColumn):
    """`frames`: uint8 RGB [N, H, W, 3] → [N, D]; `text`: a prompt → [D], cut at the network's length.

    MP computes CLIP in half precision on a GPU, which moves a cosine by some 1e-4; ours is float32.
    """

    def __init__(
        self,
        frames: Callable[[np.ndarray], np.ndarray],
        text: Callable[[str], np.ndarray],
        models: tuple[str, ...] = (),
        column: str = "text_s",
    ):
        self._frames, self._text = frames, text
        super().__init__(models, column)

    def truth(self, case: Case) -> Truth:
        return {"prompt": self._text(case.prompt)}

    def score(self, video: Video, case: Case, truth: Truth) -> dict[str, Score]:
        return {self.columns[0]: text_s(self._frames(video.frames), truth["prompt"])}
