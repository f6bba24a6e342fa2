"""The head's training: it learns what can be learnt, from what it may see, and again the same."""

from __future__ import annotations

import numpy as np
import pytest

from curation.quality import head
from curation.quality.measured import AS_IT_IS, MADE, UNSEEN, Measured
from curation.stages.score_quality import CLASSES

NAMES = tuple(dict.fromkeys(name for own in head.GOES_BY.values() for name in own))
TELL = {1: "residual_least", 2: "change_least", 3: "rectangle_two", 4: "pages"}
"""A measure of its own for each class."""


def examples(values: np.ndarray, label: np.ndarray, kind: np.ndarray, video: np.ndarray) -> Measured:
    return Measured(NAMES, values, label, kind, video.astype(str), video.astype(str))


def data(seed: int = 0, videos: int = 10, each: int = 60) -> tuple[Measured, np.ndarray]:
    """Noise, but for one measure of each class, on a skewed scale; and the part of each example."""
    rng = np.random.default_rng(seed)
    label = np.tile(np.arange(5), videos * each // 5)
    values = rng.normal(0, 1, (len(label), len(NAMES)))
    for cls, name in TELL.items():
        values[:, NAMES.index(name)] = np.exp(2.5 * (label == cls) + rng.normal(0, 0.5, len(label)))
    video = np.repeat(np.arange(videos), each)
    kind = np.tile([AS_IT_IS, MADE, MADE, UNSEEN], len(label))[: len(label)]
    return examples(values, label, kind, video), video % 5


def test_it_learns_what_can_be_learnt_the_same_each_time() -> None:
    given, part = data()
    found = head.cross_validated(given, part)
    assert (found.argmax(axis=1) == given.label).mean() > 0.8
    assert np.array_equal(found, head.cross_validated(given, part))
    a, b = head.trained(given), head.trained(given)
    assert np.array_equal(a.weight, b.weight) and np.array_equal(a.bias, b.bias) and np.array_equal(a.knots, b.knots)
    assert (head.judged(a, given).argmax(axis=1) == given.label).mean() > 0.8


def test_a_class_goes_by_its_own_measures_only() -> None:
    own = head.trained(data()[0])
    assert own.names == NAMES and not own.weight[0].any() and own.bias[0] == 0
    for row, cls in zip(own.weight[1:], CLASSES[1:], strict=True):
        assert {name for name, weight in zip(NAMES, row, strict=True) if weight} <= set(head.GOES_BY[cls])
        assert np.abs(row).max() == row[NAMES.index(TELL[CLASSES.index(cls)])]


def test_nothing_is_learnt_of_the_part_that_is_tested() -> None:
    """Labels that go by the video: known in training, unknowable in another part."""
    rng = np.random.default_rng(1)
    video = np.repeat(np.arange(20), 15)
    label = rng.integers(0, 5, 20)[video]
    values = rng.normal(0, 1, (20, len(NAMES)))[video] + rng.normal(0, 1e-3, (300, len(NAMES)))
    given = examples(values, label, np.full(300, MADE), video)
    found = head.cross_validated(given, video % 5)
    assert (found.argmax(axis=1) == label).mean() < 0.5
    assert (head.judged(head.trained(given), given).argmax(axis=1) == label).mean() > 0.8, "had it seen it, it would know"


def test_unseen_ways_are_not_trained_on_while_testing() -> None:
    """Where all unseen examples carry a wrong label, one that learnt of them would be another."""
    given, part = data()
    label = np.where(given.kind == UNSEEN, (given.label + 1) % 5, given.label)
    wrong = examples(given.values, label, given.kind, given.video)
    assert np.array_equal(head.cross_validated(wrong, part), head.cross_validated(given, part))
    assert not np.array_equal(head.trained(wrong).weight, head.trained(given).weight), "in the end it is trained on all"


def test_classes_weigh_the_same() -> None:
    weights = head.balanced(np.array([0] * 8 + [1, 1] + [2, 3, 4, 4]))
    sums = [weights[:8].sum(), weights[8:10].sum(), weights[10], weights[11], weights[12:].sum()]
    assert sums == pytest.approx([sums[0]] * 5)


def test_the_temperature_undoes_what_was_overstated() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4000, 5))
    odds = np.exp(logits)
    shares = odds / odds.sum(axis=1, keepdims=True)
    label = np.array([rng.choice(5, p=row) for row in shares])
    loud = np.exp(3 * logits)
    loud /= loud.sum(axis=1, keepdims=True)
    found = head.temperature(loud, label)
    assert found == pytest.approx(3, rel=0.15)
    assert head.softened(loud, found) == pytest.approx(shares, abs=0.1)
    assert head.temperature(shares, label) == pytest.approx(1, rel=0.15)


def test_softened_keeps_the_order_and_the_sum() -> None:
    hard = np.array([[0.97, 0.01, 0.01, 0.005, 0.005]])
    soft = head.softened(hard, 2.0)
    assert soft.sum() == pytest.approx(1) and soft[0, 0] < hard[0, 0] and (np.diff(soft[0]) <= 0).all()
    assert head.softened(hard, 1.0) == pytest.approx(hard)
