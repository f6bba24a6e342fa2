from __future__ import annotations

import json

import pytest

from curation.inputs.files import InputError
from curation.inspect import inspect


def shown(capsys, *arguments) -> str:
    inspect(*arguments)
    return capsys.readouterr().out


def test_the_table_has_every_clip_with_its_verdict(sample_run, capsys):
    text = shown(capsys, sample_run, None, None)
    assert "14 clips: kept 4, rejected 9, failed 1" in text
    for word in (
        "bikes_00003",
        "no_subject",
        "plural_subject",
        "shot_boundary",
        "too_short",
        "not_downloaded",
        "no_caption",
        "cyclist 3",
    ):
        assert word in text.replace("\n", ""), word
    assert shown(capsys, sample_run / "shards" / "shard-000000.tar", None, None).count("bikes_") == text.count("bikes_")


@pytest.mark.parametrize(
    "key, words",
    [
        (
            "carphone_pristine_00000",
            ['"status": "kept"', '"word": "man"', "ref.0.1.webp", '"landmarks"', "carphone_pristine_00000.mp4"],
        ),
        ("bikes_00004", ['"status": "rejected"', '"reason": "shot_boundary"', '"split_shots"']),
        ("bikes_00007", ['"status": "failed"', "beyond the end of the video"]),
    ],
    ids=["kept", "rejected", "failed"],
)
def test_one_clip(sample_run, capsys, key, words):
    text = shown(capsys, sample_run, key, None)
    assert all(word in text for word in words), text


def test_extract_writes_the_members(sample_run, tmp_path, capsys):
    inspect(sample_run, "carphone_pristine_00000", tmp_path / "one")
    names = {p.name for p in (tmp_path / "one").iterdir()}
    assert {"carphone_pristine_00000.mp4", "carphone_pristine_00000.json", "carphone_pristine_00000.frame1.jpg"} <= names
    assert json.loads((tmp_path / "one" / "carphone_pristine_00000.json").read_text())["key"] == "carphone_pristine_00000"
    inspect(sample_run, None, tmp_path / "all")
    assert names < {p.name for p in (tmp_path / "all").iterdir()}


def test_a_key_that_is_not_there(sample_run):
    with pytest.raises(InputError, match="no clip 'nobody'"):
        inspect(sample_run, "nobody", None)
