from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from pycocotools import mask as rle

from curation.sample import Sample
from curation.stage import apply
from curation.stages.crop_faces import CropFaces
from curation.store import store
from tests import tiny

FACE = (49, 38, 102, 104)
"""The man's face, by eye, in frame 40 of 176×144."""


@pytest.fixture(scope="module")
def man() -> np.ndarray:
    with av.open(str(store.path("sample-videos") / "carphone_pristine.mp4")) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)][40]


def loaded(**knobs: Any) -> CropFaces:
    stage = CropFaces(**knobs)
    stage.load()
    return stage


def mask(image: np.ndarray, left: int, top: int, right: int, bottom: int) -> np.ndarray:
    found = np.zeros(image.shape[:2], bool)
    found[top:bottom, left:right] = True
    return found


def make(image: np.ndarray, *people: np.ndarray | None, label: str = "person", kind: str = "subject") -> Sample:
    """A clip whose three frames are `image`; person E is segmented by the E-th mask on frame 1, or not found."""
    jpeg = cv2.imencode(".jpg", image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, 95))[1].tobytes()
    entities: list[dict[str, Any]] = []
    for entity, found in enumerate(people):
        refs = []
        if found is not None:
            code = rle.encode(np.asfortranarray(found.astype(np.uint8)))
            code = {"size": code["size"], "counts": code["counts"].decode()}
            refs = [{"frame": 1, "label": label, "score": 0.9, "mask": code, "member": f"ref.{entity}.1.webp"}]
        entities.append({"refs": refs, "reason": None if refs else "not_localised"})
    words = [{"word": "man", "kind": kind, "span": [0, 1]} for _ in people]
    meta = {"extract_entities": {"entities": words}, "segment_entities": {"entities": entities}}
    return Sample("k", {f"frame{i}.jpg": jpeg for i in range(3)}, meta)


def crop(stage: CropFaces, sample: Sample) -> dict[str, list[dict[str, Any]]]:
    (out,) = apply(stage, [sample])
    assert out.alive, out.verdict
    meta = out.meta["crop_faces"]
    assert {face["member"] for face in meta["faces"]} == {name for name in out.files if name.startswith("face.")}
    return meta


def test_one_person_one_face(man: np.ndarray) -> None:
    sample = make(man, mask(man, 10, 20, 150, 144))
    (face,) = crop(loaded(), sample)["faces"]
    assert (face["entity"], face["frame"], face["member"], face["inside"]) == (0, 1, "face.0.1.jpg", 1.0)
    np.testing.assert_allclose(face["box"], FACE, atol=5)
    assert face["score"] > 0.8 and len(face["landmarks"]) == 5
    jpeg = cv2.imdecode(np.frombuffer(sample.files["face.0.1.jpg"], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    x0, y0, x1, y1 = face["box"]
    top, bottom = int(y0 - 0.17 * (y1 - y0)), int(np.ceil(y1 + 0.03 * (y1 - y0)))
    expected = man[top:bottom, int(x0) : int(np.ceil(x1))]
    assert jpeg.shape == expected.shape
    assert np.abs(jpeg.astype(int) - expected).mean() < 6  # red and blue are not swapped: that gives more than 20


def test_a_crop_ends_at_the_frame(man: np.ndarray) -> None:
    image = np.ascontiguousarray(man[36:])
    sample = make(image, mask(image, 0, 0, 176, 108))
    (face,) = crop(loaded(extend_up=1.0), sample)["faces"]
    height = cv2.imdecode(np.frombuffer(sample.files["face.0.1.jpg"], np.uint8), cv2.IMREAD_COLOR).shape[0]
    assert height == int(np.ceil(face["box"][3] + 0.03 * (face["box"][3] - face["box"][1])))


def test_each_of_two_people_gets_their_own_face(man: np.ndarray) -> None:
    image = np.hstack([man, man[:, ::-1]])
    right, left = mask(image, 186, 20, 342, 144), mask(image, 10, 20, 166, 144)
    faces = {face["entity"]: face for face in crop(loaded(), make(image, right, left))["faces"]}
    assert faces[0]["box"][0] > 176 > faces[1]["box"][2]


def test_a_face_has_one_owner_the_one_whose_mask_holds_more_of_it(man: np.ndarray) -> None:
    partly, whole = mask(man, 0, 0, 90, 144), mask(man, 30, 0, 150, 144)
    (face,) = crop(loaded(), make(man, partly, whole))["faces"]
    assert (face["entity"], face["inside"]) == (1, 1.0)


def test_a_person_has_one_face_the_other_is_taken(man: np.ndarray) -> None:
    image = np.hstack([man, man[:, ::-1]])
    everything = mask(image, 0, 0, 352, 144)
    everything[:80, :60] = False  # of the left face a part is missing
    meta = crop(loaded(), make(image, everything))
    (face,) = meta["faces"]
    assert face["box"][0] > 176
    assert [miss["reason"] for miss in meta["misses"] if miss["score"] > 0.5] == ["taken"]


@pytest.mark.parametrize(
    ("reason", "knobs", "region"),
    [
        ("outside", {}, (110, 0, 176, 144)),
        ("small", {"min_side": 60}, (0, 0, 176, 144)),
        ("weak", {"min_score": 0.99}, (0, 0, 176, 144)),
    ],
)
def test_a_face_that_is_not_kept_says_why_and_the_clip_stays(
    man: np.ndarray, reason: str, knobs: dict[str, Any], region: tuple[int, int, int, int]
) -> None:
    meta = crop(loaded(**knobs), make(man, mask(man, *region)))
    assert meta["faces"] == []
    best = max(meta["misses"], key=lambda miss: miss["score"])
    assert best["reason"] == reason and set(best) == {"frame", "box", "score", "inside", "reason"}


@pytest.mark.parametrize("change", [{"label": "dog"}, {"kind": "object"}])
def test_only_subjects_that_are_people_have_faces(man: np.ndarray, change: dict[str, str]) -> None:
    assert crop(loaded(), make(man, mask(man, 0, 0, 176, 144), **change)) == {"faces": [], "misses": []}


def test_a_clip_without_a_person_is_kept_and_no_frame_is_decoded(man: np.ndarray) -> None:
    sample = make(man, None)
    sample.files = dict.fromkeys(sample.files, b"not a jpeg")
    assert crop(loaded(), sample) == {"faces": [], "misses": []}


def test_the_same_clip_gives_the_same_bytes(man: np.ndarray) -> None:
    stage = loaded()
    first, again = make(man, mask(man, 10, 20, 150, 144)), make(man, mask(man, 10, 20, 150, 144))
    assert crop(stage, first) == crop(stage, again)
    assert first.files == again.files


def test_input_metadata_is_not_touched(man: np.ndarray) -> None:
    sample = make(man, mask(man, 10, 20, 150, 144))
    before = copy.deepcopy(sample.meta)
    crop(loaded(), sample)
    assert {name: sample.meta[name] for name in before} == before


@pytest.fixture(scope="module")
def yolo(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny random YOLO."""
    pytest.importorskip("ultralytics", reason="needs the paper extra")
    return str(tiny.yolo_face(tmp_path_factory.mktemp("yolo") / "face.pt"))


@pytest.mark.paper
def test_yolo_faces_have_no_landmarks_and_lie_in_their_person(yolo: str, man: np.ndarray) -> None:
    sample = make(man, mask(man, 10, 20, 150, 144))
    meta = crop(loaded(model="yolo", weights=yolo, min_score=0.2, min_side=1), sample)
    (face,) = meta["faces"]
    assert face["landmarks"] == [] and face["inside"] == 1.0 and face["score"] >= 0.2
    assert Path(yolo).is_file() and any(miss["reason"] == "taken" for miss in meta["misses"])


@pytest.mark.paper
@pytest.mark.parametrize("person, faces", [(True, 1), (False, 0)])
def test_a_word_for_a_human_has_a_face_whatever_the_detector_calls_it(
    yolo: str, man: np.ndarray, person: bool, faces: int
) -> None:
    sample = make(man, mask(man, 10, 20, 150, 144), label="person" if not person else "woman")
    sample.meta["segment_entities"]["entities"][0]["person"] = person
    assert len(crop(loaded(model="yolo", weights=yolo, min_side=1), sample)["faces"]) == faces


def test_models_are_what_the_knobs_need() -> None:
    assert CropFaces().models() == ("centerface",)
    assert CropFaces(model="yolo").models() == ("yolo-face",)
    assert CropFaces(model="yolo", weights="face.pt").models() == ()
