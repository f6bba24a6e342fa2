from __future__ import annotations

import cv2
import numpy as np

from curation.models import traces

HEIGHT, WIDTH, REACH = 360, 640, 10
THING = (slice(120, 240), slice(280, 340))


def ground() -> np.ndarray:
    """Grass: green, with grains and slow waves of light."""
    noise = np.random.default_rng(0)
    light = 1 + 0.08 * noise.normal(size=(HEIGHT, WIDTH)) + 0.05 * np.sin(np.arange(WIDTH) / 60)
    return np.clip(light[..., None] * (90, 140, 60), 0, 255).astype(np.uint8)


def thing(image: np.ndarray) -> np.ndarray:
    """Stands on it, red; its mask."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[THING] = True
    image[mask] = (200, 40, 40)
    return mask


def ellipse(centre: tuple[int, int] = (340, 238), axes: tuple[int, int] = (35, 9)) -> np.ndarray:
    return cv2.ellipse(np.zeros((HEIGHT, WIDTH), np.uint8), centre, axes, 0, 0, 360, 1, -1).astype(bool)


def darkened(image: np.ndarray, where: np.ndarray, by: tuple[float, float, float] = (0.5, 0.5, 0.55)) -> np.ndarray:
    image[where] = (image[where] * np.array(by)).astype(np.uint8)
    return image


def test_a_shadow_on_the_ground_is_found_and_little_else() -> None:
    image, cast = darkened(ground(), ellipse()), ellipse()
    mask = thing(image)
    found, truth = traces.shadow(image, mask, REACH), cast & ~mask
    assert (found & truth).sum() > 0.85 * truth.sum() and (found & truth).sum() > 0.8 * found.sum(), "a rim of 2 px at most"
    assert not (found & mask).any()


def test_nothing_is_found_where_there_is_no_shadow() -> None:
    image = ground()
    mask = thing(image)
    assert not traces.shadow(image, mask, REACH).any()


def test_what_is_dark_and_no_shadow_of_it_stays() -> None:
    another_hue = darkened(ground(), ellipse(), (0.9, 0.3, 0.5))
    far_off = darkened(ground(), ellipse(centre=(362, 238), axes=(9, 9)))
    darker_ground = darkened(ground(), np.pad(np.ones((20, 320), bool), ((230, 110), (320, 0))))
    large = darkened(ground(), ellipse(centre=(310, 235), axes=(45, 30)))
    for image in (another_hue, far_off, darker_ground, large):
        mask = thing(image)
        assert not traces.shadow(image, mask, REACH).any()


def test_uneven_ground_tells_nothing() -> None:
    """Bright patches and small dark squares, of which some touch the foot."""
    patches = np.random.default_rng(3).choice([1.0, 1.4], p=[0.6, 0.4], size=(HEIGHT // 8, WIDTH // 8))
    squares = (np.arange(WIDTH)[None] % 24 < 12) & (np.arange(HEIGHT)[:, None] % 24 < 14)
    light = np.where(squares, 0.7, patches.repeat(8, 0).repeat(8, 1))
    uneven = np.clip(light[..., None] * (90, 140, 60), 0, 255).astype(np.uint8)
    mask = thing(uneven)
    assert not traces.shadow(uneven, mask, REACH).any()


def test_a_foot_out_of_sight_tells_nothing() -> None:
    image = darkened(ground(), ellipse(centre=(360, 225), axes=(20, 8)))
    mask = thing(image)
    assert not traces.shadow(image[:240], mask[:240], REACH).any()


def test_the_rest_of_what_mostly_lies_in_the_mask_belongs_to_it() -> None:
    saliency, mask = np.zeros((100, 200), np.float32), np.zeros((100, 200), bool)
    saliency[20:80, 20:60], saliency[20:80, 100:180] = 0.9, 0.9
    mask[20:80, 10:50] = mask[20:80, 95:140] = True
    found = traces.belongings(saliency, mask)
    assert found[20:80, 50:60].all() and found.sum() == 600
    assert not traces.belongings(np.ones_like(saliency), mask).any(), "a whole scene that stands out is not its"
    assert not traces.belongings(np.zeros_like(saliency), mask).any()
