"""Train the small filter on measures, and find out by parts that it has not seen how good it is.

A logistic regression in which each undesirable class goes by few measures of its own. Compared on the free videos and on
panda70m-mini: with all measures, and with a hidden layer (of all, or of each class's own), it tells apart what it has seen better
and other people's clips worse (see the card in curation/models/quality_filter/).
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from curation.models.quality import QualityFilter, Rule, scaled
from curation.quality.measured import UNSEEN, Measured
from curation.stages.score_quality import CLASSES

GOES_BY: dict[str, tuple[str, ...]] = {
    "still_foreground_image": (
        *("residual", "residual_most", "residual_least", "residual_flow", "far_residual", "far_residual_most"),
        *("far_residual_least", "far_residual_flow", "explained", "explained_least", "explained_two", "far_explained"),
        *("far_explained_two", "unlike", "far_unlike", "rough", "steady", "camera", "idle"),
    ),
    "slight_motion": (
        *("residual", "residual_most", "residual_flow", "far_residual", "change", "change_most", "change_least", "same", "idle"),
        *("camera", "camera_most", "far_camera", "unlike", "moving"),
    ),
    "screen_in_screen": (
        *("rectangle", "rectangle_mean", "rectangle_two", "rectangle_three", "blur_step_upright", "blur_step_level"),
        "textured_border",
    ),
    "computer_screen_recording": (
        *(
            "flat",
            "few_colours",
            "one_colour",
            "square_edges",
            "strong_edges",
            "text_share",
            "pages",
            "screens",
            "phones",
            "same",
        ),
        *("idle", "bursts", "look_step", "change", "residual", "static_upright", "static_level"),
    ),
}
"""The measures that each class goes by."""
DECAY = 0.03
"""Weight of the sum of squared weights; of 1e-4 to 0.3 the best by cross-validation on the free videos."""
STEPS, QUANTILES = 200, 33


def knots(values: np.ndarray) -> np.ndarray:
    """float64 [measures, QUANTILES]."""
    return np.quantile(values, np.linspace(0, 1, QUANTILES), axis=0).T


def class_weights(label: np.ndarray) -> np.ndarray:
    """A weight for each class, so that the examples of every class weigh the same."""
    counts = np.bincount(label, minlength=len(CLASSES))
    return len(label) / len(CLASSES) / np.maximum(counts, 1)


def balanced(label: np.ndarray) -> np.ndarray:
    """That weight for each example."""
    return class_weights(label)[label]


def trained(data: Measured, mask: np.ndarray | None = None) -> QualityFilter:
    """Of the examples in the mask, or of all. The same examples give the same weights."""
    names = tuple(dict.fromkeys(name for own in GOES_BY.values() for name in own))
    values, label = data.values[:, [data.names.index(name) for name in names]], data.label
    if mask is not None:
        values, label = values[mask], label[mask]
    own = knots(values)
    weight, bias = _fit(scaled(values, own), label, names)
    return QualityFilter(CLASSES, names, Rule(0.5, CLASSES[1:]), own, weight, bias)


def cross_validated(data: Measured, part: np.ndarray) -> np.ndarray:
    """Probabilities [N, classes] of every example by a filter that has seen nothing of its part, nor of how what is `UNSEEN` was
    made."""
    found = np.zeros((len(part), len(CLASSES)))
    for tested in range(int(part.max()) + 1):
        here = part == tested
        found[here] = judged(trained(data, ~here & (data.kind != UNSEEN)), data, here)
    return found


def judged(own: QualityFilter, data: Measured, mask: np.ndarray | None = None) -> np.ndarray:
    """Probabilities of the examples in the mask, or of all."""
    values = data.values[:, [data.names.index(name) for name in own.names]]
    return own.probabilities(own.scaled(values if mask is None else values[mask]))


def temperature(probabilities: np.ndarray, label: np.ndarray) -> float:
    """By which logits are divided so that probabilities are as often right as they say: of 0.2 to 5 the one of least loss."""
    logits, weights = np.log(np.maximum(probabilities, 1e-12)), balanced(label)
    found = {}
    for tried in np.geomspace(0.2, 5, 80):
        soft = logits / tried
        norm = np.log(np.exp(soft - soft.max(axis=1, keepdims=True)).sum(axis=1)) + soft.max(axis=1)
        found[float(tried)] = float((weights * (norm - soft[np.arange(len(label)), label])).mean())
    return min(found, key=found.__getitem__)


def softened(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    powers = np.maximum(probabilities, 1e-12) ** (1 / temperature)
    return powers / powers.sum(axis=1, keepdims=True)


def _fit(values: np.ndarray, label: np.ndarray, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Weights [classes, measures] and biases [classes] of the least loss; those of the desirable are 0."""
    x, y = torch.tensor(values, dtype=torch.float64), torch.tensor(label)
    weights = torch.tensor(balanced(label), dtype=torch.float64)
    allowed = torch.tensor([[name in GOES_BY.get(cls, ()) for name in names] for cls in CLASSES], dtype=torch.float64)
    free = torch.tensor([float(cls in GOES_BY) for cls in CLASSES], dtype=torch.float64)
    weight = torch.zeros(allowed.shape, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(len(CLASSES), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        logits = x @ (weight * allowed).T + bias * free
        found = (F.cross_entropy(logits, y, reduction="none") * weights).sum() / weights.sum()
        found = found + DECAY * (weight * allowed).square().sum()
        found.backward()
        return found

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return (weight * allowed).detach().numpy(), (bias * free).detach().numpy()
