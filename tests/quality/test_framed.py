"""What is laid over clips, and what is not."""

from __future__ import annotations

import numpy as np
import pytest

from curation.quality import framed
from curation.quality.examples import seeded

WAYS = ("inset", "blurred_sides", "template", "split", "standing", "webcam")


def clips(shape: tuple[int, int] = (90, 160)) -> list[np.ndarray]:
    """Three clips of one colour each that grows brighter, uint8 RGB [8, H, W, 3]."""
    made = []
    for colour in ((200, 0, 0), (0, 200, 0), (0, 0, 200)):
        clip = np.zeros((8, *shape, 3), np.uint8)
        clip[:] = colour
        made.append(clip + (np.arange(8, dtype=np.uint8) * 6)[:, None, None, None])
    return made


@pytest.mark.parametrize("size", [(320, 180), (180, 320), (640, 272), (200, 200)])
@pytest.mark.parametrize("way", WAYS)
def test_every_way_at_every_size(way: str, size: tuple[int, int]) -> None:
    for seed in range(3):
        made = [getattr(framed, way)(seeded(way, seed), clips(), size) for _ in range(2)]
        assert made[0].shape == (8, size[1], size[0], 3) and made[0].dtype == np.uint8 and np.array_equal(*made)
        assert len(np.unique(made[0][0].reshape(-1, 3), axis=0)) > 1, "there is more than one clip of one colour"


@pytest.mark.parametrize("way", ["barred", "subtitled", "branded", "captioned"])
def test_what_the_desirable_wear_leaves_most_of_them(way: str) -> None:
    clip = np.repeat(clips()[0], 2, axis=1).repeat(2, axis=2)
    for seed in range(8):
        worn = getattr(framed, way)(seeded(way, seed), clip)
        assert worn.shape == clip.shape
        share = (np.abs(worn.astype(int) - clip).max(axis=3) < 8).mean()
        assert (0.3 if way == "barred" else 0.8) < share < 1, (way, seed)


def test_a_box_holds_the_clip_and_nothing_else_changes() -> None:
    behind, front = clips()[:2]
    shown = framed.laid(np.random.default_rng(0), behind, front, (20, 10, 100, 70), plain=True)
    assert np.array_equal(shown[:, 10:70, 20:100], front[:, :60, :80])
    outside = np.ones(shown.shape[1:3], bool)
    outside[10:70, 20:100] = False
    assert np.array_equal(shown[:, outside], behind[:, outside])


def test_a_ticker_runs() -> None:
    clip = np.zeros((8, 90, 160, 3), np.uint8)
    shown = framed.ticker(seeded("t", 3), clip, 70, 90)
    assert not shown[:, :70].any() and len({frame[70:].tobytes() for frame in shown}) > 1


def test_patterns_are_more_than_a_colour() -> None:
    for seed in range(10):
        assert framed.pattern(seeded(seed), (160, 90)).std() > 3
