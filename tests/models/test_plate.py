from __future__ import annotations

import hashlib
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import cv2
import numpy as np
import pytest

from curation.models import plate

HEIGHT, WIDTH, SIDE = 180, 320, 40
Clip = tuple[np.ndarray, np.ndarray, np.ndarray, list[tuple[np.ndarray, np.ndarray]]]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    cv2.setNumThreads(1)


def scenery(height: int = 2 * HEIGHT, width: int = 2 * WIDTH, seed: int = 0) -> np.ndarray:
    """Noise of several scales: every place looks different, as in a real scene."""
    noise = np.random.default_rng(seed)
    layers = [
        cv2.resize(noise.normal(size=(height // s, width // s, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
        for s in (4, 12, 40)
    ]
    return np.clip(128 + 18 * layers[0] + 22 * layers[1] + 22 * layers[2], 0, 255).astype(np.uint8)


def camera(step: float) -> np.ndarray:
    """Scene → frame: pans right and down, turns and zooms a little, `step` frames away from the middle."""
    turn = cv2.getRotationMatrix2D((WIDTH, HEIGHT), 0.6 * step, 1 + 0.004 * step)
    turn[:, 2] -= WIDTH / 2 + 5 * step, HEIGHT / 2 + 2 * step
    return turn


def square(image: np.ndarray, left: int, top: int, seed: int = 7) -> np.ndarray:
    """Paints a textured square on the image; gives its mask."""
    mask = np.zeros(image.shape[:2], bool)
    mask[top : top + SIDE, left : left + SIDE] = True
    image[mask] = 255 - scenery(SIDE, SIDE, seed).reshape(-1, 3) // 2
    return mask


def clip(pan: float = 1.0, speed: int = 14, light: float = 0.0, seen: bool = True, frames: int = 13) -> Clip:
    """True background, middle frame, its square, and the other frames with their squares (no mask at all unless `seen`)."""
    scene, others = scenery(), []
    for step in range(-(frames // 2), frames // 2 + 1):
        image = cv2.warpAffine(scene, camera(step * pan), (WIDTH, HEIGHT))
        image = np.clip(image * (1 + light * step), 0, 255).astype(np.uint8)
        truth = image.copy()
        mask = square(image, 140 + speed * step, 70)
        if step:
            others.append((image, mask if seen else np.zeros_like(mask)))
        else:
            middle = truth, image, mask
    return (*middle, others)


def psnr(a: np.ndarray, b: np.ndarray, where: np.ndarray) -> float:
    return 10 * np.log10(255**2 / max(1e-9, ((a[where].astype(float) - b[where]) ** 2).mean()))


def painted(clip: Clip) -> tuple[np.ndarray, np.ndarray, plate.Plate]:
    """(filled frame, hole, plate), as the stage does it."""
    _, frame, mask, others = clip
    hole = plate.dilate(mask, 5)
    found = plate.recover(frame, hole, others, mask)
    return plate.fill(found.image, hole & ~found.known), hole, found


@pytest.mark.parametrize(
    ("case", "least"),
    [
        pytest.param({"pan": 0.0}, 40, id="static camera"),
        pytest.param({"pan": 1.0}, 28, id="panning, turning, zooming camera"),
        pytest.param({"pan": 0.0, "light": 0.02}, 32, id="light that changes"),
        pytest.param({"pan": 0.0, "seen": False}, 36, id="a square no detector saw is outvoted"),
    ],
)
def test_a_moving_square_uncovers_the_true_background(case: dict, least: float) -> None:
    scene = clip(**case)
    result, hole, found = painted(scene)
    assert found.known[hole].mean() > 0.95 and found.frames >= 8
    assert psnr(result, scene[0], hole) > least
    assert (result[~hole] == scene[1][~hole]).all()


def test_a_square_that_never_moves_uncovers_nothing() -> None:
    """Though no mask hides it: frames in which the hole looks the same still show what is to be removed."""
    scene = clip(pan=0.0, speed=0, seen=False)
    _, hole, found = painted(scene)
    assert not found.known.any()
    assert (found.image == scene[1]).all()


def test_frames_of_another_scene_are_not_used() -> None:
    _, frame, mask, _ = clip()
    others = [(scenery(HEIGHT, WIDTH, seed), np.zeros_like(mask)) for seed in range(20, 26)]
    found = plate.recover(frame, plate.dilate(mask, 5), others, mask)
    assert found.frames == 0 and not found.known.any()


def test_without_other_frames_nothing_is_known() -> None:
    _, frame, mask, _ = clip()
    assert not plate.recover(frame, mask, []).known.any()


def test_likeness_tells_a_ghost_from_background() -> None:
    truth, frame, mask, _ = clip(pan=0.0)
    frame[mask] = (30, 200, 60)
    hole = plate.dilate(mask, 5)
    ghost, clean = frame.copy(), truth.copy()
    assert plate.likeness(frame, mask, plate.Plate(ghost, hole, 9)) > 0.9
    assert plate.likeness(frame, mask, plate.Plate(clean, hole, 9)) < 0.1
    assert plate.likeness(frame, mask, plate.Plate(frame, np.zeros_like(hole), 0)) == 0


def test_patchmatch_continues_a_regular_pattern() -> None:
    wave = np.sin(np.arange(WIDTH) * np.pi / 8)
    truth = (128 + 100 * wave[:HEIGHT, None] * wave)[..., None].repeat(3, 2).astype(np.uint8)
    frame = truth.copy()
    hole = plate.dilate(square(frame, 130, 60), 3)
    result = plate.fill(frame, hole)
    assert psnr(result, truth, hole) > 20 > psnr(frame, truth, hole) + 8
    assert (result[~hole] == frame[~hole]).all()


def test_patchmatch_at_a_smaller_scale_touches_the_hole_only() -> None:
    frame = scenery(360, 640)
    hole = np.zeros((360, 640), bool)
    hole[100:200, 301:402] = True
    result = plate.fill(frame, hole, side=320)
    assert (result[~hole] == frame[~hole]).all()
    assert (result[hole] != frame[hole]).mean() > 0.5


@pytest.mark.parametrize("full", [True, False])
def test_nothing_to_copy_from_or_nothing_to_fill(full: bool) -> None:
    frame = scenery(60, 80)
    assert (plate.fill(frame, np.full((60, 80), full)) == frame).all()


def digest(before: int) -> str:
    """sha256 of a filled frame, after `before` other calls."""
    for _ in range(before):
        plate.fill(scenery(50, 60), np.eye(50, 60, dtype=bool))
    return hashlib.sha256(painted(clip(frames=5))[0].tobytes()).hexdigest()


def test_the_bytes_are_the_same_in_every_process_whatever_ran_before() -> None:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert len({digest(0), *pool.map(digest, [0, 3])}) == 1


def test_paste_fades_inside_the_hole_only() -> None:
    black, white = np.zeros((40, 60, 3), np.uint8), np.full((40, 60, 3), 255, np.uint8)
    hole = np.zeros((40, 60), bool)
    hole[10:30, 20:60] = True
    result = plate.paste(black, white, hole, feather=4)
    assert not result[~hole].any()
    assert (result[20, 26:60] == 255).all()  # also at the frame's edge: there is nothing to fade into
    rim = result[20, 20:26, 0].astype(int)
    assert (np.diff(rim[:5]) > 0).all() and 0 < rim[0] < 100


def test_dilate_grows_by_a_disc_and_further_down() -> None:
    mask = np.zeros((41, 41), bool)
    mask[20, 20] = True
    ys, xs = np.nonzero(plate.dilate(mask, 5, down=4))
    assert (ys.min(), ys.max(), xs.min(), xs.max()) == (15, 29, 15, 25)
    assert not plate.dilate(mask, 5)[15, 15]


def test_fill_holes_closes_what_the_border_cannot_reach() -> None:
    mask = np.zeros((20, 20), bool)
    mask[5:15, 5:15] = True
    ring = mask.copy()
    ring[8:12, 8:12] = False
    open_ring = ring.copy()
    open_ring[9, :8] = False
    assert (plate.fill_holes(ring) == mask).all()
    assert (plate.fill_holes(open_ring) == open_ring).all()


def test_the_square_kernel_grows_a_point_by_three_pixels_a_time() -> None:
    point = np.zeros((41, 41), bool)
    point[20, 20] = True
    for times, side in ((0, 1), (1, 4), (3, 10)):
        grown = plate.dilate_square(point, times)
        assert grown.sum() == side**2 and grown[20, 20]
