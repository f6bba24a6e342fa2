"""What moves by itself, and what the camera, the light and the codec explain."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from curation.models import motion
from curation.quality.motionless import exposed, moved, noisy

SIZE = 320, 180


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    """Something with detail at all scales, uint8 RGB."""
    rng = np.random.default_rng(0)
    layers = [cv2.resize(rng.normal(0, 1, (n, 2 * n, 3)).astype(np.float32), (640, 360)) for n in (4, 12, 40, 120)]
    return np.clip(128 + 30 * sum(layers), 0, 255).astype(np.uint8)


def measured(clip: np.ndarray) -> dict[str, float]:
    return motion.measures(motion.shrunk(list(clip)))


def camera(scene: np.ndarray, count: int = 16) -> np.ndarray:
    return moved(scene, SIZE, [(1.3 + 0.03 * at, -0.8 + 0.1 * at, 0.2, 0.4 * at) for at in range(count)])


def walker(scene: np.ndarray, count: int = 16) -> np.ndarray:
    """A textured disc that walks over a scene that stands still."""
    clip = moved(scene, SIZE, [(1.2, 0.0, 0.0, 0.0)] * count)
    other = moved(scene[:, ::-1], SIZE, [(2.0, 0.0, 0.0, 0.0)])[0]
    for at, frame in enumerate(clip):
        mask = cv2.circle(np.zeros(frame.shape[:2], np.uint8), (40 + 14 * at, 90), 40, 1, -1)[..., None] > 0
        frame[:] = np.where(mask, np.roll(other, 14 * at, axis=1), frame)
    return clip


def test_a_camera_over_a_picture_leaves_nothing(scene: np.ndarray) -> None:
    found = measured(camera(scene))
    assert found["camera"] > 0.01 and found["zoom"] > 0.005
    assert found["residual"] < 0.02 and found["far_residual"] < 0.05
    assert found["explained"] > 0.95 and found["far_explained"] > 0.9


def test_what_walks_is_left_where_it_is(scene: np.ndarray) -> None:
    found = measured(walker(scene))
    assert found["camera"] < 0.005 and 0.04 < found["residual"] < 0.4
    assert found["far_residual"] > found["residual"] * 0.8, "farther apart it moves no less"
    assert found["explained"] < 0.98


def test_a_walker_before_a_moving_camera(scene: np.ndarray) -> None:
    clip = camera(scene)
    disc = walker(scene)
    for at, frame in enumerate(clip):
        mask = cv2.circle(np.zeros(frame.shape[:2], np.uint8), (40 + 14 * at, 90), 40, 1, -1)[..., None] > 0
        frame[:] = np.where(mask, disc[at], frame)
    found = measured(clip)
    assert found["camera"] > 0.01 and 0.04 < found["residual"] < 0.5


def test_light_and_noise_are_no_motion(scene: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    still = moved(scene, SIZE, [(1.2, 0.0, 0.0, 0.0)] * 16)
    assert measured(still)["idle"] == 1.0 and measured(still)["same"] == 1.0
    for clip in (noisy(rng, still, 4.0), exposed(rng, still), noisy(rng, exposed(rng, still), 3.0)):
        found = measured(clip)
        assert found["residual"] < 0.02 and found["camera"] < 0.003 and found["explained"] > 0.95
    brighter = measured(np.stack([cv2.convertScaleAbs(f, alpha=0.3 + at / 25) for at, f in enumerate(still)]))
    assert brighter["brighter"] > 0.01 and brighter["far_unlike"] < 0.05, "what differs by its brightness is alike"


def test_two_planes(scene: np.ndarray) -> None:
    """A cut-out that goes its own way over a picture: one plane does not explain it, two do."""
    back = moved(scene, SIZE, [(1.2, -0.5 + 0.05 * at, 0.0, 0.0) for at in range(16)])
    front = moved(scene[::-1], SIZE, [(1.6, 0.0, 0.6 - 0.06 * at, 0.0) for at in range(16)])
    back[:, 20:160, 70:230] = front[:, 20:160, 70:230]
    found = measured(back)
    assert found["explained"] < 0.85 and found["explained_two"] > found["explained"] + 0.1


def test_a_machine_pans_steadily(scene: np.ndarray) -> None:
    steps = np.random.default_rng(2).uniform(0, 0.15, 16).cumsum()
    machine = moved(scene, SIZE, [(1.5, -0.8 + 0.08 * at, 0.0, 0.0) for at in range(16)])
    hand = moved(scene, SIZE, [(1.5, -0.8 + step * (at % 2), 0.0, 0.0) for at, step in enumerate(steps)])
    assert measured(machine)["steady"] > 0.9 > measured(hand)["steady"]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_few_pictures(scene: np.ndarray, count: int) -> None:
    found = measured(camera(scene, count))
    assert found.keys() == measured(camera(scene)).keys() and all(np.isfinite(list(found.values())))
    assert count > 1 or (found["residual"] == 0.0 and found["explained"] == 1.0)


@pytest.mark.parametrize("shape", [(20, 3000), (2000, 30), (17, 17)])
def test_odd_shapes_and_nothing_to_see(shape: tuple[int, int]) -> None:
    plain = [np.full((*shape, 3), 40 * at, np.uint8) for at in range(4)]
    assert all(np.isfinite(list(motion.measures(motion.shrunk(plain)).values())))
