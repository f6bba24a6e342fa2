from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from curation.models.closed_set import ClosedSet
from curation.models.grabcut import agreement
from curation.models.matte import Matte
from curation.models.nanodet import NanoDet
from curation.models.u2net import U2Net
from curation.models.wordnet import WordNet
from curation.store import store


@pytest.fixture(scope="module")
def backend() -> ClosedSet:
    cv2.setNumThreads(1)
    return ClosedSet(
        NanoDet(store.path("nanodet")), WordNet(store.path("wordnet")), Matte(store.path("selfie-segmentation")), 0.25
    )


def frames(path: Path, indices: Sequence[int]) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [f.to_ndarray(format="rgb24") for i, f in enumerate(container.decode(video=0)) if i in indices]


@pytest.fixture(scope="module")
def man() -> list[np.ndarray]:
    return frames(store.path("sample-videos") / "carphone_pristine.mp4", (6, 60, 114))


def test_words_outside_coco_have_no_label_and_no_box(backend: ClosedSet, man: list[np.ndarray]) -> None:
    assert backend.label("trombone") is None and backend.label("man") == "person"
    found = backend.localise(man, ["trombone", "man"])
    assert all(row[0] == [] and row[1] for row in found)
    assert backend.localise(man, ["trombone"]) == [[[]], [[]], [[]]]


def test_two_words_of_a_class_have_the_same_candidates(backend: ClosedSet, man: list[np.ndarray]) -> None:
    for one, other in backend.localise(man, ["man", "father"]):
        assert one == other


def test_a_family_member_counts_less_than_the_class_itself(backend: ClosedSet, panda: Path) -> None:
    jeep = frames(panda / "clips/00000/0000013_00000.mp4", (60,))
    ((as_car, as_truck),) = backend.localise(jeep, ["jeep", "truck"])
    assert as_car[0].kind == as_truck[0].kind
    for a, b in ((as_car[0], as_truck[0]),):
        assert {a.label, b.label} <= {"car", "truck", "bus"} and a.score != b.score


def test_the_mask_of_a_man_is_him(backend: ClosedSet, man: list[np.ndarray]) -> None:
    for frame, (candidates,) in zip(man, backend.localise(man, ["man"]), strict=True):
        mask, score, by = backend.mask(frame, candidates[0].box, "person")
        assert mask.shape == frame.shape[:2] and mask.dtype == bool
        assert mask[45:85, 62:92].mean() > 0.95, "his face"
        assert mask[:12, :30].mean() < 0.05, "the ceiling"
        assert score > 0.8 and by == "matte"


def test_a_person_whom_the_matte_does_not_see_is_uncertain(backend: ClosedSet) -> None:
    image = np.full((240, 320, 3), (60, 140, 70), np.uint8)
    cv2.rectangle(image, (100, 60), (220, 200), (150, 40, 40), -1)
    mask, score, by = backend.mask(image, (95.0, 55.0, 225.0, 205.0), "person")
    assert score < 0.5 and mask.any() and by == "matte"


def test_a_thing_is_scored_by_whether_its_middle_leads_to_it_too(backend: ClosedSet) -> None:
    image = np.full((240, 320, 3), (90, 140, 90), np.uint8) + np.random.default_rng(0).integers(0, 20, (240, 320, 3), np.uint8)
    truth = cv2.ellipse(np.zeros((240, 320), np.uint8), (160, 120), (70, 50), 0, 0, 360, 1, -1).astype(bool)
    image[truth] = (200, 60, 40)
    mask, score, by = backend.mask(image, (90.0, 70.0, 230.0, 170.0), "car")
    assert agreement(mask, truth) > 0.9 and score > 0.9 and by == "box"


def test_a_bowl_that_fills_the_frame_is_uncertain(backend: ClosedSet, panda: Path) -> None:
    (soup,) = frames(panda / "clips/00000/0000010_00000.mp4", (40,))
    box = (2.0, 2.0, 638.0, 358.0)
    assert backend.mask(soup, box, "bowl")[1] < 0.5


def test_neighbours_that_overlap_from_the_side_never_share_pixels(backend: ClosedSet, panda: Path) -> None:
    """Two men in suits, shoulder before shoulder; boxes by eye."""
    (frame,) = frames(panda / "clips/00000/0000051_00000.mp4", (5,))
    boxes = ((175.0, 25.0, 470.0, 358.0), (420.0, 10.0, 635.0, 358.0))
    alone = [backend.mask(frame, box, "person")[0] for box in boxes]
    masks = [backend.mask(frame, box, "person", boxes)[0] for box in boxes]
    assert (alone[0] & alone[1]).any()
    assert not (masks[0] & masks[1]).any()


@pytest.mark.parametrize("label", ["person", "car"])
@pytest.mark.parametrize("box", [(175.6, 10, 176, 50), (176, 10, 176, 50), (-40, -30, -5, -1), (200, 200, 300, 300)])
def test_a_box_of_no_area_or_outside_has_next_to_no_mask(
    backend: ClosedSet, man: list[np.ndarray], box: tuple[float, float, float, float], label: str
) -> None:
    mask, score, by = backend.mask(man[0], box, label, others=[(0.0, 0.0, 176.0, 144.0), box])
    assert np.count_nonzero(mask) <= 40 and 0 <= score <= 1 and by in ("box", "matte")


class Seeing:
    """Says that what is told stands out, and how often it was asked."""

    def __init__(self, *maps: np.ndarray):
        self._maps, self.asked = list(maps), 0

    def __call__(self, image: np.ndarray) -> np.ndarray:
        self.asked += 1
        return self._maps[min(self.asked, len(self._maps)) - 1].astype(np.float32)


BOX = (90.0, 70.0, 230.0, 170.0)


def ellipse(*axes: int, at: tuple[int, int] = (160, 120)) -> np.ndarray:
    return cv2.ellipse(np.zeros((240, 320), np.uint8), at, axes, 0, 0, 360, 1, -1).astype(bool)


@pytest.fixture
def thing() -> np.ndarray:
    """A red ellipse that BOX is the box of, on green."""
    image = np.full((240, 320, 3), (90, 140, 90), np.uint8) + np.random.default_rng(0).integers(0, 20, (240, 320, 3), np.uint8)
    image[ellipse(70, 50)] = (200, 60, 40)
    return image


def seeing(backend: ClosedSet, *maps: np.ndarray) -> tuple[ClosedSet, Seeing]:
    eyes = Seeing(*maps)
    return ClosedSet(backend._detector, backend._names, backend._matte, salient=eyes), eyes


@pytest.mark.parametrize("label", ["car", "dog"])
def test_what_stands_out_in_a_box_is_cut_out_by_that(backend: ClosedSet, thing: np.ndarray, label: str) -> None:
    """The map is 3 px off: the picture's own edges count."""
    truth = ellipse(70, 50)
    able, _ = seeing(backend, 0.8 * np.roll(truth, 3, axis=1))
    mask, score, by = able.mask(thing, BOX, label)
    assert by == "saliency" and agreement(mask, truth) > 0.96 and 0.9 <= score < 0.97


def test_a_person_is_never_what_stands_out(backend: ClosedSet, thing: np.ndarray) -> None:
    able, eyes = seeing(backend, ellipse(70, 50))
    assert able.mask(thing, BOX, "person")[2] == "matte" and eyes.asked == 0


@pytest.mark.parametrize(
    "salient",
    [
        pytest.param(np.zeros((240, 320)), id="nothing"),
        pytest.param(ellipse(10, 10, at=(40, 40)), id="elsewhere"),
        pytest.param(ellipse(20, 15), id="a part"),
        pytest.param(ellipse(110, 80), id="more than the box"),
        pytest.param(ellipse(70, 50) * 0.45, id="hardly"),
        pytest.param(0.8 * (ellipse(70, 50) & (np.indices((240, 320)).sum(0) % 24 < 13)), id="what GrabCut does not see"),
    ],
)
def test_what_does_not_stand_out_in_its_box_has_the_mask_it_has_without(
    backend: ClosedSet, thing: np.ndarray, salient: np.ndarray
) -> None:
    able, eyes = seeing(backend, salient)
    plain, found = backend.mask(thing, BOX, "car"), able.mask(thing, BOX, "car")
    assert eyes.asked == 1 and found[1:] == plain[1:] and found[2] == "box" and np.array_equal(found[0], plain[0])


def test_where_much_might_stand_out_nothing_does(backend: ClosedSet) -> None:
    image = np.where(ellipse(60, 40)[..., None], np.array((200, 60, 40)), np.array((90, 140, 90))).astype(np.uint8)
    able, _ = seeing(backend, np.where(ellipse(60, 40), 0.98, 0.04), np.where(ellipse(60, 40), 0.98, 0.3))
    assert [able.mask(frame, BOX, "car")[2] for frame in (image, image.copy())] == ["saliency", "box"]


def test_a_frame_is_seen_once_for_all_its_boxes(backend: ClosedSet, thing: np.ndarray) -> None:
    frames = [thing, thing.copy(), thing.copy()]
    able, eyes = seeing(backend, ellipse(70, 50), np.zeros((240, 320)), ellipse(70, 50))
    for label in ("car", "dog"):
        assert [able.mask(frame, BOX, label)[2] == "saliency" for frame in frames] == [True, False, True]
    assert eyes.asked == 3
    able.mask(thing.copy(), BOX, "car")
    assert eyes.asked == 4, "another clip's"


def test_a_neighbour_keeps_its_pixels_from_what_stands_out(backend: ClosedSet, thing: np.ndarray) -> None:
    able, _ = seeing(backend, ellipse(70, 50))
    alone, beside = able.mask(thing, BOX, "car"), able.mask(thing, BOX, "car", [(200.0, 70.0, 340.0, 170.0)])
    assert alone[2] == beside[2] == "saliency" and alone[0][120, 225] and not beside[0][120, 225]
    assert beside[1] > 0.98


def test_a_jeep_loses_its_shadow(backend: ClosedSet, panda: Path) -> None:
    """Boxes and points by eye."""
    (frame,) = frames(panda / "clips/00000/0000013_00000.mp4", (8,))
    box = (0.0, 0.0, 428.0, 242.0)
    able = ClosedSet(backend._detector, backend._names, backend._matte, salient=U2Net(store.path("u2netp")))
    (before, *_), (mask, score, by) = (made.mask(frame, box, "car") for made in (backend, able))
    assert by == "saliency" and score > 0.9
    assert before[200:225, 150:290].mean() > 0.9 and mask[200:225, 150:290].mean() < 0.05, "between the wheels"
    assert mask[60:150, 40:300].mean() > 0.9


class Map:
    """Finds a trombone in the boxes it is told, and what it was given."""

    def __init__(self, *boxes: tuple[float, float, float, float]):
        self._boxes, self.given = boxes, []  # type: ignore[var-annotated]

    def label(self, word: str) -> str | None:
        return "trombone" if word == "trombone" else None

    def peaks(self, frame: np.ndarray, words: Sequence[str]) -> dict[int, tuple[float, float]]:
        return {i: (0.0, 0.0) for i, word in enumerate(words) if word == "trombone" and self._boxes}

    def box(self, *given: object) -> list[tuple[float, tuple[float, float, float, float]]]:
        self.given.append(given)
        return [(0.9, box) for box in self._boxes]


def mapped(backend: ClosedSet, *boxes: tuple[float, float, float, float]) -> tuple[ClosedSet, Map]:
    able = Map(*boxes)
    return ClosedSet(backend._detector, backend._names, backend._matte, 0.25, class_map=able), able  # type: ignore[arg-type]


def test_a_word_outside_coco_has_the_class_maps_box(backend: ClosedSet, man: list[np.ndarray]) -> None:
    able, seen = mapped(backend, (0.0, 0.0, 20.0, 20.0))
    (plain,), (found,) = (made.localise(man[:1], ["man", "trombone", "sky"]) for made in (backend, able))
    assert found[0] == plain[0] and found[2] == [] and able.label("man") == "person" and able.label("sky") is None
    assert found[1] == [((0.0, 0.0, 20.0, 20.0), "trombone", 0.9, "class_map", "class_map")]
    ((_, word, _, saliency, boxes),) = seen.given
    assert word == "trombone" and saliency is None and min(d.score for d in boxes) < 0.25 < max(d.score for d in boxes)
    assert mapped(backend)[0].localise(man[:1], ["trombone"]) == [[[]]]


def test_what_a_word_of_coco_might_mean_is_not_the_class_maps(backend: ClosedSet, man: list[np.ndarray]) -> None:
    ((his, *_),) = backend.localise(man[:1], ["man"])[0]
    able, _ = mapped(backend, his.box)
    assert able.localise(man[:1], ["man", "trombone"])[0][1] == [] and able.localise(man[:1], ["trombone"])[0][0]
