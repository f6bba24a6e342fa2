"""Where a video shows the words of its clip: the cut-outs that several metrics compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from curation.benchmark.case import Case
from curation.benchmark.metrics import Video
from curation.benchmark.metrics.pictures import on_white
from curation.benchmark.metrics.sharing import Once

Place = tuple[int, int, int, int]
"""A box, xyxy px."""
Embed = Callable[[Sequence[np.ndarray]], np.ndarray]
"""uint8 RGB pictures of any sizes → [N, D]; they are set on a white square before they are resized."""


@dataclass(frozen=True, eq=False)
class Cut:
    """A word's thing on a frame: uint8 RGB of its box, white outside its mask, and the same with what is behind it."""

    box: Place
    picture: np.ndarray
    region: np.ndarray


Locate = Callable[[np.ndarray, Sequence[str]], list[list[Cut | None]]]
"""uint8 RGB frames [N, H, W, 3] and words → by frame and word its cut-out, None where it is not found."""


class Subjects:
    """The words of a clip found in a video, and their embeddings, once for all metrics. `knows`: which words can be found."""

    def __init__(self, locate: Locate, embed: Embed, knows: Callable[[str], bool] = lambda word: True):
        self.cuts = Once(lambda video, case: locate(video.frames, self.asked(case)))
        """By frame and word of `asked`."""
        self.found = Once(self._found)
        """Of each word of `asked` the embeddings of its cut-outs, [found, D], in the order of frames."""
        self.embed, self._knows = embed, knows

    def asked(self, case: Case) -> list[str]:
        """Subjects and objects that have a reference, each once. (Every word of MP's has; it could not read another.)"""
        return [word for word in dict.fromkeys(case.words) if case.cutouts.get(word) and self._knows(word)]

    def references(self, case: Case, word: str) -> np.ndarray:
        """Embeddings of a word's references, [N, D], on white."""
        return self.embed([on_white(cutout) for cutout in case.references(word)])

    def _found(self, video: Video, case: Case) -> list[np.ndarray]:
        columns = [[cut for cut in column if cut] for column in zip(*self.cuts(video, case), strict=True)]
        return [self.embed([cut.picture for cut in column]) if column else np.zeros((0, 1)) for column in columns]
