from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from curation import ledger
from curation.inputs.files import InputError
from curation.look import report
from curation.sample import REJECTED, Verdict
from curation.shards import sessions
from tests.shards import made
from tests.shards.made import failed, rejected, sample

HOSTILE = '<script src="https://evil.example/x.js"></script><img src=x onerror=alert(1)>"\'{{ 7 * 7 }}'
RECIPE = {
    "version": "9",
    "plan": {"extract_entities": {}},
    "clips": {
        "split_shots": {"min_seconds": 1.0, "max_seconds": 60.0, "threshold": None, "detector": "transnetv2"},
        "score_quality": {"min_desirable": 0.5, "weights": None},
    },
    "models": {"nanodet": "ab" * 32, "score_quality.weights": "cd" * 32},
    "libraries": {"numpy": "2"},
}


def picture(side: int = 64) -> bytes:
    return cv2.imencode(".jpg", np.full((side, 2 * side, 3), 90, np.uint8))[1].tobytes()


def scored(key: str, desirable: float, word: str = "man", **how) -> made.Sample:
    """A kept one with a word and the filter's probability."""
    meta = {
        "extract_entities": {
            "entities": [{"word": word, "kind": "subject", "span": [2, 5]}, {"word": "hat", "kind": "object", "span": [6, 9]}]
        },
        "score_quality": {"label": "desirable", "probabilities": {"desirable": desirable}},
    }
    one = sample(key, **how, **meta)
    one.files["frame1.jpg"] = picture()
    return one


def dropped(key: str, desirable: float) -> made.Sample:
    return scored(key, desirable).drop(Verdict(REJECTED, "score_quality", "low_desirable_score"))


@pytest.fixture
def run(tmp_path):
    units = [
        [scored("a", 0.9), scored("b", 0.5, "dog"), scored("c", 0.7), dropped("d", 0.49), dropped("e", 0.2)],
        [rejected("f"), failed("g"), failed("h")],
    ]
    storage = made.run(tmp_path / "run", units, megabytes=0.001)
    storage.write("run.json", json.dumps({"recipe": RECIPE}))
    plan = {"complete": True, "clips": 10, "groups": [], "made_from": {"input": "sample"}}
    storage.write("plan/plan.json", json.dumps(plan))
    return storage


def reported(storage, **how) -> dict:
    report.write(storage.path(), **how)
    return json.loads(storage.read("report.json"))


def html(storage) -> str:
    return storage.read("report.html").decode()


def test_the_figures_are_those_of_the_run(run):
    found = reported(run, price_per_hour=2.0)
    assert found["clips"] == {"planned": 10, "kept": 3, "rejected": 3, "failed": 2, "not_done": 2}
    assert (found["rows"], found["samples"], found["video_seconds"]) == (8, 3, 16.0)
    assert found["bytes"] == sum(row["size"] or 0 for row in ledger.rows(run))
    steps = [(step["stage"], step["came"], step["went_on"]) for step in found["funnel"]]
    assert steps == [("inputs", 8, 8), ("extract_entities", 8, 8), ("split_shots", 8, 5), ("score_quality", 5, 3)]
    assert found["funnel"][2]["reasons"] == [
        {"reason": "no_frames", "verdict": "failed", "count": 2},
        {"reason": "too_short", "verdict": "rejected", "count": 1},
    ]
    assert found["words"] == {"subject": [["man", 2], ["dog", 1]], "object": [["hat", 3]]}
    assert (found["entities"]["subjects"], found["entities"]["objects"]) == (3, 3)
    assert (found["sizes"], found["fps"]) == ([["64×32", 3]], [["25.0", 3]])
    assert found["failures"] == [{"stage": "split_shots", "reason": "no_frames", "count": 2, "key": "g", "detail": ""}]
    assert found["time"]["stages"] == {"split_shots": 4.0} and found["time"]["bottleneck"] == "split_shots"
    assert (found["time"]["seconds_per_clip"], found["time"]["clips_per_worker_second"]) == (0.5, 2.0)
    assert found["time"]["rest"]["clips"] == 2 and found["time"]["price"] == 0.0022
    models = {model["name"]: model["licence"] for model in found["provenance"]["models"]}
    assert models == {"nanodet": "Apache-2.0", "score_quality.weights": "comes with curation"}


def test_bounds_and_what_would_be_at_others(run):
    scores = reported(run)["scores"]
    shown = scores["desirable"]
    assert shown["count"] == 5 and (sum(shown["kept"]), sum(shown["rejected_here"]), sum(shown["other"])) == (3, 2, 0)
    (bound,) = shown["bounds"]
    assert (bound["stage"], bound["knob"], bound["kind"], bound["value"]) == ("score_quality", "min_desirable", "least", 0.5)
    at = {one["value"]: (one["kept"], one["rejected_here"]) for one in bound["what_if"]}
    assert at == {0.125: (3, 2), 0.25: (3, 1), 0.375: (3, 1), 0.5: (3, 0), 0.625: (2, 0), 0.75: (1, 0), 1.0: (0, 0)}
    assert [(b["knob"], b["kind"], b["value"]) for b in scores["duration"]["bounds"]] == [
        ("min_seconds", "least", 1.0),
        ("max_seconds", "most", 60.0),
    ]
    assert 'class="cut"' in html(run) and "score_quality.min_desirable" in html(run)


def test_who_is_just_as_long_as_the_bound_passes(run):
    clips = {"split_shots": {**RECIPE["clips"]["split_shots"], "max_seconds": 2.0}}
    run.write("run.json", json.dumps({"recipe": {**RECIPE, "clips": clips}}))
    most = {one["value"]: one["kept"] for one in reported(run)["scores"]["duration"]["bounds"][1]["what_if"]}
    assert (most[1.5], most[2.0]) == (0, 3)


def test_a_null_bound_is_the_filters_own(run):
    clips = {**RECIPE["clips"], "score_quality": {"min_desirable": None, "weights": None}}
    run.write("run.json", json.dumps({"recipe": {**RECIPE, "clips": clips}}))
    (bound,) = reported(run)["scores"]["desirable"]["bounds"]
    assert 0 < bound["value"] < 0.5
    clips["score_quality"]["weights"] = "somewhere/else"
    run.write("run.json", json.dumps({"recipe": {**RECIPE, "clips": clips}}))
    assert reported(run)["scores"]["desirable"]["bounds"] == []


def test_ledgers_of_before_there_were_columns_give_the_same(run):
    new = reported(run)
    for name in ledger.files(run):
        made.age(run, name)
    old = reported(run)
    assert old == new


def test_of_a_clip_that_was_tried_again_the_newest_counts(run):
    made.run(run.path(), [[scored("g", 0.8)]], group=3, attempt=1)
    found = reported(run)
    assert (found["rows"], found["clips"]["kept"], found["clips"]["failed"]) == (8, 4, 1)
    assert found["failures"] == [{"stage": "split_shots", "reason": "no_frames", "count": 1, "key": "h", "detail": ""}]


def test_the_walls_clock_over_all_sessions(run):
    found = reported(run)["time"]
    assert (found["sessions"], found["wall_seconds"], found["clips_per_second"], found["wall_hours_of_the_rest"]) == (
        0,
        *[None] * 3,
    )
    assert "By the clock" not in html(run)
    told = [{"started": "2026-01-01T00:00:00+00:00", "seconds": 30.0, "clips": 6}, {"started": "", "seconds": 10.0, "clips": 2}]
    run.write(sessions.NAME, json.dumps(told))
    found = reported(run)["time"]
    assert (found["sessions"], found["wall_seconds"], found["clips_per_second"]) == (2, 40.0, 0.2)
    assert found["wall_hours_of_the_rest"] == round(found["rest"]["clips"] / 0.2 / 3600, 3) > 0
    assert "40 s in 2 sessions, 0.2 clips/s" in html(run)
    run.write(sessions.NAME, "[{}")
    assert reported(run)["time"]["sessions"] == 0


def test_in_a_bucket_it_is_the_same(run, s3):
    there = made.Storage.at(f"{s3}/run")
    for name in (*ledger.files(run), "shards/shard-00000-0000.tar", "run.json", "plan/plan.json"):
        there.write(name, run.read(name))
    assert {**reported(there), "run": ""} == {**reported(run), "run": ""} and html(there).count("<article") == 3


class Tags(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def test_what_strangers_wrote_is_text(tmp_path):
    one = scored("a", 0.9, HOSTILE)
    one.meta["source"]["caption"] = HOSTILE
    other = failed("b")
    other.drop(Verdict("failed", HOSTILE, HOSTILE, HOSTILE))
    storage = made.run(tmp_path, [[one, other]])
    storage.write("run.json", json.dumps({"recipe": {"version": HOSTILE, "models": {HOSTILE: HOSTILE}}}))
    report.write(storage.path())
    page = html(storage)
    tags = Tags(page).tags
    assert not {"script", "link", "iframe", "object", "form"} & {tag for tag, _ in tags}
    assert not [name for _, attributes in tags for name in attributes if name.startswith("on")]
    assert "&lt;script src=" in page and "{{ 7 * 7 }}" in page


def test_the_page_asks_nothing_of_a_network(run):
    reported(run)
    page = html(run)
    addresses = [value for _, a in Tags(page).tags for name, value in a.items() if name in ("src", "href", "srcset", "action")]
    assert addresses and all(value.startswith("data:image/") for value in addresses)
    assert "http" not in re.sub(r"http-equiv", "", page) and "url(" not in page and "@import" not in page
    assert "default-src 'none'" in page


def test_samples_are_shown_small_or_not_at_all(run):
    reported(run)
    assert html(run).count("<article") == 3 and html(run).count("data:image/jpeg") == 3
    reported(run, with_pictures=False)
    assert "<article" not in html(run) and "data:image" not in html(run)
    run.write("shards/shard-00000-0000.tar", b"x" * 700)
    reported(run)
    assert "<article" not in html(run), "a damaged shard has none"


def test_a_run_that_keeps_nothing_and_one_that_is_going_on(tmp_path):
    storage = made.Storage.at(tmp_path)
    with pytest.raises(InputError, match="no finished shard"):
        report.write(storage.path())
    made.write(storage, 3, [rejected("a")])
    found = reported(storage)
    assert found["clips"] == {"planned": 1, "kept": 0, "rejected": 1, "failed": 0, "not_done": 0}
    assert found["time"]["seconds_per_kept"] is None and "<h2>Words" not in html(storage)


def test_a_run_ends_with_it_and_never_by_it(run, capsys, monkeypatch):
    report.write_at_end(run)
    assert "report.html" in capsys.readouterr().err and run.exists("report.html")
    monkeypatch.setattr(report, "page", None)
    report.write_at_end(run)
    assert "no report: TypeError" in capsys.readouterr().err


def test_the_sample_runs_own_report(sample_run):
    found = json.loads((sample_run / "report.json").read_text())
    assert found["clips"] == {"planned": 15, "kept": 3, "rejected": 11, "failed": 1, "not_done": 0}
    assert found["funnel"][0]["came"] == 15 and found["funnel"][-1]["went_on"] == 3
    assert (sample_run / "report.html").read_text().count("<article") == 3
    assert found["entities"]["faces"] > 0 and found["entities"]["refs"] > 3
