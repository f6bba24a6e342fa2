from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from curation.benchmark.metrics import Video
from curation.benchmark.metrics.text_s import TextS, text_s
from tests.benchmark.metrics.cases import case


def test_frames_count_alike_and_nothing_is_clamped() -> None:
    frames = np.array([[2.0, 0.0], [0.0, 1.0], [-5.0, 0.0], [-1.0, 0.0]])
    assert text_s(frames, np.array([1.0, 0.0])) == pytest.approx(-0.25)


def test_the_prompt_is_the_truth(tmp_path: Path) -> None:
    metric = TextS(lambda frames: np.ones((len(frames), 2)), lambda text: np.array([len(text), 0.0]))
    clip = case(tmp_path)
    assert metric.truth(clip)["prompt"].tolist() == [5, 0]
    video = Video(np.zeros((2, 8, 8, 3), np.uint8), 8.0)
    assert metric.score(video, clip, metric.truth(clip)) == {"text_s": pytest.approx(0.5**0.5)}
