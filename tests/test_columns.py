from __future__ import annotations

import json

import pyarrow as pa

from curation import columns, ledger
from curation.ledger import Unit
from tests.shards import made
from tests.shards.made import rejected, sample

REFS = [
    {"frame": 0, "label": "person", "area": 0.1, "member": "ref.0.0.webp"},
    {"frame": 1, "label": "person", "area": 0.3, "member": None, "refused": "blurred"},
    {"frame": 2, "label": "person", "area": 0.2, "member": "ref.0.2.webp", "mask_score": 0.91},
]
SCORES = {
    "extract_entities": {
        "entities": [
            {"word": "man", "kind": "subject", "span": [0, 3]},
            {"word": "red hat", "kind": "object", "span": [4, 7]},
            {"word": "street", "kind": "background", "span": [8, 9]},
        ]
    },
    "split_shots": {"seconds": 2.5, "shots": 1, "max_probability": 0.25},
    "sample_frames": {"width": 200, "height": 100},
    "score_quality": {"label": "desirable", "probabilities": {"desirable": 0.35}, "text_share": 0.5},
    "segment_entities": {
        "entities": [
            {"refs": REFS},
            {"refs": [{"frame": 1, "label": "hat", "area": 0.05, "member": "ref.1.1.webp"}]},
            {"refs": []},
        ]
    },
    "crop_faces": {
        "faces": [
            {"entity": 0, "frame": 0, "box": [10, 10, 30, 30], "member": "face.0.0.jpg"},
            {"entity": 0, "frame": 1, "box": [0, 0, 90, 90], "member": None},
        ]
    },
    "score_references": {
        "entities": [
            [
                {"frame": 0, "side": 90, "likeness": None, "brightness": 99.5, "clipped": 0.01, "overlaid": 0.002, "face": 0.9},
                {"frame": 1, "side": 3, "likeness": 0.1, "brightness": 3.0, "clipped": 0.9, "overlaid": 0.9, "face": 0.0},
                {"frame": 2, "side": 80, "likeness": 0.7, "brightness": 98.0, "clipped": 0.02, "face_distance": 0.4, "face": 0.0},
            ],
            [{"frame": 1, "side": 60, "clipped": 0.5}],
            [],
        ]
    },
    "inpaint_background": {"method": "none", "reason": "leaked", "coverage": 0.25},
}


def test_columns_say_what_the_scores_say():
    row = columns.of(SCORES)
    assert row["subject_words"] == ["man"] and row["object_words"] == ["red hat"]
    assert (row["subjects"], row["objects"], row["backgrounds"]) == (1, 1, 1)
    assert (row["refs"], row["refused"], row["persons"]) == (3, 1, 2)
    assert (row["subjects_found"], row["objects_found"]) == (1, 1)
    assert (row["found1"], row["found2"], row["found3"]) == (1, 1, 0)
    assert (row["smallest_mask"], row["mean_mask"]) == (0.05, 0.1167)
    assert (row["faces"], row["face_share"]) == (1, 0.02), "a refused person's face is not published"
    assert (row["smallest_side"], row["likeness"]) == (60, 0.7), "what is refused is not measured here"
    assert (row["brightness"], row["overlaid"], row["face_distance"], row["mask_score"]) == (98.0, 0.002, 0.4, 0.91)
    assert row["clipped"] == 0.02, "of people alone: things may be straight"
    assert (row["desirable"], row["quality"], row["text_share"], row["residual_motion"]) == (0.35, "desirable", 0.5, None)
    assert (row["background_method"], row["background_reason"], row["background_coverage"]) == ("none", "leaked", 0.25)
    assert (row["duration"], row["boundary"], row["shots"]) == (2.5, 0.25, 1)


def test_who_was_not_looked_at_has_nothing():
    assert set(columns.of({}).values()) == {None}
    assert columns.of({"extract_entities": {"entities": []}})["subjects"] == 0
    assert columns.of({"score_aesthetic": {"score": 1.0}}) == columns.of({})


def test_a_ledger_of_before_there_were_columns_gets_them_and_packs_with_the_others(tmp_path):
    storage = made.Storage.at(tmp_path)
    for number, key in enumerate(("a", "b")):
        made.write(storage, number, [sample(key, score_quality=SCORES["score_quality"]), rejected(f"{key}_")])
    new = ledger.read(storage, Unit(0, 0).ledger)[0]
    made.age(storage, Unit(0, 0).ledger)
    assert ledger.read(storage, Unit(0, 0).ledger)[0].equals(new) and new["desirable"].to_pylist() == [0.35, None]
    made.pack.pack(storage, 0, 0, [0, 1], last=True)
    rows = list(ledger.rows(storage))
    assert [row["desirable"] for row in rows] == [0.35, None, 0.35, None] and [row["duration"] for row in rows] == [2.0] * 4


def test_a_bound_is_the_number_that_the_recipe_has():
    table = pa.Table.from_pylist([{"scores": json.dumps(SCORES)}])
    assert columns.completed(table)["desirable"][0].as_py() >= 0.35
