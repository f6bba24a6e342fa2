from __future__ import annotations

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.inputs.files import InputError
from curation.inputs.folder import read_folder
from curation.inputs.open import folders, open_input
from curation.sample import Verdict


def put(folder, name, text=None, **info):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    if text is not None:
        path.with_suffix(".txt").write_text(text)
    if info:
        path.with_suffix(".json").write_text(json.dumps(info))


def test_all_that_an_input_lists_lies_in_its_folders(tmp_path):
    put(tmp_path / "in", "deep/a.mp4", "A cat.")
    (tmp_path / "table.csv").write_text(f"path,caption\n{tmp_path}/in/deep/a.mp4,A cat.\n")
    for name, videos in (("sample", None), (str(tmp_path / "in"), None), (str(tmp_path / "table.csv"), str(tmp_path / "in"))):
        paths = {s.meta["source"]["path"] for s in open_input(name, videos) if s.meta["source"].get("path")}
        assert paths and all(any(path.startswith(f"{folder}/") for folder in folders(name, videos)) for path in paths), name
    assert folders("s3://b/in/clips.parquet", "s3://b/videos") == ["s3://b/in", "s3://b/videos"] and folders("") == []


def test_captions_beside_the_videos(tmp_path):
    put(tmp_path, "a.mp4", "A cat.")
    put(tmp_path, "deep/b.WEBM", None, caption="A dog.", url="u")
    put(tmp_path, "c.mkv")
    put(tmp_path, "d.mp4", None, caption=7)
    (tmp_path / "notes.pdf").write_bytes(b"x")
    (tmp_path / ".hidden.mp4").write_bytes(b"x")
    clips = {s.key: s for s in read_folder(str(tmp_path))}
    assert clips.keys() == {"a", "c", "d"} | {k for k in clips if k.startswith("deep_b_")}
    assert clips["c"].verdict.reason == "no_caption"
    assert clips["d"].verdict == Verdict("failed", "inputs", "bad_caption", "d.json: caption is int, not text")
    (dog,) = [s for k, s in clips.items() if k.startswith("deep")]
    assert dog.caption == "A dog." and dog.meta["source"]["url"] == "u" and "." not in dog.key


def test_odd_names_make_safe_unique_keys(tmp_path):
    names = ["x y.mp4", "x_y.mp4", "x.y.mp4", "ü#?%.mp4", "same.mp4", "same.webm", "n\nl.mp4", "a::b.mp4", "-" * 200 + ".mp4"]
    for name in names:
        put(tmp_path, name, "A cat.")
    clips = list(read_folder(str(tmp_path)))
    assert len({s.key for s in clips}) == len(names) and all(s.alive for s in clips)
    assert all(s.key.isascii() and not set(s.key) & set("./\n: ") for s in clips)
    assert all(os.path.exists(s.meta["source"]["path"]) for s in clips)


def test_a_name_that_is_not_utf8_fails_with_a_reason(tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"\xff\xfe.mp4")
    with open(path, "wb"), open(path[:-4] + b".txt", "w") as caption:
        caption.write("A cat.")
    (clip,) = read_folder(str(tmp_path))
    assert clip.verdict.reason == "name_not_utf8" and "the file name is not UTF-8" in clip.verdict.detail
    json.dumps(clip.meta).encode()


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_tables(tmp_path, kind):
    put(tmp_path, "v/a.mp4")
    rows = [
        {"path": "v/a.mp4", "caption": "A cat.", "start": 1.5, "end": 3.0},
        {"path": "v/gone.mp4", "caption": "A dog.", "start": None, "end": None},
        {"path": None, "caption": "A cow.", "start": None, "end": None},
    ]
    path = tmp_path / f"t.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif kind == "jsonl":
        path.write_text("\n".join([*map(json.dumps, rows), "{bad"]))
    else:
        path.write_text("path,caption,start,end\nv/a.mp4,A cat.,1.5,3\nv/gone.mp4,A dog.,,\n,A cow.,,\n")
    clips = list(open_input(str(path)))
    assert clips[0].alive and clips[0].key.endswith("_1500") and clips[0].meta["source"]["end"] == 3.0
    assert clips[1].verdict.reason == "not_downloaded"
    assert clips[2].verdict.reason == "bad_path" and "row 3" in clips[2].verdict.detail
    if kind == "jsonl":
        assert clips[3].verdict.reason == "bad_json" and "row 4 (line 4): not JSON" in clips[3].verdict.detail


def test_a_table_without_the_columns_says_which_it_needs(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="needs a path column"):
        open_input(str(tmp_path / "t.csv"))


def test_what_is_not_there_names_the_forms(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="nothing is there.*sample.*download layout"):
        open_input(str(tmp_path / "none"))
    monkeypatch.setenv("PANDA70M_ROOT", str(tmp_path / "none"))
    with pytest.raises(InputError, match="PANDA70M_ROOT.*INPUT=sample"):
        open_input("panda70m")


def test_two_forms_in_one_folder_are_not_guessed(tmp_path):
    put(tmp_path, "00000/0000000_00000.mp4", "A cat.")
    (tmp_path / "x.csv").write_text("path,caption\n")
    with pytest.raises(InputError, match=r"holds x.csv, the download layout; name one"):
        open_input(str(tmp_path))


def test_urls_go_through_fsspec():
    import fsspec

    fs = fsspec.filesystem("memory")
    fs.pipe("/set/00000/0000000_00000.mp4", b"x")
    fs.pipe("/set/00000/0000000_00000.txt", b"A cat.")
    (clip,) = open_input("memory://set")
    assert clip.alive and clip.caption == "A cat." and clip.meta["source"]["path"] == "memory://set/00000/0000000_00000.mp4"


OUTSIDE = [
    "/etc/passwd",
    "../secret.mp4",
    "in/../../secret.mp4",
    "file:///etc/passwd",
    "http://127.0.0.1/v.mp4",
    "zip://v.mp4::in.zip",
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_table_names_nothing_outside_unless_the_user_says_so(tmp_path, name):
    (tmp_path / "secret.mp4").write_bytes(b"x")
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "in").mkdir()
    (tmp_path / "table" / "v.mp4").write_bytes(b"x")
    rows = [{"path": path, "caption": "A cat."} for path in (name, "v.mp4", str(tmp_path / "table" / "v.mp4"))]
    (tmp_path / "table" / "clips.jsonl").write_text("\n".join(map(json.dumps, rows)))
    outside, *inside = open_input(str(tmp_path / "table" / "clips.jsonl"))
    assert (outside.verdict.status, outside.verdict.reason) == ("failed", "outside_input") and name in outside.verdict.detail
    assert all(clip.alive for clip in inside)


@pytest.mark.parametrize(
    "videos, name", [("/", "{tmp}/secret.mp4"), ("{tmp}", "secret.mp4"), ("https://host/set", "https://host/set/v.mp4")]
)
def test_what_the_user_says_is_inside(tmp_path, videos, name):
    (tmp_path / "secret.mp4").write_bytes(b"x")
    (tmp_path / "table").mkdir()
    row = {"path": name.format(tmp=tmp_path), "caption": "A cat."}
    (tmp_path / "table" / "clips.jsonl").write_text(json.dumps(row))
    (clip,) = open_input(str(tmp_path / "table" / "clips.jsonl"), videos.format(tmp=tmp_path))
    assert clip.alive and not clip.meta["source"]["path"].startswith(f"{tmp_path}/table")


def test_a_url_that_only_begins_alike_is_outside(tmp_path):
    for name in ("https://host/settings/v.mp4", "https://host/set/../v.mp4", "https://host.evil/set/v.mp4"):
        (tmp_path / "clips.jsonl").write_text(json.dumps({"path": name, "caption": "A cat."}))
        (clip,) = open_input(str(tmp_path / "clips.jsonl"), "https://host/set")
        assert clip.verdict.reason == "outside_input"
