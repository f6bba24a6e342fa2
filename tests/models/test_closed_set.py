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
        mask, score = backend.mask(frame, candidates[0].box, "person")
        assert mask.shape == frame.shape[:2] and mask.dtype == bool
        assert mask[45:85, 62:92].mean() > 0.95, "his face"
        assert mask[:12, :30].mean() < 0.05, "the ceiling"
        assert score > 0.8


def test_a_person_whom_the_matte_does_not_see_is_uncertain(backend: ClosedSet) -> None:
    image = np.full((240, 320, 3), (60, 140, 70), np.uint8)
    cv2.rectangle(image, (100, 60), (220, 200), (150, 40, 40), -1)
    mask, score = backend.mask(image, (95.0, 55.0, 225.0, 205.0), "person")
    assert score < 0.5 and mask.any()


def test_a_thing_is_scored_by_whether_its_middle_leads_to_it_too(backend: ClosedSet) -> None:
    image = np.full((240, 320, 3), (90, 140, 90), np.uint8) + np.random.default_rng(0).integers(0, 20, (240, 320, 3), np.uint8)
    truth = cv2.ellipse(np.zeros((240, 320), np.uint8), (160, 120), (70, 50), 0, 0, 360, 1, -1).astype(bool)
    image[truth] = (200, 60, 40)
    mask, score = backend.mask(image, (90.0, 70.0, 230.0, 170.0), "car")
    assert agreement(mask, truth) > 0.9 and score > 0.9


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
    mask, score = backend.mask(man[0], box, label, others=[(0.0, 0.0, 176.0, 144.0), box])
    assert np.count_nonzero(mask) <= 40 and 0 <= score <= 1
