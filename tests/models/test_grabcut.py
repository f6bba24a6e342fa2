from __future__ import annotations

import cv2
import numpy as np
import pytest

from curation.models.boxes import around
from curation.models.grabcut import agreement, grabcut, tidy

Shape = tuple[np.ndarray, np.ndarray, tuple[float, float, float, float]]


def textured(seed: int, mean: tuple[int, int, int], size: tuple[int, int] = (240, 320)) -> np.ndarray:
    """Smooth random texture around a colour, RGB uint8."""
    noise = np.random.default_rng(seed).normal(0, 60, (*size, 3)).astype(np.float32)
    return np.clip(cv2.GaussianBlur(noise, (0, 0), 2) * 2 + np.array(mean), 0, 255).astype(np.uint8)


def bounds(mask: np.ndarray) -> tuple[float, float, float, float]:
    ys, xs = np.nonzero(mask)
    return float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1)


def scene(seed: int, draw: str) -> Shape:
    """A red shape on green: the image, its true mask and its box."""
    canvas = np.zeros((240, 320), np.uint8)
    if draw == "ellipse":
        cv2.ellipse(canvas, (150, 120), (80, 55), 25, 0, 360, 1, -1)
    elif draw == "house":
        cv2.fillPoly(canvas, [np.array([[80, 200], [80, 110], [150, 50], [220, 110], [220, 200]], np.int32)], 1)
    else:
        cv2.ellipse(canvas, (300, 120), (70, 90), 0, 0, 360, 1, -1)
    mask = canvas.astype(bool)
    image = np.where(mask[..., None], textured(seed, (190, 60, 50)), textured(seed + 1, (70, 130, 80)))
    return image, mask, bounds(mask)


@pytest.mark.parametrize("draw", ["ellipse", "house", "over the edge"])
@pytest.mark.parametrize("seed", [0, 10])
def test_a_shape_is_found_from_its_box(draw: str, seed: int) -> None:
    image, truth, box = scene(seed, draw)
    assert agreement(tidy(grabcut(image, box)), truth) >= 0.9


def test_a_prior_decides_which_of_two_alike_is_meant() -> None:
    truth, other = np.zeros((240, 320), np.uint8), np.zeros((240, 320), np.uint8)
    cv2.circle(truth, (110, 120), 45, 1, -1)
    cv2.circle(other, (220, 120), 45, 1, -1)
    image = np.where((truth | other)[..., None] > 0, textured(0, (190, 60, 50)), textured(1, (70, 130, 80)))
    prior = np.where(truth > 0, 0.95, np.where(other > 0, 0.01, 0.2)).astype(np.float32)
    box = bounds((truth | other) > 0)
    assert agreement(grabcut(image, box), truth > 0) < 0.6
    assert agreement(tidy(grabcut(image, box, prior)), truth > 0) >= 0.9


def test_nothing_leaves_the_box() -> None:
    image, _, (x0, y0, x1, y1) = scene(0, "ellipse")
    small = (x0 + 20.4, y0 + 10.2, x1 - 30.7, y1 - 20.9)
    mask = grabcut(image, small)
    left, top, right, bottom = around(small, 320, 240, 0)
    outside = np.ones(mask.shape, bool)
    outside[top:bottom, left:right] = False
    assert mask.any() and not mask[outside].any()


@pytest.mark.parametrize(
    "box", [(0.0, 0.0, 320.0, 240.0), (-5.0, -5.0, 400.0, 300.0), (9.0, 9.0, 9.0, 9.0), (318.0, 238.0, 320.0, 240.0)]
)
def test_boxes_without_a_surrounding_or_an_inside_do_not_break_it(box: tuple[float, float, float, float]) -> None:
    assert grabcut(scene(0, "ellipse")[0], box).shape == (240, 320)


def test_an_empty_or_full_prior_finds_nothing() -> None:
    image, _, box = scene(0, "ellipse")
    assert not grabcut(image, box, np.zeros((240, 320), np.float32)).any()
    assert not grabcut(image, (0.0, 0.0, 320.0, 240.0), np.ones((240, 320), np.float32)).any()


def test_the_mask_does_not_depend_on_what_was_cut_before() -> None:
    image, _, box = scene(0, "house")
    first = grabcut(image, box)
    cv2.setRNGSeed(99)
    grabcut(*scene(20, "ellipse")[::2])
    assert np.array_equal(first, grabcut(image, box))


def test_tidy_removes_specks_and_fills_pinholes_but_not_rings() -> None:
    mask = np.zeros((200, 200), bool)
    mask[40:160, 40:160] = True
    clean = mask.copy()
    mask[100:104, 100:104] = False
    mask[5:9, 5:9] = True
    assert np.array_equal(tidy(mask), clean)
    clean[60:140, 60:140] = False
    assert np.array_equal(tidy(clean), clean)
    assert not tidy(np.zeros((20, 20), bool)).any()


def test_iou_of_known_masks() -> None:
    a, b = np.zeros((10, 10), bool), np.zeros((10, 10), bool)
    assert agreement(a, b) == 0
    a[:, :6], b[:, 4:] = True, True
    assert agreement(a, b) == pytest.approx(0.2)


def test_tidy_straightens_a_frayed_outline() -> None:
    """A disc whose rim is drawn by lot."""
    y, x = np.indices((300, 300)) - 150
    disc = np.hypot(x, y) < 100
    frayed = np.hypot(x, y) < 100 + np.random.default_rng(0).integers(-4, 5, disc.shape)

    def rim(mask: np.ndarray) -> int:
        return int(np.count_nonzero(mask[1:] != mask[:-1]) + np.count_nonzero(mask[:, 1:] != mask[:, :-1]))

    assert rim(tidy(frayed)) < 1.12 * rim(disc) and agreement(tidy(frayed), disc) > 0.95
