"""The small filter: its arithmetic, its file, and the one that comes along."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from curation.models import layout, motion
from curation.models.efficientnet import Looks
from curation.models.quality import QualityFilter, Rule, looked_at, measures, scaled
from curation.stages.score_quality import CLASSES, SMALL


def made(seed: int = 0, names: tuple[str, ...] = ("a", "b", "c")) -> QualityFilter:
    rng = np.random.default_rng(seed)
    knots = np.sort(rng.normal(0, 2, (len(names), 9)), axis=1)
    return QualityFilter(CLASSES, names, Rule(0.4, CLASSES[1:3]), knots, rng.normal(0, 1, (5, len(names))), rng.normal(0, 1, 5))


def test_probabilities_are_those_of_a_logistic_regression() -> None:
    own = made()
    clips = [{"a": 0.1, "b": -0.4, "c": 2.0}, {"c": 0.0, "b": 1.0, "a": -1.0}]
    values = torch.tensor(own.scaled(np.array([[0.1, -0.4, 2.0], [-1.0, 1.0, 0.0]])))
    wanted = torch.nn.functional.linear(values, torch.tensor(own.weight), torch.tensor(own.bias)).softmax(1)
    assert own(clips) == pytest.approx(wanted.numpy(), abs=1e-9)
    assert own(clips).sum(axis=1) == pytest.approx([1, 1])


def test_scaled_goes_by_quantiles() -> None:
    knots = np.array([[0.0, 0.0, 0.0, 1.0, 8.0]])
    found = scaled(np.array([[-5.0], [0.0], [0.5], [1.0], [8.0], [1e9]]), knots)[:, 0]
    assert (np.diff(found) >= 0).all() and found[0] == found[1] and found[-1] == found[-2]
    assert found[3] == pytest.approx(0.5244, abs=1e-3), "the fourth of five quantiles"
    assert found[1] == pytest.approx((-1.2816 - 0.5244 + 0) / 3, abs=1e-3), "the mean of those that are tied"


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    own = made()
    own.save(tmp_path / "f")
    again = QualityFilter.load(tmp_path / "f")
    clips = [{"a": 0.1, "b": -0.4, "c": 2.0}]
    assert again(clips) == pytest.approx(own(clips), abs=1e-6)
    assert (again.rule, again.classes, again.names) == (own.rule, own.classes, own.names)
    own.save(tmp_path / "g")
    assert (tmp_path / "f/model.safetensors").read_bytes() == (tmp_path / "g/model.safetensors").read_bytes()


@pytest.mark.parametrize("fault", ["measures", "classes", "rule", "bytes"])
def test_what_does_not_fit_is_refused(tmp_path: Path, fault: str) -> None:
    made().save(tmp_path)
    if fault == "bytes":
        (tmp_path / "model.safetensors").write_bytes(b"nothing of the kind")
    else:
        facts = json.loads((tmp_path / "config.json").read_text())
        facts = {k: v for k, v in facts.items() if k != fault} if fault == "rule" else facts | {fault: facts[fault][1:]}
        (tmp_path / "config.json").write_text(json.dumps(facts))
    with pytest.raises((ValueError, KeyError)):
        QualityFilter.load(tmp_path)


def test_efficientnet_sees_four_of_sixteen() -> None:
    assert looked_at(list(range(16))) == [2, 6, 10, 14] and len(looked_at([np.zeros(1)])) == 4  # type: ignore[list-item]


def test_measures_of_looks() -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (90, 160, 3), np.uint8)] * 16
    classes = np.full((4, 1000), 0.0004, np.float32)
    classes[:, 916] = 0.6
    looks = Looks(classes, np.eye(4, 8, dtype=np.float32))
    found = measures(pictures, looks)
    assert found["pages"] == pytest.approx(0.6 + 4 * 0.0004, abs=1e-5) and found["phones"] == pytest.approx(0.0012, abs=1e-6)
    assert found["look_step"] == found["look_most"] == found["look_far"] == 1.0, "embeddings at right angles"
    greys = motion.shrunk(pictures)
    plain = motion.measures(greys) | layout.measures(pictures, greys)
    assert plain.items() <= found.items()


def test_the_one_that_comes_along_fits_what_is_measured() -> None:
    own = QualityFilter.load(SMALL)
    looks = Looks(np.full((4, 1000), 0.001, np.float32), np.full((4, 4), 0.5, np.float32))
    found = measures([np.zeros((90, 160, 3), np.uint8)] * 16, looks)
    assert set(own.names) <= set(found), "made with other measures: train it again (curation/models/quality_filter/README.md)"
    assert own.classes == CLASSES and 0 < own.rule.min_desirable < 1
    assert sum(file.stat().st_size for file in SMALL.iterdir()) < 4e6
