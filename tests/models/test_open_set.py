from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.paper
pytest.importorskip("groundingdino", reason="needs the paper extra")
pytest.importorskip("segment_anything", reason="needs the paper extra")

import torch  # noqa: E402

from curation.models.grounding_dino import GroundingDino, Hit  # noqa: E402
from curation.models.open_set import OpenSet  # noqa: E402
from curation.models.sam import SegmentAnything, View  # noqa: E402
from curation.models.tracks import MOST, Box, follow  # noqa: E402
from tests import tiny  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tiny.open_set(tmp_path_factory.mktemp("open"))


@pytest.fixture(scope="module")
def real(folder: Path) -> OpenSet:
    return OpenSet(detector(folder), SegmentAnything(folder / "sam_tiny.pth"), 0.3)


def detector(folder: Path) -> GroundingDino:
    return GroundingDino(folder / "groundingdino_tiny.pth", folder / "bert-base-uncased")


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (96, 128, 3), dtype=np.uint8)


class Known:
    """A detector that is told what it finds, by word, on every frame; it keeps what it was asked."""

    def __init__(self, **hits: list[Hit]):
        self.hits, self.asked = hits, []

    def __call__(self, frames, words, lowest):  # type: ignore[no-untyped-def]
        self.asked.append(words)
        return [[self.hits.get(word, []) for word in row] for row in words]


class Counted(SegmentAnything):
    """SAM that counts its passes."""

    def __init__(self, path: Path):
        super().__init__(path)
        self.embedded: list[int] = []
        self.masked: list[int] = []

    def look(self, frames):  # type: ignore[no-untyped-def]
        self.embedded.append(len(frames))
        return super().look(frames)

    def masks(self, view: View, boxes):  # type: ignore[no-untyped-def]
        self.masked.append(len(boxes))
        return super().masks(view, boxes)


def found(known: Known, *words: str, text_threshold: float = 0.0) -> list[list[tuple[Box, float]]]:
    """Boxes and scores by word, on one frame."""
    (row,) = OpenSet(known, None, 0.2, text_threshold).localise([picture(0)], words)  # type: ignore[arg-type]
    return [[(c.box, c.score) for c in candidates] for candidates in row]


LEFT, NEAR_LEFT, RIGHT = (0.0, 0.0, 40.0, 80.0), (0.0, 0.0, 41.0, 80.0), (60.0, 0.0, 110.0, 90.0)
COAT = (5.0, 30.0, 36.0, 80.0)


def test_of_two_words_that_claim_one_box_the_better_has_it_and_the_other_its_next() -> None:
    known = Known(man=[Hit(LEFT, 0.6, 0.6), Hit(RIGHT, 0.5, 0.5)], boy=[Hit(NEAR_LEFT, 0.8, 0.8)])
    assert found(known, "man", "boy") == [[(RIGHT, 0.5)], [(NEAR_LEFT, 0.8)]]


def test_a_coat_may_be_on_its_wearer() -> None:
    known = Known(woman=[Hit(LEFT, 0.8, 0.8)], coat=[Hit(COAT, 0.6, 0.6)])
    assert found(known, "woman", "coat") == [[(LEFT, 0.8)], [(COAT, 0.6)]]


def test_two_findings_of_one_thing_by_a_word_are_one() -> None:
    assert found(Known(man=[Hit(LEFT, 0.8, 0.8), Hit(COAT, 0.7, 0.7), Hit(RIGHT, 0.3, 0.3)]), "man") == [
        [(LEFT, 0.8), (RIGHT, 0.3)]
    ]


def test_one_token_of_several_is_not_enough() -> None:
    known = Known(**{"green bottle": [Hit(LEFT, 0.55, 0.2), Hit(RIGHT, 0.5, 0.4)]})
    assert found(known, "green bottle", text_threshold=0.25) == [[(RIGHT, 0.5)]]


def test_a_word_that_occurs_twice_is_asked_once_and_has_the_same_candidates() -> None:
    known = Known(man=[Hit(LEFT, 0.8, 0.8), Hit(RIGHT, 0.7, 0.7)])
    first, second, nothing = found(known, "man", "Man.", "?")
    assert known.asked == [[["man"]]] and first == second and len(first) == 2 and nothing == []


def test_two_men_get_a_box_each() -> None:
    known = Known(man=[Hit(LEFT, 0.8, 0.8), Hit(RIGHT, 0.7, 0.7)])
    frames = [picture(0)]
    candidates = OpenSet(known, None, 0.2).localise(frames, ["man", "man"])  # type: ignore[arg-type]
    one, other = follow(frames, ["man", "man"], candidates, 0.4)
    assert (one[0].box, other[0].box) == (LEFT, RIGHT)


def test_a_frame_is_embedded_once_and_a_box_masked_once(folder: Path) -> None:
    segmenter = Counted(folder / "sam_tiny.pth")
    boxes = [Hit(LEFT, 0.8, 0.8), Hit(RIGHT, 0.7, 0.7)]
    backend = OpenSet(Known(man=boxes, coat=[Hit(COAT, 0.6, 0.6)]), segmenter, 0.2)
    for clip in (0, 10):
        frames = [picture(clip + i) for i in range(3)]
        shown = follow(frames, ["man", "coat"], backend.localise(frames, ["man", "coat"]), 0.4, backend)
        for row in shown:
            for frame, sighting in zip(frames, row, strict=True):
                mask, score, by = backend.mask(frame, sighting.box, sighting.label)
                assert mask.shape == (96, 128) and mask.dtype == bool and 0 <= score <= 1 and by == "sam"
    assert segmenter.embedded == [3, 3], "all frames of a clip together"
    assert segmenter.masked == [3] * 6, "all boxes of a frame together"


def test_frames_without_a_box_are_not_embedded(folder: Path) -> None:
    segmenter = Counted(folder / "sam_tiny.pth")
    frames = [picture(0), picture(1)]
    looks = OpenSet(Known(), segmenter, 0.2).looks(frames, [[], [LEFT, RIGHT]])
    assert segmenter.embedded == [1] and [len(row) for row in looks] == [0, 2]


def test_the_same_thing_links_across_frames_and_another_is_a_stranger(folder: Path) -> None:
    rng = np.random.default_rng(3)
    things = [np.kron(rng.integers(0, 256, (4, 4, 3)), np.ones((10, 10, 1))).astype(np.uint8) for _ in range(2)]
    frames = []
    for thing in (things[0], things[0], things[1]):
        frame = np.full((128, 128, 3), 90, np.uint8)
        frame[48:88, 48:88] = thing
        frames.append(frame)
    box = (48.0, 48.0, 88.0, 88.0)
    backend = OpenSet(Known(dog=[Hit(box, 0.8, 0.8)]), Square(folder / "sam_tiny.pth"), 0.2)
    found = backend.localise(frames, ["dog"])
    ((one, same, other),) = follow(frames, ["dog"], found, 0.4, backend)
    assert same.link > other.link and not other.stranger
    ((one, same, other),) = follow(frames, ["dog"], found, 0.4, backend, (same.link + other.link) / 2)
    assert other.stranger and not one.stranger and not same.stranger
    assert one.link == same.link == pytest.approx(1, abs=1e-4), "without the stranger"


class Square(SegmentAnything):
    """SAM's features, with boxes for masks: those of random weights are no things."""

    def masks(self, view: View, boxes):  # type: ignore[no-untyped-def]
        masks = np.zeros((len(boxes), *view.size), bool)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
            mask[int(y0) : int(y1), int(x0) : int(x1)] = True
        return masks, np.full(len(boxes), 0.95, np.float32)


def test_clips_together_give_what_they_give_alone(real: OpenSet) -> None:
    clips = [([picture(i), picture(i + 1)], words) for i, words in enumerate((["man", "coat"], ["a cat"], []))]
    for clip, together in zip(clips, real.localise_all(clips), strict=True):
        alone = real.localise(*clip)
        assert [[len(c) for c in row] for row in together] == [[len(c) for c in row] for row in alone]
        assert all(len(c) <= MOST for row in together for c in row)
        for ours, theirs in zip(together, alone, strict=True):
            for a, b in zip(sum(ours, []), sum(theirs, []), strict=True):
                assert a.label == b.label and a.score == pytest.approx(b.score, abs=1e-4)
                assert a.box == pytest.approx(b.box, abs=0.05)


def test_each_thread_keeps_the_frames_that_it_saw(folder: Path) -> None:
    """Several units are in hand at once: what is seen for one does not push out the other's."""
    segmenter = Counted(folder / "sam_tiny.pth")
    backend, mine, theirs = OpenSet(Known(), segmenter, 0.2), picture(0), picture(1)
    backend.see([mine], [[LEFT]])
    with ThreadPoolExecutor(1) as other:
        other.submit(backend.see, [theirs], [[RIGHT]]).result()
    backend.mask(mine, LEFT, "man")
    assert segmenter.embedded == [1, 1] and segmenter.masked == [1, 1]
