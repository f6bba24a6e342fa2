from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from curation.benchmark import evaluate as evaluating
from curation.benchmark import scores, scoring, summary
from curation.benchmark.errors import BenchmarkError
from tests.benchmark import made


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """Clips a (red), b (green, no face), c (red), two (two subjects: of no mode), and one that is broken."""
    top = tmp_path / "bench" / "msrvtt_personalization_data"
    made.clip(top, "a")
    made.clip(top, "b", made.GREEN, subject_with_face=[])
    made.clip(top, "c")
    made.clip(top, "two", subject=["man", "dog"], subject_with_face=[])
    (made.clip(top, "torn") / "frame1.jpg").unlink()
    return tmp_path / "bench"


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Of a the truth, of b another colour; none of c; one of no clip."""
    made.video(tmp_path / "videos" / "a.mp4", made.RED)
    made.video(tmp_path / "videos" / "b.mp4", made.RED, frames=4)
    made.video(tmp_path / "videos" / "other.mp4", made.RED)
    return tmp_path / "videos"


def run(videos: Path, bench: Path, mode: str = "subject", **how: Any) -> dict[str, Any]:
    return evaluating.evaluate(videos, bench, mode, **{"load": made.metrics, "local": True, **how})  # type: ignore[arg-type]


def rows(folder: Path) -> dict[tuple[str, str], tuple[float | None, str]]:
    return {(r["key"], r["metric"]): (r["score"], r["reason"]) for r in pq.read_table(folder / "scores.parquet").to_pylist()}


def test_a_row_for_each_video_and_metric(videos, bench, tmp_path):
    told = run(videos, bench)
    found = rows(tmp_path / "videos-scores" / "subject-single")
    assert list(found) == [(key, m) for key in "abc" for m in ("colour", "frames", "copy_paste_colour", "faces")]
    colour = {key: found[key, "colour"][0] for key in "abc"}
    assert colour["a"] > 0.98 and abs(colour["b"] - (1 - (200 + 180) / 3 / 255)) < 0.02
    assert found["a", "frames"] == (6.0, "") and found["b", "frames"] == (4.0, "")
    assert found["a", "faces"] == (0.0, "") and found["b", "faces"] == (None, "no_face_in_truth")
    assert found["c", "colour"] == (None, "missing")
    assert (told["clips"], told["videos_found"], told["missing"], told["other_files"]) == (3, 2, ["c"], 1)
    assert told["broken_clips"] == {"torn": "no frame1.jpg"} and not told["quoted"]
    (faces,) = [column for column in told["metrics"] if column["metric"] == "faces"]
    assert faces == {**faces, "mean": 0.0, "count": 1, "zeros": 1, "undefined": {"no_face_in_truth": 1}, "low": None}
    assert made.scored(told)["colour"] == pytest.approx((colour["a"] + colour["b"]) / 2)
    assert json.loads((tmp_path / "videos-scores/subject-single/summary.json").read_text())["metrics"] == told["metrics"]


def test_face_mode_takes_its_clips(videos, bench):
    assert run(videos, bench, "face")["missing"] == ["c"]
    assert run(videos, bench, "face")["clips"] == 2


def test_only_the_first_frames_count(videos, bench):
    assert made.scored(run(videos, bench, frames=2))["frames"] == 2.0


def test_with_all_references_copy_paste_is_undefined(videos, bench, tmp_path):
    run(videos, bench, references="all", background=True)
    found = rows(tmp_path / "videos-scores" / "subject-all-background")
    assert found["a", "copy_paste_colour"] == (None, "all_references") and found["a", "colour"][0] > 0.98
    run(videos, bench)
    assert rows(tmp_path / "videos-scores" / "subject-single")["a", "copy_paste_colour"] == (0.5, "")


def test_it_goes_on_where_it_was_stopped(videos, bench, tmp_path):
    """A part is taken again while video, clip and what is asked are the same, and no metric is loaded when all are."""
    out = tmp_path / "out"
    run(videos, bench, output=out)
    before = {part.name: part.stat().st_mtime_ns for part in (out / "parts").iterdir()}
    told = (out / "scores.parquet").read_bytes()
    run(videos, bench, output=out, load=never)
    assert {part.name: part.stat().st_mtime_ns for part in (out / "parts").iterdir()} == before
    assert (out / "scores.parquet").read_bytes() == told
    made.video(videos / "b.mp4", made.GREEN)  # another video of this name
    run(videos, bench, output=out)
    assert rows(out)["b", "colour"][0] > 0.98 and len(list((out / "parts").iterdir())) == 3
    (bench / "msrvtt_personalization_data" / "a" / "summary_text.txt").write_text("Another prompt.")
    run(videos, bench, output=out)
    assert len(list((out / "parts").iterdir())) == 4


def never(device: str, references: str) -> list[Any]:
    raise AssertionError("the metrics were loaded")


def test_the_truth_is_asked_for_once(videos, bench, tmp_path):
    made.Colour.asked.clear()
    run(videos, bench, output=tmp_path / "one")
    made.video(videos / "a.mp4", made.BLUE)
    run(videos, bench, output=tmp_path / "two")
    assert made.Colour.asked == ["a", "b"], "it lies beside the clips, for all who are measured by them"
    kept = sorted((bench / "truth").iterdir())
    assert len(kept) == 4
    for path in kept:
        path.write_bytes(b"PK damaged")
    run(videos, bench, output=tmp_path / "three")
    assert made.Colour.asked == ["a", "b", "a", "b"]


def test_arrays_come_back_by_any_name_and_nothing_pickled_is_opened(tmp_path):
    arrays = {"a/b": np.arange(6.0).reshape(2, 3), "names": np.zeros((0, 4), np.float16), "file": np.array([True])}
    scoring.save_arrays(tmp_path / "a.npz", arrays)
    found = scoring.load_arrays(tmp_path / "a.npz")
    assert list(found) == list(arrays) and all((found[n] == a).all() and found[n].dtype == a.dtype for n, a in arrays.items())
    np.savez(tmp_path / "b.npz", names=np.array(["x"]), array0=np.array([{"an": "object"}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        scoring.load_arrays(tmp_path / "b.npz")


def test_what_is_wrong_with_a_video_or_a_clip_is_a_reason(videos, bench, tmp_path):
    (videos / "a.mp4").write_bytes(b"no video")
    (bench / "msrvtt_personalization_data" / "b" / "frame2.jpg").write_bytes(b"no picture")
    made.video(videos / "c.mp4", made.BLUE)
    told = run(videos, bench, output=tmp_path / "out")
    found = rows(tmp_path / "out")
    assert found["a", "colour"] == found["a", "faces"] == (None, "unreadable: not_a_video")
    assert found["b", "colour"][1].startswith("broken_clip: ") and "frame2.jpg: no picture" in found["b", "colour"][1]
    assert found["b", "faces"] == (None, "no_face_in_truth"), "what does not need the picture is scored"
    assert found["c", "faces"] == (None, "not_a_number")
    assert told["unreadable"] == {"a": "unreadable: not_a_video"}
    undefined = {column["metric"]: column["undefined"] for column in told["metrics"]}
    assert undefined["colour"] == {"unreadable": 1, "broken_clip": 1}


def test_no_video_at_all_is_one_line(bench, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(BenchmarkError, match="no file there is called after one of the 3 clips of subject mode"):
        run(tmp_path / "empty", bench)


def test_on_ray_it_comes_to_the_same(videos, bench, tmp_path, cluster):
    run(videos, bench, output=tmp_path / "here")
    run(videos, bench, output=tmp_path / "there", local=False, address=cluster.address)
    assert rows(tmp_path / "there") == rows(tmp_path / "here")
    assert {p.name for p in (tmp_path / "there/parts").iterdir()} == {p.name for p in (tmp_path / "here/parts").iterdir()}
    made.video(videos / "c.mp4", made.BLUE)
    told = run(videos, bench, output=tmp_path / "dead", local=False, address=cluster.address, load=made.deadly)
    assert told["worker_died"] == ["c"] and rows(tmp_path / "dead")["a", "faces"] == (0.0, "")


PAPERS = {"text_s": 0.2689, "vid_s": 0.7, "subj_s": 0.63, "dync_d": 0.5, "face_s": 0.4}


def papers(told: dict[str, Any], mode: str = "subject") -> dict[str, Any]:
    """As if by the papers' profile, whose networks are not here."""
    metrics = [vars(scores.column(name, {"a": mean, "b": mean})) for name, mean in PAPERS.items()]
    return {**told, "clips": 1736, "profile": "papers", "mode": mode, "metrics": metrics, "quoted": summary.quoted(mode)}  # type: ignore[arg-type]


def cells(html: str) -> list[list[str]]:
    lines = re.findall(r"<tr[^>]*>(.*?)</tr>", html, re.DOTALL)
    return [[re.sub(r"<(?!b>|/b>)[^>]+>", "", cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line)] for line in lines]


def test_the_papers_rows_stand_beside_the_papers_profile_alone(videos, bench):
    told = run(videos, bench)
    page = summary.page(papers(told), [])
    assert ["DreamVideo", "all", "quoted", ".253", ".604", ".256", ".303"] in cells(page)
    assert [str(videos), "single", "measured", "<b>.269</b>", ".700", "<b>.630</b>", ".500"] in cells(page)
    assert ["Video Alchemist", "single", "quoted", "<b>.269</b>", ".732", ".617", ".466"] in cells(page), "a tie as printed"
    assert ["VideoAlchemy, CLIP", "", "quoted", "<b>.2813</b>", ".6813", ".4991"] in cells(page)
    assert page.count("measured</td>") == 2, "beside V1's own metrics stands nothing of MP's"
    other = summary.page(papers(told) | {"clips": 3}, [])
    assert "where this benchmark has 3" in other and "<b>.269</b>" in other and "<b>.630</b>" not in other
    assert "where this benchmark" not in page
    assert "Video Alchemist" not in summary.page(told, []) and not summary.quoted("face")[0]["title"].endswith("subject mode")


def test_the_quoted_rows_are_those_of_the_specification():
    """PAPER.md §6, typed twice."""
    told = yaml.safe_load(summary.ROWS.read_text())
    first = {(r["method"], r.get("references"), bool(r.get("background"))): r["scores"] for r in told["tables"][0]["rows"]}
    assert first["ELITE", None, False] == [0.245, 0.62, 0.359, None]
    assert first["DreamVideo", "single", False] == [0.261, 0.611, 0.31, 0.311]
    assert first["Video Alchemist", "all", True] == [0.254, 0.78, 0.57, 0.506]
    face = {(r["method"], r.get("references")): r["scores"] for r in told["tables"][1]["rows"]}
    assert face["Magic-Me", "all"] == [0.248, 0.618, 0.153, 0.385] and face["PhotoMaker", "single"] == [0.278, 0.569, 0.189, None]
    assert face["Video Alchemist", "all"] == [0.272, 0.694, 0.411, 0.402]
    assert [len(table["rows"]) for table in told["tables"]] == [7, 7, 4, 3, 4]
    assert {name: sum(row[name] for row in told["preference"]["face"]) for name in ("quality", "fidelity")} == pytest.approx(
        {"quality": 99.9, "fidelity": 100.0}
    )


def test_the_page_asks_no_network_and_escapes_what_strangers_wrote(bench, tmp_path):
    made.clip(bench / "msrvtt_personalization_data", "<img src=x>")
    made.video(tmp_path / "<b>v" / "<img src=x>.mp4", made.RED)
    run(tmp_path / "<b>v", bench, output=tmp_path / "out")
    page = (tmp_path / "out" / "summary.html").read_text()
    assert "<img" not in page and "&lt;img src=x&gt;" in page and "&lt;b&gt;v" in page
    assert not re.search(r"https?:|<script|<link|url\(", page) and "default-src 'none'" in page
    assert "prefers-color-scheme: dark" in page


def test_a_part_is_of_what_the_video_was_made_from(tmp_path):
    """One output for both modes, or for one and all references, mixes nothing up."""
    job = scoring.Job(made.metrics, "own", tmp_path, tmp_path, "subject", "single", None)
    others = [replace(job, mode="face"), replace(job, references="all"), replace(job, frames=3), replace(job, identity="other")]
    names = {scoring.Scorer(one, "cpu").name("video", "case") for one in (job, *others)}
    assert len(names) == 5 and scoring.Scorer(replace(job), "cpu").name("video", "case") in names
