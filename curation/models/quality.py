"""The small quality filter: from plain measures and EfficientNet's look of a clip to the papers' five classes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from curation.models.efficientnet import Looks

DESIRABLE = "desirable"
"""The class that stays (PAPER.md §1.2)."""
KIND = "curation-quality-filter"
"""What config.json calls it."""
LOOKED_AT = 4
"""Pictures of a clip that EfficientNet sees."""
SHOWN = {
    "pages": (916, 917, 918, 921, 922),  # web site, comic book, crossword, book jacket, menu
    "screens": (527, 620, 664, 681, 782, 851),  # desktop computer, laptop, monitor, notebook, screen, television
    "phones": (487, 590, 605),  # cellular telephone, hand-held computer, iPod
}
"""ImageNet's classes that tell of pages and screens."""


def looked_at(pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Those of a clip's pictures that EfficientNet is to see."""
    return [pictures[round((at + 0.5) * len(pictures) / LOOKED_AT - 0.5)] for at in range(LOOKED_AT)]


def plain(pictures: Sequence[np.ndarray]) -> dict[str, float]:
    """What is measured of evenly spaced pictures, uint8 RGB of one size, without a network."""
    from curation.models import layout, motion

    greys = motion.shrunk(pictures)
    return motion.measures(greys) | layout.measures(pictures, greys)


def measures(pictures: Sequence[np.ndarray], looks: Looks) -> dict[str, float]:
    """All that the filter knows of a clip: of its evenly spaced pictures, uint8 RGB of one size, and of the looks of those that
    are `looked_at`."""
    shown = looks.classes.mean(axis=0)
    alike = (looks.embedding[:-1] * looks.embedding[1:]).sum(axis=1)
    found = plain(pictures) | {name: float(shown[list(classes)].sum()) for name, classes in SHOWN.items()}
    return found | {
        "look_step": float(1 - alike.mean()),
        "look_most": float(1 - alike.min()),
        "look_far": float(1 - looks.embedding[0] @ looks.embedding[-1]),
    }


@dataclass(frozen=True)
class Rule:
    """Which clips are rejected: those whose probability of `desirable` is below `min_desirable`, if the likeliest other class is
    among `rejects`."""

    min_desirable: float
    rejects: tuple[str, ...] = field(default=())

    def reason(self, shares: Mapping[str, float]) -> str | None:
        """The class that a clip is rejected as by its probabilities, by class; None when it stays."""
        against = max((name for name in shares if name != DESIRABLE), key=shares.__getitem__)
        return against if shares[DESIRABLE] < self.min_desirable and against in self.rejects else None


@dataclass(frozen=True)
class QualityFilter:
    """A logistic regression. Measures are first put on the scale of a normal distribution by their quantiles among the examples
    it was trained on.

    `knots`, float32 [measures, quantiles]; `weight`, [classes, measures]; `bias`, [classes].
    """

    classes: tuple[str, ...]
    names: tuple[str, ...]
    rule: Rule
    knots: np.ndarray
    weight: np.ndarray
    bias: np.ndarray

    def __call__(self, clips: Sequence[Mapping[str, float]]) -> np.ndarray:
        """Probabilities, float64 [clips, classes], of the `measures` of each."""
        return self.probabilities(self.scaled(np.array([[clip[name] for name in self.names] for clip in clips])))

    def scaled(self, values: np.ndarray) -> np.ndarray:
        return scaled(values, self.knots)

    def probabilities(self, values: np.ndarray) -> np.ndarray:
        logits = values @ self.weight.astype(np.float64).T + self.bias.astype(np.float64)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)

    def save(self, folder: Path) -> None:
        from safetensors.numpy import save

        folder.mkdir(parents=True, exist_ok=True)
        arrays = {name: np.ascontiguousarray(getattr(self, name), np.float32) for name in ("knots", "weight", "bias")}
        (folder / "model.safetensors").write_bytes(save(arrays))
        facts = {"kind": KIND, "classes": self.classes, "measures": self.names, "rule": asdict(self.rule)}
        (folder / "config.json").write_text(f"{json.dumps(facts, indent=2)}\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> QualityFilter:
        """Raises OSError, KeyError or ValueError when the folder does not hold one."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        facts = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        try:
            arrays = load_file(folder / "model.safetensors")
        except SafetensorError as error:
            raise ValueError(f"model.safetensors: {error}") from error
        rule = Rule(float(facts["rule"]["min_desirable"]), tuple(facts["rule"]["rejects"]))
        knots, weight, bias = (arrays[name] for name in ("knots", "weight", "bias"))
        found = cls(tuple(facts["classes"]), tuple(facts["measures"]), rule, knots, weight, bias)
        if (
            knots.shape[:1] != weight.shape[1:]
            or weight.shape != (len(found.classes), len(found.names))
            or len(bias) != len(weight)
        ):
            raise ValueError("model.safetensors does not fit config.json")
        return found


def scaled(values: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """float64 [clips, measures] → the same, each measure by its quantiles as a normal distribution has them, within ±2.2."""
    count = knots.shape[1]
    normal = np.array([NormalDist().inv_cdf((at + 0.5) / count) for at in range(count)])
    columns = []
    for column, own in zip(np.asarray(values, np.float64).T, knots.astype(np.float64), strict=True):
        places, ties = np.unique(own, return_inverse=True)
        columns.append(np.interp(column, places, np.bincount(ties, normal) / np.bincount(ties)))
    return np.stack(columns, axis=1)
