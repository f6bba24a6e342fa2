from __future__ import annotations

import json

import pytest

from curation.inputs import panda70m
from curation.inputs.rows import seconds

FIVE = """videoID,url,timestamp,caption,matching_score
---7zZh4oZk,https://www.youtube.com/watch?v=---7zZh4oZk,"[['0:00:14.160', '0:00:16.440'], ['1:00:26.240', '1:00:30.560']]","['It\\'s a cat, ""really"".', 'A dog.']","[0.45, 0.46]"
"""
SEVEN = """videoID,url,timestamp,caption,matching_score,desirable_filtering,shot_boundary_detection
-2yHu5,https://u,"[['0:03:28.841', '0:03:33.680']]","['A man.']","[0.43]","['desirable']","[[['0:00:00.000', '0:00:02.702'], ['0:00:02.736', '0:00:04.838']]]"
"""


@pytest.fixture
def csv(tmp_path):
    (tmp_path / "videos").mkdir()

    def write(text: str, *videos: str):
        for name in videos:
            (tmp_path / "videos" / name).write_bytes(b"x")
        (tmp_path / "x.csv").write_text(text, encoding="utf-8")
        return list(panda70m.read_csv(str(tmp_path / "x.csv"), str(tmp_path / "videos")))

    return write


def test_five_columns(csv):
    first, second = csv(FIVE, "---7zZh4oZk.mp4")
    assert first.key == "---7zZh4oZk_00000" and first.alive
    assert first.caption == 'It\'s a cat, "really".'
    assert (second.meta["source"]["start"], second.meta["source"]["end"]) == (3626.24, 3630.56)
    assert second.meta["source"]["matching_score"] == 0.46
    assert second.meta["source"]["path"].endswith("videos/---7zZh4oZk.mp4")


def test_seven_columns_carry_the_labels(csv):
    (clip,) = csv(SEVEN, "-2yHu5.webm")
    assert clip.meta["source"]["desirable_filtering"] == "desirable"
    assert clip.meta["source"]["shots"] == [[0.0, 2.702], [2.736, 4.838]]
    assert clip.meta["source"]["path"].endswith(".webm")


def test_a_video_that_was_not_downloaded_is_said_of_each_of_its_clips(csv):
    assert [s.verdict.reason for s in csv(FIVE)] == ["not_downloaded"] * 2


@pytest.mark.parametrize(
    "row, complaint",
    [
        ("v,u,\"[['0:00:01', '0:00:02']]\",\"['a', 'b']\",\"[0.4]\"", "lists of different lengths"),
        ('v,u,"__import__(\'os\').getcwd()","[\'a\']","[0.4]"', "timestamp is not a list literal"),
        ("v,u,\"[['0:00:01', 'x']]\",\"['a']\",\"[0.4]\"", "not a timecode: 'x'"),
        ("v,u,,,", "timestamp or caption is empty"),
        ('v,u,"[5]","[\'a\']","[0.4]"', "timestamp 0 is no pair"),
        ("v,u", "another number of columns"),
    ],
)
def test_a_bad_row_fails_by_number_and_harms_no_other(csv, row, complaint):
    bad, good = csv(
        FIVE.splitlines()[0] + "\n" + row + "\n" + "w,u,\"[['0:00:01', '0:00:02']]\",\"['A cat.']\",\"[0.4]\"\n", "w.mp4"
    )
    assert bad.verdict.status == "failed" and bad.verdict.stage == "inputs"
    assert "CSV row 2" in bad.verdict.detail and complaint in bad.verdict.detail
    assert good.alive


def test_a_clip_that_ends_before_it_starts_fails_alone(csv):
    text = "videoID,url,timestamp,caption\nv,u,\"[['0:00:05', '0:00:02'], ['0:00:05', '0:00:07']]\",\"['A cat.', 'A dog.']\"\n"
    bad, good = csv(text, "v.mp4")
    assert "before it starts" in bad.verdict.detail and bad.verdict.reason == "bad_timestamp" and good.alive


def test_download_layout(tmp_path):
    folder = tmp_path / "00001"
    folder.mkdir()
    info = {"url": "https://www.youtube.com/watch?v=abc", "clips": "[('00:01:20.880','00:01:23.983')]", "status": "success"}
    labels = {"matching_score": "0.4", "shot_boundary_detection": "[['0:00:00.000', '0:00:03.069']]"}
    (folder / "0001000_00000.mp4").write_bytes(b"x")
    (folder / "0001000_00000.txt").write_text("A man  talks.\n")
    (folder / "0001000_00000.json").write_text(json.dumps({**info, **labels}))
    (folder / "0001001.json").write_text(json.dumps({"status": "failed_to_download", "url": "u"}))
    (folder / "0001002_00000.mp4").write_bytes(b"x")
    (folder / "0001003_00000.mp4").write_bytes(b"x")
    (folder / "0001003_00000.json").write_text("{")
    clips = {s.key: s for s in panda70m.read_download(str(tmp_path))}
    good = clips["0001000_00000"]
    assert good.alive and good.caption == "A man talks." and good.meta["source"]["video"] == "abc"
    assert good.meta["source"]["origin"] == [80.88, 83.983] and good.meta["source"]["matching_score"] == 0.4
    assert good.meta["source"]["shots"] == [[0.0, 3.069]]
    reasons = {key: s.verdict.reason for key, s in clips.items()}
    expected = {"0001001": "not_downloaded", "0001002_00000": "no_caption", "0001003_00000": "bad_json"}
    assert {k: v for k, v in reasons.items() if v} == expected
    assert clips["0001003_00000"].verdict.detail.startswith("0001003_00000.json: not JSON")


def test_the_real_extract(panda):
    clips = list(panda70m.read_download(str(panda / "clips")))
    assert len(clips) == 60 and all(s.alive for s in clips)
    rows = list(panda70m.read_csv(str(panda / "panda70m_mini.csv"), str(panda / "videos")))
    assert len(rows) == 45 and all(s.alive for s in rows)


@pytest.mark.parametrize("text, value", [("0:01:20.880", 80.88), ("00:00:00", 0.0), ("1:00:00.001", 3600.001), ("12.5", 12.5)])
def test_timecodes(text, value):
    assert seconds(text) == value


def test_a_video_of_another_name_in_the_download_layout_is_a_clip_too(tmp_path):
    folder = tmp_path / "00000"
    folder.mkdir()
    for name in ("0000001_00000", "10000002_00000", "mine"):
        (folder / f"{name}.mp4").write_bytes(b"x")
        (folder / f"{name}.txt").write_text("A cat.")
    (folder / "notes.txt").write_text("words")
    clips = list(panda70m.read_download(str(tmp_path)))
    assert [(s.key, s.alive) for s in clips] == [("0000001_00000", True), ("10000002_00000", True), ("mine", True)]
