"""Our five metrics against what MSRVTT-Personalization's released code says of the same videos (`benchmarks/mp_parity.py`)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.paper
for package in ("groundingdino", "segment_anything", "torchvision", "ultralytics"):
    pytest.importorskip(package, reason="needs the paper extra")

import torch  # noqa: E402

from curation.benchmark.case import Case  # noqa: E402
from curation.benchmark.metrics import Metric  # noqa: E402
from curation.benchmark.profiles import models, profile  # noqa: E402
from tests.benchmark import protocol  # noqa: E402
from tests.tiny import protocol as tiny  # noqa: E402

GOLDEN = json.loads((Path(__file__).parent / "golden/protocol.json").read_text())
"""Theirs, by video and metric."""
PRECISE = 2e-5


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tiny.store(tmp_path_factory.mktemp("protocol") / "home")


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return protocol.case(tmp_path_factory.mktemp("protocol") / "case")


@pytest.fixture
def metrics(home: Path, monkeypatch: pytest.MonkeyPatch) -> list[Metric]:
    monkeypatch.setenv("CURATION_HOME", str(home))
    return profile("papers", "cpu")


def test_every_metric_says_what_the_released_code_says(metrics: list[Metric], case: Case) -> None:
    truths = [metric.truth(case) for metric in metrics]
    assert {column for metric in metrics for column in metric.columns} == {*GOLDEN["fast"], "copy_paste", "pose_spread"}
    for name, video in protocol.videos().items():
        for metric, truth in zip(metrics, truths, strict=True):
            for column, value in metric.score(video, case, truth).items():
                if column in GOLDEN[name]:
                    assert value == pytest.approx(GOLDEN[name][column], abs=PRECISE), f"{name}: {column}"


def test_the_golden_videos_lie_on_both_sides() -> None:
    assert {numbers["dync_d"] for numbers in GOLDEN.values()} == {0.0, 1.0}
    assert {numbers["face_s"] == 0 for numbers in GOLDEN.values()} == {True, False}
    assert {numbers["subj_s"] == 0 for numbers in GOLDEN.values()} == {True, False}


def test_the_open_profile_scores_the_same_clip(home: Path, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATION_HOME", str(home))
    video = protocol.videos()["portrait"]
    found = {}
    for metric in profile("open", "cpu"):
        assert set(metric.models) <= set(models("open"))
        found |= metric.score(video, case, metric.truth(case))
    assert found["clip_t"] == pytest.approx(GOLDEN["portrait"]["text_s"], abs=PRECISE)
    assert found["dynamic_degree"] == GOLDEN["portrait"]["dync_d"]
    assert list(found) == [
        *("clip_t", "clip_i", "dino_i", "region_clip_t", "region_clip_i", "region_dino_i", "motion_smoothness", "dynamic_degree"),
        "facesim_arcface",
    ]
    assert all(isinstance(value, float) and -1 <= value <= 1 for value in found.values())
