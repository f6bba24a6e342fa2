from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from curation.media.members import from_npy, to_rle
from curation.sample import Sample
from curation.shards.clip import entities
from curation.stage import apply
from curation.stages.reference_presets import PRESETS
from curation.stages.score_references import ScoreReferences
from curation.store import store

FACE = {"frame": 0, "box": [49, 38, 102, 104], "score": 0.9, "inside": 0.9, "landmarks": []}


def frame(video: str, time: float) -> np.ndarray:
    with av.open(str(store.path("sample-videos") / f"{video}.mp4")) as container:
        return next(f for f in container.decode(video=0) if f.time >= time).to_ndarray(format="rgb24")


@pytest.fixture(scope="module")
def man() -> np.ndarray:
    """To the chest, 176×144."""
    return frame("carphone_pristine", 1.33)


@pytest.fixture(scope="module")
def street() -> np.ndarray:
    """640×272: at (101, 0, 254, 233) somebody's legs and hands, the rest is above the frame."""
    return frame("bikes", 7.63)


def box(image: np.ndarray, x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros(image.shape[:2], bool)
    mask[y0:y1, x0:x1] = True
    return mask


def clip(image: np.ndarray, *found: tuple[str, np.ndarray | None], **more: Any) -> Sample:
    """A clip of one frame; by word its label and its mask, None if it was not found. `more`: of the first reference."""
    words, seen, files = [], [], {}
    for i, (label, mask) in enumerate(found):
        words.append({"word": label, "kind": "subject", "span": [0, 1]})
        refs = []
        if mask is not None:
            ys, xs = np.nonzero(mask)
            edges = [int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1]
            ref = {"frame": 0, "label": label, "score": 0.8, "box": edges, "mask": to_rle(mask), "mask_score": 0.95}
            refs = [{**ref, "area": float(mask.mean()), "alike": 0, "link": None, "member": f"ref.{i}.0.webp"}]
            files[f"ref.{i}.0.webp"] = b"a cut-out"
            if i == 0:
                refs[0] |= more
        seen.append({"label": label, "rivals": 1, "refs": refs, "misses": [], "reason": None if refs else "not_localised"})
    files["frame0.jpg"] = cv2.imencode(".jpg", image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, 95))[1].tobytes()
    meta = {
        "source": {"caption": ""},
        "extract_entities": {"entities": words},
        "segment_entities": {"entities": seen},
        "crop_faces": {"faces": [], "misses": []},
    }
    return Sample("k", files, meta)


def with_face(sample: Sample, where: str = "faces", **more: Any) -> Sample:
    face = {**FACE, **({"entity": 0, "member": "face.0.0.jpg"} if where == "faces" else {"reason": "small"}), **more}
    sample.meta["crop_faces"][where].append(face)
    if where == "faces":
        sample.files["face.0.0.jpg"] = b"a face"
    return sample


def scored(sample: Sample, **knobs: Any) -> Sample:
    """Of masks that are boxes nothing is said to be clipped."""
    stage = ScoreReferences(**{"max_clipped": 1.0} | knobs)
    stage.load()
    return apply(stage, [sample])[0]


def refused(sample: Sample) -> list[str | None]:
    return [ref.get("refused") for entity in sample.meta["segment_entities"]["entities"] for ref in entity["refs"]]


def measures(sample: Sample, entity: int = 0) -> dict[str, Any]:
    return sample.meta["score_references"]["entities"][entity][0]


def test_a_man_is_known_by_his_body_and_by_his_face(man: np.ndarray) -> None:
    body = box(man, 27, 15, 170, 144)
    for sample, by_face in ((clip(man, ("person", body)), 0.0), (with_face(clip(man, ("person", body))), 0.9)):
        found = scored(sample)
        assert found.alive and refused(found) == [None] and measures(found)["face"] == by_face
        assert (measures(found)["pose"] is None) == bool(by_face), "the network is spared where there is a face"
    assert measures(scored(clip(man, ("person", body))))["seen"] == 0.4, "head and shoulders of five parts"


def test_a_face_too_small_to_be_kept_is_one(street: np.ndarray) -> None:
    legs = box(street, 101, 0, 254, 233)
    small = with_face(clip(street, ("person", legs)), "misses", box=[150, 10, 170, 30])
    assert refused(scored(small)) == [None]
    beside = with_face(clip(street, ("person", legs)), "misses", box=[350, 10, 370, 30])
    assert refused(scored(beside)) == ["part_only"]


def test_legs_are_no_person(street: np.ndarray) -> None:
    sample = clip(street, ("person", box(street, 101, 0, 254, 233)))
    found = scored(copy.deepcopy(sample))
    assert (found.verdict.status, found.verdict.reason) == ("rejected", "no_good_reference")
    assert refused(found) == ["part_only"] and measures(found)["presence"] is not None
    assert refused(scored(copy.deepcopy(sample), people="any")) == [None]
    assert refused(scored(clip(street, ("vase", box(street, 101, 0, 254, 233))))) == [None], "only people have upper bodies"
    tiny = clip(street, ("person", box(street, 110, 10, 160, 60)))
    assert refused(scored(tiny)) == [None] and measures(tiny)["pose"] is None, "under 2 % of the frame it is not asked"


def test_both_networks_must_be_sure(street: np.ndarray) -> None:
    sample = clip(street, ("person", box(street, 101, 0, 254, 233)))
    assert refused(scored(copy.deepcopy(sample), min_pose=0.0, min_presence=0.0)) == [None]
    assert refused(scored(copy.deepcopy(sample), min_pose=0.0, min_presence=0.99)) == ["part_only"]
    assert refused(scored(copy.deepcopy(sample), min_pose=0.99, min_presence=0.0)) == ["part_only"]


def test_somebody_else_in_the_picture_does_not_count(street: np.ndarray, man: np.ndarray) -> None:
    both = street.copy()
    both[100:244, 440:616] = man
    legs = ("person", box(street, 101, 0, 254, 233))
    assert refused(scored(clip(both, legs, ("chair", box(street, 440, 100, 616, 244))))) == ["part_only", None]


def test_what_a_classifier_does_not_recognise(street: np.ndarray) -> None:
    """Wheels and frame of a bicycle, which is no cat."""
    waits = frame("bikes", 5.41)
    there = box(waits, 385, 171, 503, 272)
    found = scored(clip(waits, ("bicycle", there)))
    assert refused(found) == [None] and measures(found)["recognised"] > 0.2
    wrong = scored(clip(waits, ("cat", there)))
    assert refused(wrong) == ["not_recognised"] and measures(wrong)["recognised"] < 0.01
    assert refused(scored(clip(waits, ("cat", there)), min_recognised=0.0)) == [None]
    by_word = scored(clip(waits, ("old bicycle", there)))  # as groundingdino labels
    assert measures(by_word)["recognised"] == measures(found)["recognised"]
    assert refused(scored(clip(waits, ("grey kitten", there)))) == ["not_recognised"]
    assert measures(scored(clip(waits, ("chair", there))))["recognised"] is None, "no class to be recognised by"


def several(*images: np.ndarray, scores: tuple[float, ...] = (0.8, 0.8, 0.8)) -> Sample:
    """One entity that fills frame after frame, but for its border."""
    sample = clip(images[0], ("chair", box(images[0], 10, 10, images[0].shape[1] - 10, images[0].shape[0] - 10)))
    refs = sample.meta["segment_entities"]["entities"][0]["refs"]
    for number, image in enumerate(images[1:], 1):
        other = clip(image, ("chair", box(image, 10, 10, image.shape[1] - 10, image.shape[0] - 10)))
        member = f"ref.0.{number}.webp"
        refs.append(other.meta["segment_entities"]["entities"][0]["refs"][0] | {"frame": number, "member": member})
        sample.files |= {f"frame{number}.jpg": other.files["frame0.jpg"], member: b"a cut-out"}
    for ref, score in zip(refs, scores, strict=False):
        ref["score"] = score
    return sample


def test_a_stranger_among_the_references_of_one(man: np.ndarray, street: np.ndarray) -> None:
    later = frame("carphone_pristine", 3.0)
    alike = scored(several(man, later, man))
    assert refused(alike) == [None] * 3
    likeness = [one["likeness"] for one in alike.meta["score_references"]["entities"][0]]
    assert likeness[0] == likeness[2] > likeness[1] > 0.55
    assert refused(scored(several(man, street, later))) == [None, "other_individual", None]
    assert refused(scored(several(man, street, scores=(0.5, 0.9)))) == ["other_individual", None], "the surer one stays"
    assert refused(scored(several(man, street), min_likeness=0.0)) == [None, None]
    assert measures(scored(several(man)))["likeness"] is None
    small = several(man, street, later)
    small.meta["segment_entities"]["entities"][0]["refs"][1]["alike"] = 1
    assert refused(scored(small)) == [None, "ambiguous", None]
    assert small.meta["score_references"]["entities"][0][1]["likeness"] is None, "what is refused anyway is not compared"


def test_what_is_refused_is_not_published_and_stays_in_the_metadata(street: np.ndarray) -> None:
    legs, bicycle = box(street, 101, 0, 254, 233), box(street, 300, 20, 560, 220)
    sample = with_face(clip(street, ("person", legs), ("vase", bicycle)), score=0.3, box=[400, 10, 430, 40])
    found = scored(sample)
    assert found.alive and sorted(found.files) == ["frame0.jpg", "ref.1.0.webp", "refs.npy"]
    person, thing = entities(found)
    assert person["refs"][0]["member"] is None and person["refs"][0]["refused"] == "part_only"
    assert person["refs"][0]["mask"] and person["refs"][0]["face"]["member"] is None
    assert thing["refs"][0]["member"] == "ref.1.0.webp" and not thing["refs"][0].get("refused")
    json.dumps(found.meta)


def test_two_entities_do_not_hold_the_same_pixels(street: np.ndarray) -> None:
    """The surer one keeps them; one that is refused anyway has no claim."""
    dog, same = box(street, 300, 20, 560, 220), box(street, 300, 20, 550, 220)
    assert refused(scored(clip(street, ("chair", dog), ("bench", same), score=0.5))) == ["same_pixels", None]
    assert refused(scored(clip(street, ("chair", dog), ("bench", same), score=0.9))) == [None, "same_pixels"]
    legs = box(street, 101, 0, 254, 233)
    assert refused(scored(clip(street, ("person", legs), ("chair", legs), score=0.99))) == ["part_only", None]
    apart = box(street, 430, 20, 640, 220)
    assert refused(scored(clip(street, ("chair", dog), ("bench", apart)))) == [None, None]
    assert refused(scored(clip(street, ("chair", dog), ("bench", same)), max_overlap=0.99)) == [None, None]


def test_a_word_that_may_mean_another_one(street: np.ndarray) -> None:
    dog = box(street, 300, 20, 560, 220)
    assert refused(scored(clip(street, ("chair", dog), alike=1))) == ["ambiguous"]
    assert refused(scored(clip(street, ("chair", dog), alike=1), ambiguous="keep")) == [None]
    assert refused(scored(clip(street, ("chair", dog), ("chair", None)))) == ["ambiguous"], "one of two was found: which?"
    assert refused(scored(clip(street, ("chair", dog), ("bench", None)))) == [None]


def test_who_does_it_and_to_whom_is_not_guessed(man: np.ndarray) -> None:
    """One of two that look human was found: it might be the other."""
    body = box(man, 27, 15, 170, 144)
    for other, expected in (("doll", "ambiguous"), ("wooden statues", "ambiguous"), ("girl", "ambiguous"), ("cup", None)):
        sample = clip(man, ("person", body), (other, None))
        sample.meta["extract_entities"]["entities"][0]["word"] = "makeup artist"
        sample.meta["segment_entities"]["entities"][1]["label"] = None
        assert refused(scored(copy.deepcopy(sample))) == [expected], other
        assert refused(scored(copy.deepcopy(sample), ambiguous="keep")) == [None]
        sample.meta["extract_entities"]["entities"][1]["kind"] = "background"
        assert refused(scored(sample)) == [None], "the background is not looked for"
    both = clip(man, ("person", body), ("doll", box(man, 0, 0, 50, 50)))
    assert refused(scored(both))[0] is None, "the doll is there, too"
    assert refused(scored(clip(man, ("vase", body), ("doll", None)))) == [None], "a vase is no doll"


def test_faces_say_whose_a_reference_is(man: np.ndarray, panda: Path) -> None:
    """Two men side by side in one clip of panda70m-mini, whose bodies are alike enough for the embedding."""
    with av.open(str(panda / "clips/00000/0000051_00000.mp4")) as container:
        image = next(container.decode(video=0)).to_ndarray(format="rgb24")
    from curation.models.centerface import CenterFace

    one, other = sorted(CenterFace(store.path("centerface")).faces(image), key=lambda face: face.box)[:2]
    sample = several(image, image, image)
    for frame_number, face in enumerate((one, other, one)):
        box_ = [round(side, 2) for side in face.box]
        more = {"frame": frame_number, "box": box_, "member": f"face.0.{frame_number}.jpg"}
        with_face(sample, **more)
        sample.files[more["member"]] = b"a face"
    found = scored(copy.deepcopy(sample))
    assert refused(found) == [None, "other_individual", None]
    rows = found.meta["score_references"]["entities"][0]
    assert rows[1]["face_distance"] > 0.65 and rows[1]["likeness"] == 1.0 and "face.0.1.jpg" not in found.files
    assert refused(scored(copy.deepcopy(sample), max_face_distance=2.0)) == [None] * 3, "the pictures are the same"
    for face in sample.meta["crop_faces"]["faces"]:
        face["box"][2] = face["box"][0] + 39
    small = scored(sample)
    assert refused(small) == [None] * 3 and small.meta["score_references"]["entities"][0][1]["face_distance"] is None


def test_embeddings_are_rows_of_one_member(man: np.ndarray, street: np.ndarray) -> None:
    found = scored(several(man, street, man))
    rows = [one["embedding"] for one in found.meta["score_references"]["entities"][0]]
    assert rows == [0, None, 1]
    values = from_npy(found.files["refs.npy"])
    assert values.dtype == np.float16 and values.shape == (2, 1280)
    assert np.allclose(np.linalg.norm(values.astype(np.float32), axis=1), 1, atol=1e-3) and np.allclose(
        values[0], values[1], atol=1e-2
    )
    assert "refs.npy" not in scored(several(man, man), embeddings=False).files
    assert "refs.npy" in scored(several(man), preset="papers", embeddings=True).files


@pytest.mark.parametrize(
    "name, edges, expected",
    [
        ("truncation", (100, 50, 200, 150), 0.0),
        ("truncation", (0, 50, 100, 150), 0.25),
        ("truncation", (0, 0, 60, 272), 0.59),
        ("truncation", (0, 0, 640, 272), 1.0),
    ],
)
def test_what_the_frame_cuts_off(street: np.ndarray, name: str, edges: tuple[int, int, int, int], expected: float) -> None:
    found = scored(clip(street, ("chair", box(street, *edges))), min_sharpness=0.0)
    assert measures(found)[name] == pytest.approx(expected, abs=0.01)
    assert refused(found) == (["cut_off"] if expected > PRESETS["clean"]["max_truncation"] else [None])


def test_what_others_cover(street: np.ndarray) -> None:
    """A ring around something else: of its box that holds most, and none of what both hold."""
    ring = box(street, 100, 20, 300, 220) & ~box(street, 110, 30, 290, 210)
    found = scored(clip(street, ("chair", ring), ("bench", box(street, 110, 30, 290, 210))))
    assert measures(found)["covered"] == 0.81 and refused(found) == ["covered", None]
    both = scored(clip(street, ("chair", box(street, 100, 20, 300, 220)), ("bench", box(street, 110, 30, 220, 210))))
    assert measures(both)["covered"] == 0.0 and measures(both)["overlap"] == 0.495


def test_what_is_small_or_blurred(street: np.ndarray) -> None:
    assert refused(scored(clip(street, ("chair", box(street, 300, 20, 347, 220))))) == ["too_small"]
    assert refused(scored(clip(street, ("chair", box(street, 300, 20, 348, 220))))) == [None]
    assert refused(scored(clip(street, ("chair", box(street, 300, 20, 440, 160))), preset="hq")) == [None]
    assert refused(scored(clip(street, ("chair", box(street, 300, 20, 430, 60))), preset="hq")) == ["too_small"]
    where = box(street, 300, 20, 560, 220)
    sharp, blurred = clip(street, ("chair", where)), clip(cv2.GaussianBlur(street, (0, 0), 8), ("chair", where))
    assert refused(scored(sharp)) == [None] and refused(scored(blurred)) == ["blurred"]
    assert measures(sharp)["sharpness"] > 8 * measures(blurred)["sharpness"]


def test_a_person_that_a_straight_line_cuts_off(man: np.ndarray) -> None:
    """A disc with the man's face; without its right third."""
    whole = cv2.circle(np.zeros(man.shape[:2], np.uint8), (80, 70), 55, 1, -1).astype(bool)
    part = whole & box(man, 0, 0, 110, 144)
    for mask, label, expected in ((whole, "person", None), (part, "person", "clipped"), (part, "book", None)):
        found = scored(with_face(clip(man, (label, mask))), max_clipped=PRESETS["clean"]["max_clipped"])
        assert refused(found) == [expected] and (measures(found)["clipped"] > 0.1) == (mask is part)


def test_a_silhouette_is_dark(street: np.ndarray) -> None:
    where = box(street, 300, 20, 560, 220)
    dark = street // 6
    found = scored(clip(dark, ("chair", where)), min_sharpness=0.0)
    assert measures(found)["brightness"] < PRESETS["clean"]["min_brightness"] and refused(found) == ["dark"]
    assert refused(scored(clip(street, ("chair", where)), min_sharpness=0.0)) == [None]


def test_a_mask_of_which_two_ways_disagree_is_doubtful(street: np.ndarray) -> None:
    sample = clip(street, ("chair", box(street, 300, 20, 560, 220)), mask_score=0.89)
    assert refused(scored(copy.deepcopy(sample), min_mask=0.88)) == [None] and refused(scored(sample)) == ["doubtful_mask"]


def test_a_logo_over_what_moves(street: np.ndarray) -> None:
    """White letters on the street that passes by: on the chair, beside it, and that pass by with it."""
    where = box(street, 300, 20, 560, 220)

    def lettered(picture: np.ndarray, x: int) -> np.ndarray:
        return cv2.putText(picture.copy(), "NEWS", (x, 150), cv2.FONT_HERSHEY_SIMPLEX, 1.2, (255, 255, 255), 3)

    def windows(x: int, moves: bool) -> dict[str, bytes]:
        passing = [np.roll(street, 9 * k, axis=1) for k in range(24)]
        shown = [np.roll(lettered(street, x), 9 * k, axis=1) if moves else lettered(p, x) for k, p in enumerate(passing)]
        return {f"_window.{k:02d}.jpg": cv2.imencode(".jpg", p[..., ::-1])[1].tobytes() for k, p in enumerate(shown)}

    for x, moves, expected in ((350, False, "overlaid"), (20, False, None), (350, True, None)):
        sample = clip(lettered(street, x), ("chair", where))
        sample.files |= windows(x, moves)
        found = scored(copy.deepcopy(sample))
        assert refused(found) == [expected] and (measures(found)["overlaid"] > 0.003) == (expected == "overlaid")
        assert refused(scored(sample, max_overlaid=1.0)) == [None]
    assert ScoreReferences().window().frames == 24 and ScoreReferences(preset="papers").window().frames == 0


def test_the_papers_refuse_nothing(street: np.ndarray) -> None:
    """Whatever is wrong with it, and without a network."""
    stage = ScoreReferences(preset="papers")
    legs = box(street, 0, 0, 640, 272)
    sample = clip(np.full_like(street, 90), ("person", legs), ("chair", legs), ("person", None), alike=3)
    assert stage.models() == () and refused(scored(sample, preset="papers")) == [None, None]
    assert measures(sample)["truncation"] == 1.0 and sample.alive


def test_a_knob_wins_over_its_preset() -> None:
    stage = ScoreReferences(preset="hq", min_side=12)
    assert (stage.min_side, stage.max_covered) == (12, PRESETS["hq"]["max_covered"])


@pytest.mark.parametrize("require, status", [("subject", "rejected"), ("any", "kept"), ("none", "kept")])
def test_what_must_be_left(street: np.ndarray, require: str, status: str) -> None:
    sample = clip(street, ("person", box(street, 101, 0, 254, 233)), ("vase", box(street, 300, 20, 560, 220)))
    sample.meta["extract_entities"]["entities"][1]["kind"] = "object"
    assert scored(sample, require=require).verdict.status == status


def test_again_it_says_the_same(street: np.ndarray) -> None:
    """As where a batch is run again."""
    sample = with_face(
        clip(street, ("person", box(street, 101, 0, 254, 233)), ("vase", box(street, 300, 20, 560, 220))), score=0.2
    )
    once = copy.deepcopy(scored(sample).meta)
    assert scored(sample).meta == once


def test_a_clip_in_which_nothing_was_found(street: np.ndarray, tmp_path: Path) -> None:
    sample = scored(clip(street, ("chair", None)))
    assert sample.verdict.reason == "no_good_reference" and sample.meta["score_references"]["entities"] == [[]]
