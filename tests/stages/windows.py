"""Clips with the window of small pictures that sample_frames makes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from curation.sample import Sample
from curation.stage import Window, apply
from curation.stages.sample_frames import SampleFrames
from tests import videos
from tests.clips import promised


def sampled(key: str, seed: int, frames: int = 30) -> Sample:
    rng = np.random.default_rng(seed)
    colours = [tuple(int(v) for v in rng.integers(0, 255, 3)) for _ in range(frames)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "v.mp4"
        videos.write([videos.picture(i, colour=c) for i, c in enumerate(colours)], path=path)
        stage = SampleFrames()
        stage.serve(Window(24, 640))
        return apply(stage, [promised(key, path)])[0]
