from __future__ import annotations

import jsonschema
import pytest

from curation import schemas
from curation.faults import DataError
from curation.sample import Sample
from curation.shards.clip import Clip, clip_json, owner
from tests.shards.made import OWNERS, PROVENANCE, sample


def clip(one: Sample) -> dict:
    return clip_json(one, OWNERS, PROVENANCE)


def test_what_any_stage_records_stands_under_its_name_and_fits_the_schema():
    one = sample(
        "a", sample_frames={"indices": [2, 25, 47]}, score_quality={"label": "desirable"}, score_aesthetic={"score": 0.5}
    )
    found = clip(one)
    assert found["score_aesthetic"] == {"score": 0.5} and found["score_quality"] == {"label": "desirable"}
    assert found["sample_frames"] == {"indices": [2, 25, 47]} and found["split_shots"] == one.meta["split_shots"]
    assert found["members"] == {"mp4": "split_shots", "frame0.jpg": "sample_frames"}
    schema = schemas.all_schemas()["clip.schema.json"]
    jsonschema.validate(found, schema)
    for bad in ({"score_aesthetic": 0.5}, {"members": {"mp4": None}}, {"video": {"width": 3}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(found | bad, schema)


def test_where_it_comes_from_with_its_labels_and_without_its_place_here():
    one = sample("a")
    one.meta["source"] |= {"path": "/data/v.mp4", "origin": [7.0, 9.0], "matching_score": 0.4, "label": {"by": "hand"}}
    one.meta["split_shots"] |= {"start": 1.5, "shot": 2}
    found = clip(one)["source"]
    assert found == {
        **{"video": "v", "url": "https://x/v", "start": 1.5, "end": 3.0, "shot": 2, "clip": "a"},
        **{"origin": [7.0, 9.0], "matching_score": 0.4, "label": {"by": "hand"}},
    }


def test_the_facts_of_the_video_come_from_whoever_made_it():
    one = sample("a", make_video={"width": 10, "height": 8, "fps": 5.0, "frames": 5, "seconds": 1.0, "encoded": True, "extra": 1})
    assert clip(one)["video"]["width"] == 64
    found = clip_json(one, {**OWNERS, "mp4": "make_video"}, PROVENANCE)
    assert found["video"] == {"width": 10, "height": 8, "fps": 5.0, "frames": 5, "seconds": 1.0, "encoded": True}
    del one.files["mp4"]
    assert clip(one)["video"] is None


def ref(frame: int, member: str) -> dict:
    mask = {"size": [32, 64], "counts": "0"}
    fact = {"label": "person", "box": [0, 0, 8, 8], "score": 0.9, "mask": mask, "mask_score": 0.9, "area": 0.1}
    return {"frame": frame, **fact, "member": member}


def test_entities_are_joined_and_what_they_are_joined_of_is_not_repeated():
    named = [{"word": "man", "kind": "subject", "span": [2, 5]}, {"word": "park", "kind": "background", "span": [0, 1]}]
    face = {"entity": 0, "frame": 1, "box": [1, 1, 4, 4], "score": 0.8, "inside": 1.0, "landmarks": [], "member": "face.0.1.jpg"}
    segmented = [{"refs": [ref(1, "ref.0.1.webp")], "misses": [], "reason": None, "rivals": 1}, {"refs": [], "reason": None}]
    made = {"frame": 1, "coverage": 0.5, "method": "plate", "member": None, "reason": "leak", "tried": 3}
    one = sample("a", extract_entities={"entities": named}, segment_entities={"entities": segmented})
    one.meta |= {"crop_faces": {"faces": [face]}, "inpaint_background": made}
    found = clip(one)
    man = found["entities"][0]
    assert (man["word"], man["rivals"], man["refs"][0]["face"]["member"]) == ("man", 1, "face.0.1.jpg")
    assert found["background"] == {"frame": 1, "coverage": 0.5, "method": "plate", "member": None, "reason": "leak"}
    assert not {"extract_entities", "segment_entities", "crop_faces", "inpaint_background"} & found.keys()
    assert Clip.model_validate(found).entities[0].refs[0].frame == 1


def test_words_that_nobody_looked_for_say_so():
    named = [{"word": "man", "kind": "subject", "span": [2, 5]}, {"word": "park", "kind": "background", "span": [0, 1]}]
    assert [e["reason"] for e in clip(sample("a", extract_entities={"entities": named}))["entities"]] == ["not_sought", None]


def test_what_does_not_fit_is_said_with_its_place():
    with pytest.raises(DataError, match="not_in_schema: video.frames: "):
        clip(sample("a", split_shots={"width": 1, "height": 1, "fps": 1.0, "frames": 0, "seconds": 1.0, "encoded": True}))


def test_an_owner_is_found_by_name_before_pattern():
    owners = {"*.jpg": "draws", "frame0.jpg": "takes"}
    assert [owner(suffix, owners) for suffix in ("frame0.jpg", "other.jpg", "mp4")] == ["takes", "draws", None]
