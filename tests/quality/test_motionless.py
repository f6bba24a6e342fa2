"""Clips made of still pictures: what they are made to be is what measures say of them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from curation.models import motion
from curation.quality import motionless
from curation.quality.examples import seeded

SIZE = 320, 180


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    made = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        layers = [cv2.resize(rng.normal(0, 1, (n, 2 * n, 3)).astype(np.float32), (640, 360)) for n in (4, 12, 40, 120)]
        made.append(np.clip(128 + 30 * sum(layers), 0, 255).astype(np.uint8))
    return made


def measured(clip: np.ndarray) -> dict[str, float]:
    return motion.measures(motion.shrunk(list(clip[::2])))


@pytest.mark.parametrize("unseen", [False, True])
@pytest.mark.parametrize("way", ["still", "slight"])
def test_same_seed_same_bytes_other_seed_others(pictures: list[np.ndarray], way: str, unseen: bool) -> None:
    made = [getattr(motionless, way)(seeded(way, n), pictures, SIZE, 8, unseen) for n in (0, 0, 1, 2, 3)]
    assert all(clip.shape == (8, 180, 320, 3) and clip.dtype == np.uint8 for clip in made)
    assert np.array_equal(made[0], made[1]) and not np.array_equal(made[0], made[2])


@pytest.mark.parametrize("seed", range(6))
def test_a_pan_is_seen_and_nothing_but_it(pictures: list[np.ndarray], seed: int) -> None:
    found = measured(motionless.panned(seeded("pan", seed), pictures, SIZE, 32))
    assert found["camera_most"] > 0.003 and found["residual"] < 0.05, found


@pytest.mark.parametrize("turn", [0.0, 15.0])
def test_the_camera_never_sees_beyond_the_picture(turn: float) -> None:
    """The rim of the picture is of another colour than what would be made up beyond it: mirrored, it would show twice."""
    rng = np.random.default_rng(0)
    picture = np.tile(np.linspace(0, 255, 900).astype(np.uint8)[None, :, None], (600, 1, 3))
    for _ in range(12):
        moves = [(1.0, x, y, a) for x, y, a in zip(*rng.uniform(-1, 1, (2, 6)), rng.uniform(-turn, turn, 6), strict=True)]
        for frame in motionless.moved(picture, SIZE, moves):
            steps = np.diff(cv2.GaussianBlur(frame, (0, 0), 3).astype(int)[90, :, 0])
            assert steps.min() >= -2, "from left to right it grows brighter; where it is mirrored it would not"


@pytest.mark.parametrize("way", ["tremble", "resting", "breath", "patch"])
def test_slight_is_slight(pictures: list[np.ndarray], way: str) -> None:
    for seed in range(4):
        rng = seeded(way, seed)
        picture = motionless.filled(pictures[seed % 3], SIZE, 1.06)
        clip = motionless.exposed(rng, getattr(motionless, way)(rng, picture, SIZE, 32))
        found = measured(clip)
        assert found["camera_most"] < 0.02 and found["residual"] < 0.1, (way, seed)
        assert (way == "resting") or not np.array_equal(clip[0], clip[-1])


def test_a_cut_out_moves_otherwise_than_its_picture(pictures: list[np.ndarray]) -> None:
    found = [measured(motionless.parallax(seeded("p", seed), pictures, SIZE, 32)) for seed in range(6)]
    assert np.median([one["residual_most"] for one in found]) > 0.05


def test_slides_show_more_than_one_picture(pictures: list[np.ndarray]) -> None:
    clip = motionless.slides(seeded("s", 1), pictures, SIZE, 32)
    assert np.abs(clip[0].astype(int) - clip[-1]).mean() > 20


def test_noise_has_its_level(pictures: list[np.ndarray]) -> None:
    grey = np.full((4, 180, 320, 3), 128, np.uint8)
    assert motionless.noisy(np.random.default_rng(1), grey, 3.0).std() == pytest.approx(3.0, rel=0.2)
