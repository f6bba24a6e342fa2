from __future__ import annotations

import json
import os

import numpy as np
import pytest

from curation.benchmark import folder
from curation.benchmark.case import picture
from curation.benchmark.errors import BenchmarkError
from curation.look.export.export import export
from tests.benchmark import made


def test_a_clip_as_the_released_data_have_it(tmp_path):
    """Words with spaces and strokes, files by their frames, a background without a word; MP's scripts name them so."""
    made.clip(
        tmp_path, "video7", subject=["old man"], object=["and/or sign"], background=["a street"], subject_with_face=["old man"]
    )
    (case,) = folder.cases(tmp_path)
    assert (case.key, case.prompt, case.background) == ("video7", "A man with a hat walks.", "a street")
    assert case.words == ("old man", "and/or sign") and case.with_face == ("old man",)
    assert [path.name for path in case.cutouts["old man"]] == [f"old_man.frame{n}.png" for n in (1, 2, 3)]
    assert [path.name for path in case.cutouts["and/or sign"]] == [f"and_or_sign.frame{n}.png" for n in (1, 2, 3)]
    assert [path.name for path in case.face_files["old man"]] == [f"old_man.face.frame{n}.png" for n in (1, 2, 3)]
    assert [frame.shape for frame in case.frames] == [(20, 24, 3)] * 3
    cutout = case.references("old man")[0]
    assert cutout.shape == (20, 24, 4) and cutout[0, 0, 3] == 0 and tuple(cutout[9, 9]) == (*made.RED, 255)
    scene = case.scene()
    assert scene is not None and np.abs(scene.astype(int) - made.BLUE).max() < 8 and case.video.exists()


def test_faces_are_no_cutouts(tmp_path):
    """`man.face.frame1.png` is not one of `man`'s, and `man` is not `man.face`'s."""
    made.clip(tmp_path, "a", seen=(2,))
    (case,) = folder.cases(tmp_path)
    assert [path.name for path in case.cutouts["man"]] == ["man.frame2.png"]
    assert [path.name for path in case.face_files["man"]] == ["man.face.frame2.png"]


def test_our_own_export_is_read(sample_run, tmp_path):
    export(str(sample_run), "msrvtt", tmp_path / "out")
    found, broken = folder.read(tmp_path / "out")
    assert len(found) == 3 and not broken
    assert [case.key for case in found] == sorted(p.name for p in (tmp_path / "out" / "msrvtt_personalization_data").iterdir())
    for case in found:
        tags = json.loads((case.folder / "word_tags.json").read_text())
        assert list(case.subjects) == tags["subject"] and list(case.with_face) == tags["subject_with_face"]
        assert case.background == "" and all(case.references(word) for word in case.words)


def test_modes_take_what_MP_takes(tmp_path):
    """Subject: one subject. Face: one subject that has a face, however many others there are (MP's own lists)."""
    made.clip(tmp_path, "face")
    made.clip(tmp_path, "no-face", subject_with_face=[])
    made.clip(tmp_path, "two", subject=["man", "dog"])
    made.clip(tmp_path, "two-faces", subject=["man", "woman"], subject_with_face=["man", "woman"])
    assert [case.key for case in folder.cases(tmp_path, "subject")] == ["face", "no-face"]
    assert [case.key for case in folder.cases(tmp_path, "face")] == ["face", "two"]
    assert len(folder.cases(tmp_path)) == 4


def test_a_word_that_stands_twice_is_one(tmp_path):
    made.clip(tmp_path, "a", subject=["man"], object=["man", "hat", "hat"])
    assert folder.cases(tmp_path)[0].words == ("man", "hat")


@pytest.mark.parametrize(
    "tags, told",
    [
        ({"subject": ["../../etc/passwd"]}, "no word that files"),
        ({"subject": [".hidden"]}, "no word that files"),
        ({"subject": ["a\\b"]}, "no word that files"),
        ({"subject": ["a\x00b"]}, "no word that files"),
        ({"subject": ["x" * 201]}, "no word that files"),
        ({"subject": [""]}, "no word that files"),
        ({"object": "hat"}, "object is no list of words"),
        ({"object": [1]}, "object is no list of words"),
        ({"subject_with_face": ["dog"]}, "'dog' has a face and is no subject"),
        ({"object": ["tree"]}, "no tree.frameN.png"),
        ({"object": ["m*"]}, r"no m*.frameN.png"),
        ({"subject": ["dog", "man"], "subject_with_face": ["dog"]}, "no dog.frameN.png"),
    ],
)
def test_tags_that_cannot_be_are_told_of(tmp_path, tags, told):
    made.clip(tmp_path, "good")
    bad = made.clip(tmp_path, "bad")
    words = {"subject": ["man"], "object": [], "background": [], "subject_with_face": []} | tags
    (bad / "word_tags.json").write_text(json.dumps(words))
    found, broken = folder.read(tmp_path)
    assert [case.key for case in found] == ["good"] and told in broken["bad"] and "\n" not in broken["bad"]


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"subject": ' + b"[" * 5000, b"\xff\xfe{"])
def test_no_object_of_tags(tmp_path, content):
    bad = made.clip(tmp_path, "bad")
    (bad / "word_tags.json").write_bytes(content)
    with pytest.raises(BenchmarkError, match="no clip's folder.*bad: bad_json"):
        folder.read(tmp_path)


@pytest.mark.parametrize("name", folder.NEEDED)
def test_each_file_is_needed(tmp_path, name):
    made.clip(tmp_path, "good")
    (made.clip(tmp_path, "bad") / name).unlink()
    assert folder.read(tmp_path)[1] == {"bad": f"no {name}"}


def test_an_empty_prompt_and_a_pipe_are_told_of(tmp_path):
    made.clip(tmp_path, "good")
    (made.clip(tmp_path, "empty") / "summary_text.txt").write_text(" \n")
    pipe = made.clip(tmp_path, "pipe") / "summary_text.txt"
    pipe.unlink()
    os.mkfifo(pipe)
    assert folder.read(tmp_path)[1] == {"empty": "summary_text.txt is empty", "pipe": "bad_caption: it is not a file"}


def test_no_folder_and_one_without_clips(tmp_path):
    with pytest.raises(BenchmarkError, match="no such folder"):
        folder.cases(tmp_path / "none")
    (tmp_path / "file.txt").touch()
    with pytest.raises(BenchmarkError, match="no clip's folder in it"):
        folder.cases(tmp_path)
    made.clip(tmp_path, "a", subject_with_face=[])
    with pytest.raises(BenchmarkError, match="none of 1 clips is for mode face"):
        folder.cases(tmp_path, "face")


def test_a_picture_that_is_none_is_told_of_when_it_is_read(tmp_path):
    case = made.clip(tmp_path, "a")
    (case / "frame2.jpg").write_bytes(b"no picture")
    with pytest.raises(BenchmarkError, match="frame2.jpg: no picture"):
        _ = folder.cases(tmp_path)[0].frames
    with pytest.raises(BenchmarkError, match="No such file"):
        picture(case / "gone.png")
