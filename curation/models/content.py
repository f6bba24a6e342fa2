"""PySceneDetect's content detectors, frame by frame: cheaper than TransNetV2, blind to gradual transitions."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scenedetect import FrameTimecode
from scenedetect.detectors import AdaptiveDetector, ContentDetector

WIDTH = 256  # pixels the pictures are scaled to at least, as PySceneDetect itself does
THRESHOLDS = {"content": 27.0, "adaptive": 3.0}  # PySceneDetect's own; Panda-70M took 25 (PAPER.md §2)


class Stream:
    """Boundaries of one clip, frame by frame, with a delay of at most 16 frames."""

    def __init__(self, kind: Literal["content", "adaptive"], threshold: float | None = None):
        level = THRESHOLDS[kind] if threshold is None else threshold
        self.detector = ContentDetector(level) if kind == "content" else AdaptiveDetector(level)
        self.delay = self.detector.event_buffer_length + 1  # a cut belongs to the frame before it
        self.cuts: set[int] = set()
        self.seen = self.told = 0

    def push(self, picture: np.ndarray) -> list[float]:
        """Take the next frame, uint8 RGB; give 1.0 (the last frame of a shot) or 0.0 for the frames known by now, in order."""
        time = FrameTimecode(self.seen, fps=30.0)  # the detectors count frames; the rate plays no part
        self.cuts.update(cut.frame_num for cut in self.detector.process_frame(time, picture[:, :, ::-1]))
        self.seen += 1
        return self._tell(self.seen - self.delay)

    def finish(self) -> list[float]:
        """The clip has ended: what is known of the frames still owed."""
        self.cuts.update(cut.frame_num for cut in self.detector.post_process(FrameTimecode(self.seen, fps=30.0)))
        return self._tell(self.seen)

    def _tell(self, until: int) -> list[float]:
        known = [float(frame + 1 in self.cuts) for frame in range(self.told, until)]
        self.told = max(self.told, until)
        return known
