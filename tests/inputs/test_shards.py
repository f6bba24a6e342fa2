from __future__ import annotations

import gzip
import json
import os

import pytest

from curation.inputs import files
from curation.inputs.open import open_input
from tests.inputs.written import checked, sample, stored, tar, verdicts

WHOLE = ("b_d", "b_e", "b_f")


def whole(folder, name="b.tar", keys="def"):
    return tar(folder / name, [m for key in keys for m in sample(key)])


def test_a_clip_of_a_foreign_tar_is_found_by_its_place(tmp_path):
    tar(tmp_path / "a.tar", [*sample("a", "A cat."), ("b.mp4", b"bbb"), ("b.txt", b"A \xff dog."), ("c.mp4", b"c")])
    a, b, c = checked(open_input(str(tmp_path)))
    assert (a.caption, b.caption, c.verdict.reason) == ("A cat.", "A \ufffd dog.", "no_caption")
    assert stored(b) == b"bbb"


@pytest.mark.parametrize(
    "bad", [b"[1, 2]", b"{", b"", b"\xff\xfe\x00", b"[" * 100_000, b'"text"', b'{"caption": ' + b"9" * 5000 + b"}"]
)
def test_metadata_that_are_no_object_cost_their_own_clip(tmp_path, bad):
    tar(tmp_path / "a.tar", [*sample("a"), ("b.mp4", b"b"), ("b.json", bad), *sample("c")])
    assert verdicts(open_input(str(tmp_path))) == {"a_a": "", "a_b": "bad_json", "a_c": ""}


@pytest.mark.parametrize(
    "info",
    [{"caption": 5}, {"caption": "A cat.", "source": {"start": "x", "end": 2}}, {"caption": "A cat.", "source": {"a": 2**70}}],
)
def test_odd_metadata_cost_their_own_clip(tmp_path, info):
    tar(
        tmp_path / "a.tar", [*sample("a"), ("b.mp4", b"b"), ("b.json", json.dumps(info).encode()), *sample("c", source="youtube")]
    )
    found = verdicts(open_input(str(tmp_path)))
    assert found["a_a"] == found["a_c"] == "" and found["a_b"].startswith("bad_")


@pytest.mark.parametrize("cut", [1, 100, 512, 515, 600, 1024, 1536, 2000, 2560, 3072 + 5])
def test_a_truncated_tar_is_one_failed_clip(tmp_path, cut):
    """Cut within a header or a member (between two of them nobody can tell); what stands before the cut is planned, and so are
    the tars after it."""
    path = whole(tmp_path, "a.tar", "abc")
    path.write_bytes(path.read_bytes()[:cut])
    whole(tmp_path)
    clips = checked(open_input(str(tmp_path)))
    found = {s.key: s.verdict for s in clips}
    bad = [v for v in found.values() if v.reason == "bad_tar"]
    assert len(bad) == (cut not in (1024, 3072)) and all("a.tar" in v.detail for v in bad)
    assert all(found[key].status == "kept" for key in WHOLE) and ("a_a" in found) == (cut >= 600)
    for clip in clips:
        if clip.alive:
            assert stored(clip) == clip.key[-1].encode() * 10


def test_garbage_in_a_tar_does_not_pass_for_its_end(tmp_path):
    path = whole(tmp_path, "a.tar", "abc")
    data = bytearray(path.read_bytes())
    data[2048:2560] = b"\x07" * 512  # the header of b.mp4
    path.write_bytes(data)
    found = verdicts(open_input(str(path)))
    assert found.pop("a_a") == "" and list(found.values()) == ["bad_tar"]


@pytest.mark.parametrize(
    "data", [b"", b"text", os.urandom(5000), gzip.compress(b"x" * 5000)], ids=["empty", "text", "noise", "gzip"]
)
def test_what_is_no_tar_is_one_failed_clip(tmp_path, data):
    (tmp_path / "a.tar").write_bytes(data)
    whole(tmp_path)
    found = verdicts(open_input(str(tmp_path)))
    assert [found.pop(k) for k in WHOLE] == [""] * 3 and list(found.values()) == ["bad_tar"]


def test_a_tar_that_is_not_there(tmp_path):
    os.symlink(tmp_path / "nowhere", tmp_path / "a.tar")
    (tmp_path / "c.tar").mkdir()
    whole(tmp_path)
    found = verdicts(open_input(str(tmp_path)))
    assert [found.pop(k) for k in WHOLE] == [""] * 3 and list(found.values()) == ["unreadable"]


def test_nothing_in_a_tar_vanishes_without_a_word(tmp_path):
    tar(tmp_path / "a.tar", [("._000.mp4", b"x"), ("v/.x.mp4", b"x"), *sample("000")])
    tar(tmp_path / "b.tar", [("lone.json", b'{"caption": "A cat."}'), *sample("b"), ("b.depth.mp4", b"x")])
    tar(tmp_path / "c.tar", [("readme", b"x")])
    tar(tmp_path / "d.tar", [*sample("d"), *sample("d", "A dog.")])
    clips = checked(open_input(str(tmp_path)))
    assert [s.verdict.reason for s in clips] == ["", "bad_member_name", "", "no_video", "no_clips", "", ""]
    assert "2 videos" in clips[1].verdict.detail and clips[5].key == clips[6].key  # planning tells doubles apart
    assert all(s.meta["source"]["member"] is not None for s in clips), "each says of which tar it is"


def test_other_peoples_names(tmp_path):
    """`tar cf x.tar ./*`, folders, other suffixes, views without a plain one; and keys that begin anew in the next tar."""
    text = [(f"{key}.txt", b"A cat.") for key in ("./000", "v1.0/000", "K", "w", "front")]
    names = ["./000.mp4", "v1.0/000.mp4", "K.MP4", "w.webm", "front.cam.mkv"]
    for stem in ("a", "b"):
        tar(tmp_path / f"{stem}.tar", [*((name, name.encode()) for name in names), *text])
    clips = checked(open_input(str(tmp_path)))
    assert [stored(s).decode() for s in clips] == ["front.cam.mkv", *names[:4]] * 2 and all(s.alive for s in clips)
    assert len({s.key for s in clips}) == 10 and {s.key for s in clips} >= {"a_000", "b_000", "a_K", "b_w", "a_front"}


def test_ours_without_a_ledger_keep_their_keys(tmp_path):
    tar(tmp_path / "shard-00000-0000.tar", [*sample("a"), *sample("c_s000", source={"shot": 0, "shots": [[0, 1], [1, 2]]})])
    a, shot = checked(open_input(str(tmp_path)))
    assert (a.key, shot.key) == ("a", "c_s000") and "shots" not in shot.meta["source"]


def test_no_planned_key_is_one_that_a_shot_will_get(tmp_path):
    """`a_s000.mp4` beside `a.mp4`, which has two shots."""
    for name in ("a", "a_s000", "a_s00", "a_s0001"):
        (tmp_path / f"{name}.mp4").write_bytes(b"x")
        (tmp_path / f"{name}.txt").write_text("A cat.")
    keys = [s.key for s in checked(open_input(str(tmp_path)))]
    assert {"a", "a_s00"} < set(keys) and not {"a_s000", "a_s0001"} & set(keys) and len(set(keys)) == 4


def test_a_disk_that_breaks_under_a_tar_is_raised(tmp_path, monkeypatch):
    whole(tmp_path)

    def breaks(path):
        raise OSError(5, "Input/output error", path)

    monkeypatch.setattr(files, "open_bytes", breaks)
    with pytest.raises(OSError, match="Input/output"):
        list(open_input(str(tmp_path)))
