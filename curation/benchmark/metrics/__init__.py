"""What is measured of a video, one file each: arrays in, numbers out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from curation.benchmark.case import Case


@dataclass(frozen=True, eq=False)
class Video:
    """A made video: uint8 RGB [frames, H, W, 3], and its frames a second."""

    frames: np.ndarray
    fps: float


Truth = Mapping[str, np.ndarray]
"""Embeddings of a clip's ground truth, by names of the metric's own; `evaluate` caches them as arrays."""
Score = float | str
"""A number, or why there is none: `no_face_in_truth`, `all_references`; misses are numbers (0), as the protocol has them."""


class Metric(Protocol):
    """A metric with its networks loaded; made by a profile, once a process."""

    columns: tuple[str, ...]
    """Names of what it scores, as they stand in scores and summary."""
    models: tuple[str, ...]
    """Names in the store of what it loads."""

    def truth(self, case: Case) -> Truth: ...

    def score(self, video: Video, case: Case, truth: Truth) -> dict[str, Score]:
        """One score for each of `columns`."""
