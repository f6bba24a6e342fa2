"""Figures of a filter: intervals, the operating point, who rejects."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from curation.models.quality import Rule
from curation.quality import report
from curation.stages.score_quality import CLASSES


def test_the_interval_is_wilsons() -> None:
    """Values of Wilson's interval as Brown, Cai and DasGupta (2001) have them for 0 of 10, and the textbook's 8 of 10."""
    assert report.wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-3)
    assert report.wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-3)
    assert report.wilson(0, 0) == (0.0, 1.0)


def shares(rows: list[list[float]]) -> np.ndarray:
    return np.array(rows) / np.sum(rows, axis=1, keepdims=True)


def test_who_is_rejected_as_what() -> None:
    found = shares([[9, 1, 0, 0, 0], [1, 1, 6, 1, 1], [4, 0, 0, 3, 2], [4, 3, 0, 0, 2]])
    assert report.reasons(found, Rule(0.5, CLASSES[1:])).tolist() == [0, 2, 3, 1]
    assert report.reasons(found, Rule(0.5, CLASSES[2:])).tolist() == [0, 2, 3, 0], "a class that does not reject only records"
    assert report.reasons(found, Rule(0.4, CLASSES[1:])).tolist() == [0, 2, 0, 0]


def test_the_operating_point_keeps_its_share() -> None:
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1, 2, 3, 4], 400)
    desirable = np.where(label == 0, rng.beta(8, 2, 2000), rng.beta(2, 8, 2000))
    found = np.zeros((2000, 5))
    found[:, 0] = desirable
    found[np.arange(2000), np.where(label == 0, rng.integers(1, 5, 2000), label)] = 1 - desirable
    rule = report.calibrated(found, label)
    assert (report.reasons(found[label == 0], rule) == 0).mean() == pytest.approx(report.STAY, abs=0.005)
    assert rule.rejects == CLASSES[1:]
    figures = report.report(found, label, rule)["classes"]
    assert figures["desirable"]["kept"] == pytest.approx(report.STAY, abs=0.005)
    assert figures["slight_motion"]["recall"] == pytest.approx((desirable[label == 2] < rule.min_desirable).mean(), abs=1e-4)


def test_a_class_that_rejects_the_desirable_only_records() -> None:
    """All desirable examples that fall look like screens; so the class of screens is not precise enough to reject."""
    label = np.array([0] * 97 + [0] * 3 + [1] * 100 + [4] * 10)
    found = np.tile([0.9, 0.1, 0, 0, 0], (210, 1))
    found[97:100] = [0.1, 0, 0, 0, 0.9]
    found[100:200] = [0.05, 0.95, 0, 0, 0]
    found[200:] = [0.95, 0, 0, 0, 0.05]
    found[209] = [0.1, 0, 0, 0, 0.9]
    rule = report.calibrated(found, label)
    assert "still_foreground_image" in rule.rejects and "computer_screen_recording" not in rule.rejects
    figures = report.report(found, label, rule)["classes"]
    assert figures["still_foreground_image"]["precision"] == 1.0 and not figures["computer_screen_recording"]["rejects"]


def test_precision_goes_by_the_shares() -> None:
    given = np.array([1, 1, 0, 0, 1])
    label = np.array([1, 1, 0, 0, 0])
    assert report.precision(given, label, (1, 1, 1, 1, 1))["still_foreground_image"] == pytest.approx(1 / (1 + 1 / 3), abs=1e-4)
    mixed = report.precision(np.array([2, 0]), np.array([1, 0]), (1, 1, 1, 1, 1))
    assert mixed["slight_motion"] == 1.0, "what is taken for another class that is to go is rejected rightly"
    rare = report.precision(given, label, report.PANDA)["still_foreground_image"]
    assert rare == pytest.approx(0.0682 / (0.0682 + 0.805 / 3), abs=1e-3)


def test_what_is_written_can_be_read_and_seen(tmp_path: Path) -> None:
    label = np.repeat(np.arange(5), 4)
    found = np.eye(5)[label] * 0.8 + 0.04
    figures = report.report(found, label, report.calibrated(found, label))
    report.write(tmp_path, figures)
    assert json.loads((tmp_path / "report.json").read_text()) == figures
    report.picture(tmp_path / "c.png", figures["confusion"], "t")
    image = cv2.imread(str(tmp_path / "c.png"))
    centres = [[image[110 + 110 * row + 90, 190 + 110 * column + 90].mean() for column in range(5)] for row in range(5)]
    assert all(min(row) == row[at] and sorted(row)[1] > 240 for at, row in enumerate(centres)), "the diagonal is dark"
    assert report.table(figures).count("\n") == 4
