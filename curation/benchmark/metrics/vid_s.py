"""Vid-S: how like a video's frames are to the true video's (PAPER.md §6)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from curation.benchmark.case import Case
from curation.benchmark.metrics import Score, Truth, Video
from curation.benchmark.metrics.sharing import OneColumn, cosines


def vid_s(frames: np.ndarray, truth: np.ndarray) -> float:
    """Mean of all cosines between the frames' embeddings [N, D] and those of the three true frames [3, D]."""
    return float(cosines(frames, truth).mean())


class VidS(OneColumn):
    """`frames`: uint8 RGB pictures of any sizes → [N, D]; the same way for true frames, each cropped to its own middle square:
    videos of other aspects are compared fairly."""

    def __init__(self, frames: Callable[..., np.ndarray], models: tuple[str, ...] = (), column: str = "vid_s"):
        self._frames, self.models, self.columns = frames, models, (column,)

    def truth(self, case: Case) -> Truth:
        return {"frames": self._frames(case.frames)}

    def score(self, video: Video, case: Case, truth: Truth) -> dict[str, Score]:
        return {self.columns[0]: vid_s(self._frames(video.frames), truth["frames"])}
