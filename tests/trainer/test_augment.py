from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from curation.trainer.augment import Augment, Draw, apply
from curation.trainer.seeds import generator

pytestmark = pytest.mark.trainer
NONE = Augment(min_side=10_000, blur=0, colour=0, hue=0, brightness=0, flip=0, shear=0, rotation=0, crop=1)
"""Every range closed."""


def still(height: int, width: int) -> Draw:
    """A draw that changes nothing."""
    return NONE.draw(height, width, generator("still"))


def dots(height: int = 160, width: int = 200) -> torch.Tensor:
    """White with a black disc in the middle of the left half."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    disc = ((x - width / 4) ** 2 + (y - height / 2) ** 2) < 10**2
    return torch.where(disc, 0.0, 1.0).expand(3, -1, -1).clone()


def middle(image: torch.Tensor) -> tuple[float, float]:
    """x and y of the dark in pixels from the picture's middle."""
    dark = 1 - image[0]
    h, w = dark.shape
    ys, xs = torch.arange(h) + 0.5 - h / 2, torch.arange(w) + 0.5 - w / 2
    return float((dark.sum(0) * xs).sum() / dark.sum()), float((dark.sum(1) * ys).sum() / dark.sum())


@pytest.fixture(scope="module")
def draws() -> list[Draw]:
    source = generator("draws")
    return [Augment().draw(300, 500, source) for _ in range(10_000)]


def fills(values: list[float], low: float, high: float) -> bool:
    """All within, and uniform enough to come close to both ends and to have the middle as their mean."""
    mean, error = sum(values) / len(values), 4 * (high - low) / math.sqrt(12 * len(values))
    edge = 0.01 * (high - low)
    return low <= min(values) < low + edge and high - edge < max(values) <= high and abs(mean - (low + high) / 2) < error


def test_each_range_is_the_tables(draws):
    assert fills([d.size[1] for d in draws], 112, 500)
    assert all(abs(d.size[0] - d.size[1] * 0.6) <= 1 for d in draws)
    for some in (draws, [d for d in draws if max(d.size) < 200]):  # of the picture as it came, however small it has become
        assert fills([d.shear[0] / 500 for d in some], -0.05, 0.05)
        assert fills([d.shear[1] / 300 for d in some], -0.05, 0.05)
    assert fills([d.angle for d in draws], -20, 20)
    assert fills([d.hue for d in draws], -0.05, 0.05)
    assert fills([d.saturation for d in draws], 0.95, 1.05)
    assert fills([d.contrast for d in draws], 0.95, 1.05)
    assert fills([d.brightness for d in draws], 0.9, 1.1)
    flips = sum(d.flip for d in draws) / len(draws)
    assert abs(flips - 0.5) < 4 * 0.5 / math.sqrt(len(draws))
    shares = [d.crop[0] * d.crop[1] / (d.size[0] * d.size[1]) for d in draws if d.size[1] > 400]
    assert 0.665 < min(shares) < 0.68 and 0.99 < max(shares) <= 1
    for d in draws:
        assert 0 <= d.corner[0] <= d.size[0] - d.crop[0] and 0 <= d.corner[1] <= d.size[1] - d.crop[1]


def test_blur_kernels_are_odd_and_at_most_a_fiftieth(draws):
    """Of the picture as it came, however small it has become."""
    for some in (draws, [d for d in draws if max(d.size) < 200]):
        found = [d.kernel for d in some]
        assert set(found) == {1, 3, 5, 7, 9} and all(found.count(kernel) > len(found) / 7 for kernel in set(found))


@pytest.mark.parametrize("side", [40, 112])
def test_a_small_picture_is_not_scaled(side):
    source = generator("small")
    assert {Augment().draw(side, side // 2, source).size for _ in range(50)} == {(side, side // 2)}


def test_closed_ranges_change_nothing():
    image = torch.rand(3, 90, 130, generator=generator("image"))
    torch.testing.assert_close(NONE(image, generator(0)), image, atol=1e-4, rtol=0)


@pytest.mark.parametrize("angle", [-20.0, 7.0, 20.0])
def test_it_turns_clockwise_by_its_angle(angle):
    x, y = middle(apply(dots(), replace(still(160, 200), angle=angle)))
    assert math.degrees(math.atan2(-y, -x)) == pytest.approx(angle, abs=0.3)  # the disc stands left of the middle
    assert math.hypot(x, y) == pytest.approx(50, abs=0.3)


def test_it_mirrors():
    assert middle(apply(dots(), replace(still(160, 200), flip=True))) == pytest.approx((50, 0), abs=0.1)
    image = torch.rand(3, 33, 50, generator=generator("image"))
    mirrored = apply(image, replace(still(33, 50), flip=True))
    torch.testing.assert_close(mirrored, image.flip(2), atol=1e-5, rtol=0)


def test_it_shears_by_pixels_between_edges():
    x, y = middle(apply(dots(), replace(still(160, 200), shear=(0.0, 10.0))))
    assert (x, y) == pytest.approx((-50, -50 * 10 / 200), abs=0.1)  # a quarter of the width left: a quarter of the shear up
    bar = torch.ones(3, 160, 200)
    bar[:, 20:30, 95:105] = 0
    x, y = middle(apply(bar, replace(still(160, 200), shear=(10.0, 0.0))))
    assert (x, y) == pytest.approx((-55 * 10 / 160, -55), abs=0.1)


def test_it_crops_where_it_says():
    image = torch.rand(3, 60, 80, generator=generator("image"))
    cropped = apply(image, replace(still(60, 80), crop=(50, 66), corner=(7, 3)))
    torch.testing.assert_close(cropped, image[:, 7:57, 3:69], atol=1e-5, rtol=0)


def test_flip_shear_turn_and_crop_come_in_this_order():
    image = dots()
    one = replace(still(160, 200), flip=True, shear=(6.0, -5.0), angle=15.0, crop=(140, 175), corner=(4, 20))
    steps = [{"flip": True}, {"shear": (6.0, -5.0)}, {"angle": 15.0}, {"crop": (140, 175), "corner": (4, 20)}]
    for step in steps:
        image = apply(image, replace(still(160, 200), **step))
    assert middle(apply(dots(), one)) == pytest.approx(middle(image), abs=0.2)


def test_what_comes_in_is_white_and_transparent():
    black = torch.zeros(4, 100, 100)
    black[3] = 1
    turned = apply(black, replace(still(100, 100), angle=20.0))
    assert torch.equal(turned[:, 0, 0], torch.tensor([1.0, 1.0, 1.0, 0.0]))
    assert torch.equal(turned[:, 50, 50], torch.tensor([0.0, 0.0, 0.0, 1.0]))


def test_it_scales_down_by_area():
    board = (torch.arange(400) // 2 % 2).float().expand(3, 200, 400).clone()  # stripes of 2 px
    small = apply(board, replace(still(200, 400), size=(50, 100), crop=(50, 100)))
    assert small.shape == (3, 50, 100)
    assert (small[:, 5:-5, 5:-5] - 0.5).abs().max() < 0.06  # no aliasing


def test_blur_spreads_as_its_kernel_says():
    point = torch.zeros(3, 31, 31)
    point[:, 15, 15] = 1
    blurred = apply(point, replace(still(31, 31), kernel=9))[0]
    ys = torch.arange(31) - 15.0
    assert blurred.sum() == pytest.approx(1, abs=1e-4)
    assert float((blurred.sum(1) * ys**2).sum()) ** 0.5 == pytest.approx(1.7, rel=0.05)  # 0.15 · 9 + 0.35
    assert blurred[15 - 5, 15] == 0 and blurred[15 - 4, 15] > 0
    white = torch.ones(3, 20, 20)
    torch.testing.assert_close(apply(white, replace(still(20, 20), kernel=9)), white)  # no dark rim


def test_colour_and_brightness():
    red = torch.tensor([0.8, 0.2, 0.2])[:, None, None].expand(3, 10, 10)
    bright = apply(red, replace(still(10, 10), brightness=1.1))
    torch.testing.assert_close(bright[:, 5, 5], torch.tensor([0.88, 0.22, 0.22]), atol=1e-4, rtol=0)
    pale = apply(red, replace(still(10, 10), saturation=0.95))[:, 5, 5]
    torch.testing.assert_close(pale, torch.tensor([0.8, 0.23, 0.23]), atol=1e-3, rtol=0)  # saturation 0.75 · 0.95
    orange = apply(red, replace(still(10, 10), hue=0.05))[:, 5, 5]
    torch.testing.assert_close(orange, torch.tensor([0.8, 0.2 + 0.6 * 0.3, 0.2]), atol=2e-3, rtol=0)  # 18° of the 60° to yellow
    grey = torch.cat([torch.full((3, 4, 10), 0.2), torch.full((3, 4, 10), 0.6)], 1)
    wide = apply(grey, replace(still(8, 10), contrast=1.05))
    assert (wide[0, 1, 1], wide[0, 6, 1]) == pytest.approx((0.19, 0.61), abs=1e-3)  # about their mean, 0.4


def test_the_generator_decides_alone():
    image = torch.rand(3, 150, 140, generator=generator("image"))
    torch.manual_seed(1)
    first = Augment()(image, generator("a"))
    torch.manual_seed(2)
    assert torch.equal(first, Augment()(image, generator("a")))
    other = Augment()(image, generator("b"))
    assert other.shape != first.shape or not torch.equal(other, first)


def test_half_precision_and_range():
    image = torch.rand(3, 150, 140, generator=generator("image"))
    for i in range(10):
        result = Augment()(image.bfloat16(), generator(i))
        assert result.dtype == torch.bfloat16 and result.min() >= 0 and result.max() <= 1
