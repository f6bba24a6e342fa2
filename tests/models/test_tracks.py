from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from curation.models.boxes import same_place
from curation.models.tracks import Candidate, Track, assign, follow, similarity, tracks

SIZE = (180, 320)
COLOURS = {"red": (200, 30, 30), "blue": (30, 40, 200), "white": (240, 240, 240), "green": (40, 160, 60)}


def paint(boxes: dict[str, tuple[int, int, int, int]]) -> np.ndarray:
    """A grey frame with a coloured rectangle per entry, two-coloured so that the histograms are not of one bin."""
    image = np.full((*SIZE, 3), 110, np.uint8)
    for name, (x0, y0, x1, y1) in boxes.items():
        image[y0:y1, x0:x1] = COLOURS[name]
        image[(y0 + y1) // 2 : y1, x0:x1] //= 2
    return image


def person(box: tuple[int, int, int, int], score: float = 0.6) -> Candidate:
    return Candidate(tuple(map(float, box)), "person", score, "person")


def boxes_of(shown: list) -> list:
    return [None if s is None else tuple(map(int, s.box)) for s in shown]


def test_one_individual_is_followed_though_another_is_surer_for_a_moment() -> None:
    red = [(20, 40, 90, 170), (40, 40, 110, 170), (60, 40, 130, 170)]
    blue = [(230, 40, 300, 170), (210, 40, 280, 170), (190, 40, 260, 170)]
    frames = [paint({"red": r, "blue": b}) for r, b in zip(red, blue, strict=True)]
    sure = [(0.8, 0.6), (0.6, 0.8), (0.8, 0.6)]
    found = [[[person(r, s), person(b, t)]] for r, b, (s, t) in zip(red, blue, sure, strict=True)]
    (shown,) = follow(frames, ["man"], found, 0.35)
    assert boxes_of(shown) == red
    assert all(s is not None and s.link is not None and s.link > 0.8 for s in shown)


def test_two_words_of_a_kind_get_two_individuals_from_left_to_right() -> None:
    red = [(20, 40, 90, 170), (40, 40, 110, 170), (60, 40, 130, 170)]
    blue = [(220, 30, 300, 175), (210, 30, 290, 175), (200, 30, 280, 175)]
    frames = [paint({"red": r, "blue": b}) for r, b in zip(red, blue, strict=True)]
    found = [[[person(r), person(b, 0.8)]] * 2 for r, b in zip(red, blue, strict=True)]
    first, second = follow(frames, ["man", "father"], found, 0.35)
    assert boxes_of(first) == red and boxes_of(second) == blue


def test_a_much_larger_one_is_named_first() -> None:
    small, large = (20, 100, 50, 170), (150, 10, 290, 175)
    frame = paint({"red": small, "blue": large})
    first, second = follow([frame], ["woman", "child"], [[[person(small), person(large)]] * 2], 0.35)
    assert boxes_of(first) == [large] and boxes_of(second) == [small]


def test_the_colour_a_word_names_picks_the_car() -> None:
    blue, white = (100, 40, 250, 170), (10, 100, 60, 140)
    frame = paint({"blue": blue, "white": white})
    cars = [Candidate(tuple(map(float, b)), "car", s, "car") for b, s in ((blue, 0.8), (white, 0.5))]
    assert boxes_of(follow([frame], ["car"], [[cars]], 0.35)[0]) == [blue]
    assert boxes_of(follow([frame], ["white car"], [[cars]], 0.35)[0]) == [white]
    one, other = follow([frame], ["white car", "blue car"], [[cars, cars]], 0.35)
    assert boxes_of(one) == [white] and boxes_of(other) == [blue]


def test_one_box_for_two_words_goes_to_the_first() -> None:
    box = (100, 40, 170, 170)
    first, second = follow([paint({"red": box})] * 3, ["man", "woman"], [[[person(box)]] * 2] * 3, 0.35)
    assert boxes_of(first) == [box] * 3 and boxes_of(second) == [None] * 3


def test_a_weak_box_counts_only_beside_a_strong_one() -> None:
    box = (100, 40, 170, 170)
    frames = [paint({"red": box})] * 2
    assert boxes_of(follow(frames, ["man"], [[[person(box, 0.3)]], [[person(box, 0.6)]]], 0.35)[0]) == [box, box]
    assert boxes_of(follow(frames, ["man"], [[[person(box, 0.3)]], [[person(box, 0.3)]]], 0.35)[0]) == [None, None]


@pytest.mark.parametrize("seed", range(30))
def test_words_of_a_kind_never_share_a_box(seed: int) -> None:
    rng = np.random.default_rng(seed)
    words, frames, found = ["man", "woman", "boy", "girl"][: rng.integers(2, 5)], [], []
    for _ in range(3):
        corners = rng.integers(0, [260, 120], (rng.integers(0, 8), 2))
        row = [person((x, y, x + w, y + h), s) for (x, y), w, h, s in zip(
            corners.tolist(), rng.integers(10, 200, len(corners)).tolist(), rng.integers(10, 120, len(corners)).tolist(),
            rng.uniform(0.2, 0.9, len(corners)).tolist(), strict=True)]  # fmt: skip
        found.append([[c._replace(score=min(1, c.score * rng.uniform(0.8, 1.2))) for c in row] for _ in words])
        frames.append(rng.integers(0, 256, (*SIZE, 3), np.uint8))
    shown = follow(frames, words, found, 0.35)
    assert any(s for row in shown for s in row) == any(c.score >= 0.35 for row in found for word in row for c in word)
    for f in range(3):
        taken = [row[f].box for row in shown if row[f]]
        assert not any(same_place(box, taken[:i]).any() for i, box in enumerate(taken))
    for row in shown:
        assert all(s is None for s in row) or max(s.score for s in row if s) >= 0.35


def test_the_assignment_is_the_best_of_all() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        options = []
        for _ in range(3):
            picks = {tuple(int(v) if v else None for v in rng.integers(0, 4, 3)) for _ in range(8)} - {(None, None, None)}
            options.append(sorted((Track(float(rng.uniform(0.1, 3)), p) for p in sorted(picks, key=str)), key=lambda t: -t.score))
        legal = []
        for combination in product(*([*choices, None] for choices in options)):
            places = [(f, b) for t in combination if t for f, b in enumerate(t.boxes) if b is not None]
            if len(places) == len(set(places)):
                legal.append(sum(t.score for t in combination if t))
        assert sum(t.score for t in assign(options) if t) == pytest.approx(max(legal))


def test_a_track_leaves_out_a_box_that_looks_like_another_individual() -> None:
    values: list[dict[int, float]] = [{0: 0.5}, {0: 0.5}]
    assert tracks(values, {(0, 0, 1, 0): 0.9})[0].boxes == (0, 0)
    assert tracks(values, {(0, 0, 1, 0): 0.1})[0].boxes in ((0, None), (None, 0))


def test_a_sighting_unlike_the_others_is_a_stranger_and_their_links_leave_it_out() -> None:
    boxes = [(10.0, 10.0, 40.0, 60.0)] * 3
    found = [[[Candidate(box, "man", score, "person")]] for box, score in zip(boxes, (0.8, 0.7, 0.9), strict=True)]
    frames = [np.full((100, 100, 3), 90, np.uint8)] * 3
    ((one, two, other),) = follow(frames, ["man"], found, 0.35, Alike({(0, 1): 0.9, (0, 2): 0.4, (1, 2): 0.3}))
    assert (one.link, two.link, other.link) == pytest.approx((0.65, 0.6, 0.35)) and not other.stranger
    ((one, two, other),) = follow(frames, ["man"], found, 0.35, Alike({(0, 1): 0.9, (0, 2): 0.4, (1, 2): 0.3}), 0.5)
    assert (one.link, two.link, other.link) == pytest.approx((0.9, 0.9, 0.35))
    assert [one.stranger, two.stranger, other.stranger] == [False, False, True]


def test_of_two_unlike_sightings_the_surer_stays() -> None:
    found = [[[Candidate((10.0, 10.0, 40.0, 60.0), "man", score, "person")]] for score in (0.8, 0.9)]
    frames = [np.full((100, 100, 3), 90, np.uint8)] * 2
    ((weak, sure),) = follow(frames, ["man"], found, 0.35, Alike({(0, 1): 0.4}), 0.5)
    assert weak.stranger and not sure.stranger and sure.link is None


class Alike:
    """Likeness by frame, as told."""

    def __init__(self, links: dict[tuple[int, int], float]):
        self.links = links

    def looks(self, frames, boxes):  # type: ignore[no-untyped-def]
        return [[np.array(f) for _ in row] for f, row in enumerate(boxes)]

    def similarity(self, a, b, look_a, look_b):  # type: ignore[no-untyped-def]
        return self.links[int(look_a), int(look_b)]


@pytest.mark.parametrize("box", [(319.6, 10, 320, 50), (320, 10, 320, 50), (40, 180, 90, 180), (-30, -20, -5, -5)])
def test_a_box_of_no_area_or_at_the_rim_is_followed_like_others(box: tuple[int, int, int, int]) -> None:
    whole = person((100, 40, 170, 170), 0.9)
    odd = Candidate(box, "person", 0.8, "person")
    shown = follow([paint({}), paint({})], ["white man", "woman"], [[[whole, odd], [whole, odd]], [[odd], []]], 0.3)
    assert {s.box for row in shown for s in row if s} == {whole.box, odd.box}


def test_similarity_falls_with_colour_and_distance() -> None:
    same, far = np.eye(4, dtype=np.float32)[0], np.eye(4, dtype=np.float32)[1]
    near, away = (0.0, 0.0, 10.0, 20.0), (100.0, 0.0, 110.0, 20.0)
    assert similarity(near, near, same, same) == pytest.approx(1)
    assert similarity(near, away, same, same) == pytest.approx(0.7, abs=0.01)
    assert similarity(near, near, same, far) == pytest.approx(0.3)
