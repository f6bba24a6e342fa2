from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from curation.benchmark.metrics import Video
from curation.benchmark.metrics.vid_s import VidS, vid_s
from tests.benchmark.metrics.cases import case


def test_every_frame_is_compared_with_every_true_one() -> None:
    frames, truth = np.array([[1.0, 0.0], [0.0, 3.0]]), np.array([[2.0, 0.0], [1.0, 0.0], [0.0, -1.0]])
    assert vid_s(frames, truth) == pytest.approx((1 + 1 + 0 + 0 + 0 - 1) / 6)


def test_the_true_frames_are_three(tmp_path: Path) -> None:
    metric = VidS(lambda frames: np.array([[float(frame.mean()), 1.0] for frame in frames]), column="mine")
    clip = case(tmp_path)
    assert metric.truth(clip)["frames"][:, 0].tolist() == [101, 102, 103]
    video = Video(np.full((1, 8, 8, 3), 102, np.uint8), 8.0)
    assert metric.score(video, clip, metric.truth(clip)) == {"mine": pytest.approx(1, abs=1e-4)}
