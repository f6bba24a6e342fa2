"""Rows and cells from scores of videos; `scores.csv` is synthetic, `table.json` what a hand has counted of it."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from curation.benchmark import scores
from curation.benchmark.errors import BenchmarkError

HERE = Path(__file__).parent


def test_a_table_is_made_anew_from_scores_of_videos():
    methods = {name: scores.columns(rows) for name, rows in scores.read_csv(HERE / "scores.csv").items()}
    golden = json.loads((HERE / "table.json").read_text())
    assert scores.table(methods) == golden["table"]
    counted = {
        name: {c.metric: {"count": c.count, "zeros": c.zeros, "undefined": dict(c.undefined)} for c in found}
        for name, found in methods.items()
    }
    assert counted == golden["counted"]
    spans = {name: {c.metric: [scores.cell(c.low), scores.cell(c.high)] for c in found} for name, found in methods.items()}
    assert spans == golden["intervals"]


@pytest.mark.parametrize(
    "value, digits, text",
    [
        (0.617, 3, ".617"),
        (0.6165, 3, ".617"),  # half away from zero
        (0.61649999999, 3, ".616"),
        (0.1 + 0.2, 3, ".300"),
        (0.4985000000000001, 3, ".499"),
        (0.49849999999999994, 3, ".499"),  # the same sum in another order
        (1.0, 3, "1.000"),
        (0.9996, 3, "1.000"),
        (0.0, 3, ".000"),
        (-0.012, 3, "-.012"),
        (0.28134, 4, ".2813"),
        (47.6, 1, "47.6"),
        (None, 3, "–"),
    ],
)
def test_cells_are_printed_as_the_papers_print_them(value, digits, text):
    assert scores.cell(value, digits) == text


def test_ties_are_of_what_is_printed():
    assert scores.best([0.6171, 0.6169, 0.61, None]) == [True, True, False, False]
    assert scores.best([0.6171, 0.6169, 0.61], digits=4) == [True, False, False]
    assert scores.best([None, 0.5]) == [False, False], "there is none to compare with"
    assert scores.best([-0.2, -0.1]) == [False, True]


def test_an_interval_follows_from_the_videos_alone():
    generator = np.random.default_rng(3)
    found = {f"video{n}": float(value) for n, value in enumerate(generator.normal(0.6, 0.1, 400))}
    shuffled = list(found.items())
    random.Random(1).shuffle(shuffled)
    low, high = scores.interval(found)
    assert scores.interval(dict(shuffled)) == (low, high)
    mean, error = np.mean(list(found.values())), np.std(list(found.values())) / 20
    assert abs(low - (mean - 1.96 * error)) < 0.15 * error and abs(high - (mean + 1.96 * error)) < 0.15 * error
    narrow = scores.interval(found, level=0.5)
    assert low < narrow[0] < mean < narrow[1] < high
    moved = scores.interval({key: value + 0.1 for key, value in found.items()})
    assert np.allclose(np.array(moved) - 0.1, (low, high)), "two methods on the same videos: the same draws"
    other = scores.interval({f"other{key}": value for key, value in found.items()})
    assert other != (low, high)


def test_one_video_has_no_interval_and_none_no_mean():
    assert scores.column("m", {"a": 0.5}) == scores.Column("m", 0.5, None, None, 1, 0, {})
    assert scores.column("m", {}) == scores.Column("m", None, None, None, 0, 0, {})


def test_a_score_that_stands_twice_is_refused():
    row = {"key": "a", "metric": "m", "score": 0.5, "reason": ""}
    with pytest.raises(BenchmarkError, match="m of a stands twice"):
        scores.columns([row, row])


@pytest.mark.parametrize(
    "text, told",
    [
        ("key,score\n", "method, metric"),
        ("method,key,metric,score\na,b,c,nan\n", "'nan'"),
        ("method,key,metric,score\na,b,c,x\n", "line 2: 'x' is no score"),
    ],
)
def test_a_csv_that_is_none(tmp_path, text, told):
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(BenchmarkError, match=told):
        scores.read_csv(tmp_path / "s.csv")
