"""Borders, pictures in pictures, text, flatness: on pictures that are known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from curation.models import layout
from curation.models.motion import shrunk
from curation.quality import framed
from curation.quality.motionless import moved


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    """Three clips full of motion, uint8 RGB [16, 180, 320, 3]."""
    made = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        layers = [cv2.resize(rng.normal(0, 1, (n, 2 * n, 3)).astype(np.float32), (640, 360)) for n in (5, 20, 80)]
        picture = np.clip(128 + 35 * sum(layers), 0, 255).astype(np.uint8)
        made.append(moved(picture, (320, 180), [(1.5, *rng.uniform(-1, 1, 2), 0.0) for _ in range(16)]))
    return made


def measured(clip: np.ndarray) -> dict[str, float]:
    return layout.measures(list(clip), shrunk(list(clip)))


def laid(clips: list[np.ndarray], box: tuple[int, int, int, int]) -> np.ndarray:
    return framed.laid(np.random.default_rng(5), clips[0], clips[1], box, plain=True)


@pytest.mark.parametrize("box", [(40, 30, 200, 150), (210, 110, 320, 180), (0, 0, 160, 180), (100, 0, 220, 180)])
def test_a_picture_in_a_picture_is_seen_where_it_is(clips: list[np.ndarray], box: tuple[int, int, int, int]) -> None:
    found = measured(laid(clips, box))
    area = (box[2] - box[0]) * (box[3] - box[1]) / (320 * 180)
    assert found["rectangle"] > 0.25 and min(abs(found["rectangle_area"] - area), abs(1 - found["rectangle_area"] - area)) < 0.08


def test_a_whole_clip_has_none(clips: list[np.ndarray]) -> None:
    for clip in clips:
        assert measured(clip)["rectangle"] < 0.15


def test_a_still_window_in_a_wall_is_none(clips: list[np.ndarray]) -> None:
    """A scene with straight edges and a fixed camera, in which somebody walks: what stands beside the edges stands, too."""
    wall = np.full((180, 320, 3), 200, np.uint8)
    cv2.rectangle(wall, (60, 30), (150, 110), (40, 60, 80), -1)
    scene = np.repeat(wall[None], 16, axis=0)
    for at, frame in enumerate(scene):
        cv2.rectangle(frame, (18 * at, 60), (18 * at + 30, 180), (20, 160, 90), -1)
    assert measured(scene)["rectangle"] < 0.5 * 0.9


def test_bars_of_one_colour_have_nothing_outside(clips: list[np.ndarray]) -> None:
    barred = np.zeros_like(clips[0])
    barred[:, 30:150] = clips[0][:, 30:150]
    found = measured(barred)
    assert found["static_border"] == pytest.approx(1 / 3, abs=0.05) and found["textured_border"] == 0.0
    assert measured(barred)["outside_detail"] < 0.05
    textured = laid([np.repeat(clips[2][:1], 16, axis=0), clips[0]], (0, 30, 320, 150))
    assert measured(textured)["textured_border"] == pytest.approx(1 / 3, abs=0.05)


def test_blurred_sides_are_a_step_on_both_sides(clips: list[np.ndarray]) -> None:
    blurred = np.stack([cv2.GaussianBlur(frame, (0, 0), 9) for frame in clips[0]])
    sides = framed.laid(np.random.default_rng(0), blurred, clips[0], (100, 0, 220, 180), plain=True)
    assert measured(sides)["blur_step_upright"] > 1 > 0.3 > measured(clips[0])["blur_step_upright"]
    assert measured(sides.transpose(0, 2, 1, 3).copy())["blur_step_level"] > 1


def test_text_is_counted_and_a_meadow_is_not(clips: list[np.ndarray]) -> None:
    rng = np.random.default_rng(3)
    page = np.full((360, 640, 3), 250, np.uint8)
    for line in range(14):
        cv2.putText(page, framed.words(rng, 9), (20, 30 + 24 * line), (20, 20, 20), cv2.FontFace("sans"), 15, 400)
    assert 0.15 < layout.text_share(page) < 0.8
    assert layout.text_share(255 - page) == pytest.approx(layout.text_share(page), rel=0.2)
    assert layout.text_share(clips[0][0]) < 0.03
    ruled = np.full((360, 640, 3), 250, np.uint8)
    ruled[20::30] = ruled[21::30] = ruled[22::30] = ruled[23::30] = 20
    assert layout.text_share(ruled) < 0.01, "lines that nobody wrote on"
    half = page.copy()
    half[180:] = 250
    assert layout.text_share(half) == pytest.approx(layout.text_share(page) / 2, rel=0.2)
    assert measured(np.repeat(page[None], 16, axis=0))["text_share"] == layout.text_share(page)


def test_a_page_is_flat_and_square_and_of_few_colours(clips: list[np.ndarray]) -> None:
    page = np.full((180, 320, 3), 240, np.uint8)
    for at in range(6):
        cv2.rectangle(page, (10 + 50 * at, 20), (50 + 50 * at, 160), (40 * at, 90, 200 - 30 * at), -1)
    drawn, filmed = measured(np.repeat(page[None], 16, axis=0)), measured(clips[0])
    for name, more in (("flat", 0.5), ("few_colours", 0.5), ("square_edges", 0.3)):
        assert drawn[name] > filmed[name] + more, name


@pytest.mark.parametrize("count", [1, 2, 16])
@pytest.mark.parametrize("shape", [(180, 320), (16, 900), (901, 33)])
def test_any_shape_gives_finite_measures(count: int, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    clip = [rng.integers(0, 255, (*shape, 3), np.uint8) for _ in range(count)]
    assert all(np.isfinite(list(layout.measures(clip, shrunk(clip)).values())))


def test_a_logo_lies_over_what_moves(clips: list[np.ndarray]) -> None:
    """Not where it is over what stands still, nor what moves without a logo."""
    greys = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in clips[0]]
    lettered = [cv2.putText(grey.copy(), "NEWS", (100, 100), cv2.FONT_HERSHEY_SIMPLEX, 1.5, 255, 4) for grey in greys]
    found = layout.overlaid(lettered)
    assert found[60:105, 95:225].sum() > 200 and found.sum() == found[55:110, 90:230].sum()
    assert not layout.overlaid(greys).any() and not layout.overlaid(lettered[:1] * 16).any()
