"""Made-up recordings of screens: the same from the same seed, varied, and at rest as screens are."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from curation.quality import screen_cursor, screen_desktop, screen_kit, screens
from curation.quality.screen_kit import Clock, Kit

SIZE = (320, 180)
COUNT = 12
SECONDS = 6.0
LOOKS = [(name, False) for name in screens.SEEN] + [(name, True) for name in screens.UNSEEN]


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    noise = np.random.default_rng(0)
    coarse = [noise.integers(0, 256, (9, 16, 3)).astype(np.uint8) for _ in range(3)]
    return [cv2.resize(image, (160, 90), interpolation=cv2.INTER_CUBIC) for image in coarse]


def record(seed: int, pictures: list[np.ndarray], unseen: bool = False, size: tuple[int, int] = SIZE) -> np.ndarray:
    return screens.recording(np.random.default_rng(seed), pictures, size, COUNT, SECONDS, unseen)


def at_rest(video: np.ndarray) -> np.ndarray:
    """The share of pixels that stay, from each frame to the next."""
    steps = np.abs(video[1:].astype(np.int16) - video[:-1]).max(3) > 8
    return 1 - steps.mean((1, 2))


@pytest.mark.parametrize("unseen", [False, True])
def test_the_same_seed_gives_the_same_bytes(pictures, unseen):
    first, again = (record(3, pictures, unseen) for _ in range(2))
    assert first.tobytes() == again.tobytes()
    assert record(4, pictures, unseen).tobytes() != first.tobytes()


@pytest.mark.parametrize("size", [(320, 180), (240, 180), (180, 320), (213, 120)])
@pytest.mark.parametrize("unseen", [False, True])
def test_it_has_the_shape_that_was_asked_for(pictures, size, unseen):
    video = record(5, pictures, unseen, size)
    assert video.shape == (COUNT, size[1], size[0], 3) and video.dtype == np.uint8


def test_it_wants_a_picture():
    with pytest.raises(ValueError, match="at least one picture"):
        record(0, [])


@pytest.mark.parametrize("unseen", [False, True])
def test_every_look_is_drawn_and_no_other(pictures, unseen, monkeypatch):
    drawn = set()

    def noted(name, look):
        return lambda *args: drawn.add(name) or look(*args)

    for table in ("SEEN", "UNSEEN"):
        monkeypatch.setattr(screens, table, {name: noted(name, look) for name, look in getattr(screens, table).items()})
    for seed in range(40):
        screens.recording(np.random.default_rng(seed), pictures, (96, 54), 2, SECONDS, unseen)
    assert drawn == set(screens.UNSEEN if unseen else screens.SEEN)


@pytest.mark.parametrize(
    "table",
    [
        (screens.SEEN, screens.UNSEEN),
        screen_kit.PAPERS,
        screen_kit.FONTS,
        screen_cursor.POINTERS,
        [[manner for manner in manners if manner != "none"] for manners in screen_desktop.CHROMES],
    ],
    ids=["looks", "papers", "fonts", "cursors", "frames"],
)
def test_what_is_held_out_is_not_seen(table):
    seen, unseen = table
    assert not set(seen) & set(unseen)


@pytest.mark.parametrize("name, unseen", LOOKS)
def test_a_look_draws_text_at_any_size(pictures, name, unseen, monkeypatch):
    """Text and pictures have many sharp edges."""
    look = (screens.UNSEEN if unseen else screens.SEEN)[name]
    times = np.linspace(0, SECONDS, COUNT)
    for seed, (width, height) in enumerate([(640, 360), (300, 500), (264, 154), (1000, 200)]):
        kit = Kit.draw(np.random.default_rng(seed), pictures, 11, unseen)
        frames = [frame.copy() for frame in look(kit, (width, height), Clock(times, times))]
        assert len(frames) == COUNT
        assert all(frame.shape[1:] == (width, 3) and 0 < len(frame) <= height for frame in frames)
        assert any((frame != frames[0]).any() for frame in frames if frame.shape == frames[0].shape)
        if seed == 0:
            edges = np.abs(np.diff(frames[-1].astype(np.int16), axis=1)).max(2) > 40
            assert edges.mean() > 0.01


@pytest.mark.parametrize("unseen", [False, True])
def test_most_of_the_picture_rests_but_something_moves(pictures, unseen):
    videos = [record(seed, pictures, unseen) for seed in range(24)]
    assert np.median([np.median(at_rest(video)) for video in videos]) > 0.9
    assert all((video[1:] != video[:-1]).any() for video in videos)


def test_a_still_screen_is_drawn_again(pictures, monkeypatch):
    """The first of these has neither a cursor nor anything that goes on."""
    seen = screens._screen
    calls = []

    def first_still(kit, size, times):
        calls.append(1)
        frames, path = seen(kit, size, times)
        return (iter([next(frames)] * len(times)), path) if len(calls) == 1 else (frames, path)

    monkeypatch.setattr(screens, "_screen", first_still)
    monkeypatch.setattr(screens, "_framed", lambda kit, video, size: video)
    video = record(1, pictures)
    assert len(calls) > 1 and (video[1:] != video[:-1]).any()


def test_a_clock_is_busy_as_told():
    times = np.linspace(0, 2000, 4000)
    for busy in (0.2, 0.8):
        active = Clock.draw(np.random.default_rng(0), times, busy).active
        assert (np.diff(active) >= 0).all()
        assert active[-1] / times[-1] == pytest.approx(busy, abs=0.1)


def test_a_cursor_moves_on_the_screen():
    times = np.linspace(0, 8, 60)
    for seed in range(20):
        path, _ = screen_cursor.wander(np.random.default_rng(seed), times, (640, 360), 0.03)
        assert np.ptp(path, axis=0).max() > 1
        assert (np.abs(np.diff(path, axis=0)).max(1) < 1e-6).mean() > 0.2, "it pauses"
