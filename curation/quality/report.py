"""How good a filter is, on examples it was not trained on: numbers as JSON, the confusion matrix as a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np

from curation.models.quality import Rule
from curation.stages.score_quality import CLASSES, DESIRABLE

STAY = 0.97
"""Share of the desirable examples of unseen videos that is to stay, those that are dressed as well."""
PRECISE = 0.95
"""Least share of the clips rejected as of a class that are not desirable, for that class to reject by default."""
PANDA = (0.805, 0.0682, 0.0120, 0.0503, 0.0113)
"""Shares of the classes in Panda-70M (PAPER.md §2)."""
SHORT = ("desirable", "still", "slight", "in screen", "screen")


def wilson(hits: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """The interval of a share at 95 %."""
    if not count:
        return 0.0, 1.0
    share, square = hits / count, z * z / count
    middle, half = share + square / 2, z * sqrt(share * (1 - share) / count + square / (4 * count))
    return max(0.0, (middle - half) / (1 + square)), min(1.0, (middle + half) / (1 + square))


def reasons(probabilities: np.ndarray, rule: Rule) -> np.ndarray:
    """Of each example the class it is rejected as, an index in CLASSES; 0 when it stays."""
    given = [rule.reason(dict(zip(CLASSES, row, strict=True))) for row in probabilities.tolist()]
    return np.array([CLASSES.index(name or DESIRABLE) for name in given], int)


def calibrated(probabilities: np.ndarray, label: np.ndarray) -> Rule:
    """The greatest `min_desirable` at which a share of `STAY` of the desirable stays, and the classes that are precise enough
    there; one that is not leaves the others more to reject."""
    rejects: tuple[str, ...] = CLASSES[1:]
    while True:
        rule = Rule(_least(probabilities[label == 0], rejects), rejects)
        found = precision(reasons(probabilities, rule), label, (1.0,) * len(CLASSES))
        precise = tuple(name for name in rejects if (share := found[name]) is not None and share >= PRECISE)
        if precise == rejects:
            return rule
        rejects = precise


def _least(desirable: np.ndarray, rejects: tuple[str, ...]) -> float:
    """The greatest `min_desirable`, to four digits, at which `STAY` of these examples stay."""
    below = Rule(1.1, rejects)  # whoever could be rejected at all
    at_risk = np.sort(desirable[reasons(desirable, below) != 0, 0])
    spared = int((1 - STAY) * len(desirable) + 1e-9)
    return float(np.floor(1e4 * at_risk[spared]) / 1e4) if len(at_risk) > spared else 1.0


def precision(given: np.ndarray, label: np.ndarray, shares: Sequence[float]) -> dict[str, float | None]:
    """Of the clips rejected as of each class the share that is not desirable, where the classes have these shares; None when
    there are none."""
    counts = np.bincount(label, minlength=len(CLASSES))
    weight = (np.array(shares) / np.maximum(counts, 1))[label]
    found: dict[str, float | None] = {}
    for at, name in enumerate(CLASSES[1:], 1):
        total = weight[given == at].sum()
        found[name] = round(float(weight[(given == at) & (label != 0)].sum() / total), 4) if total else None
    return found


def report(probabilities: np.ndarray, label: np.ndarray, rule: Rule) -> dict[str, Any]:
    """Of one set of examples: how many of each class stay, with the interval, and what the others are rejected as."""
    given, everything = reasons(probabilities, rule), reasons(probabilities, Rule(rule.min_desirable, CLASSES[1:]))
    balanced, panda = (precision(everything, label, shares) for shares in ((1.0,) * len(CLASSES), PANDA))
    classes: dict[str, Any] = {}
    for at, name in enumerate(CLASSES):
        own = label == at
        hits = int((given[own] == 0).sum() if at == 0 else (everything[own] != 0).sum())
        low, high = wilson(hits, int(own.sum()))
        share = round(hits / own.sum(), 4) if own.any() else None
        classes[name] = {
            "examples": int(own.sum()),
            "kept" if at == 0 else "recall": share,
            "interval": [round(low, 4), round(high, 4)],
        }
        if at:
            classes[name] |= {
                "precision": balanced[name],
                "precision_at_panda70m_shares": panda[name],
                "rejects": name in rule.rejects,
            }
    confusion = np.zeros((len(CLASSES), len(CLASSES)), int)
    np.add.at(confusion, (label, everything), 1)
    return {"classes": classes, "confusion": {name: row.tolist() for name, row in zip(CLASSES, confusion, strict=True)}}


def write(folder: Path, found: dict[str, Any]) -> None:
    (folder / "report.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def picture(path: Path, confusion: dict[str, list[int]], title: str) -> None:
    """The confusion matrix as PNG: rows are what examples are, columns what they are taken for."""
    import cv2

    cell, left, top = 110, 190, 110
    side = cell * len(CLASSES)
    image = np.full((top + side + 30, left + side + 30, 3), 255, np.uint8)
    face = cv2.FontFace("sans")
    cv2.putText(image, title, (14, 32), (40, 40, 40), face, 20, 600)
    for at, name in enumerate(SHORT):
        heading = "kept" if at == 0 else f"as {name}"
        cv2.putText(image, heading, (left + at * cell + 8, top - 12), (60, 60, 60), face, 15, 500)
        cv2.putText(image, name, (14, top + at * cell + cell // 2 + 6), (60, 60, 60), face, 17, 500)
    for row, name in enumerate(CLASSES):
        total = max(1, sum(confusion[name]))
        for column, count in enumerate(confusion[name]):
            share = count / total
            ground = (np.array([255, 255, 255]) + share * (np.array([150, 90, 30]) - 255)).astype(int).tolist()  # BGR
            x, y = left + column * cell, top + row * cell
            cv2.rectangle(image, (x, y), (x + cell - 3, y + cell - 3), ground, -1)
            ink = (255, 255, 255) if share > 0.5 else (30, 30, 30)
            cv2.putText(image, f"{100 * share:.0f} %", (x + 26, y + 54), ink, face, 24, 600)
            cv2.putText(image, f"{count}", (x + 26, y + 82), ink, face, 15, 400)
    cv2.imwrite(str(path), image)


def table(found: dict[str, Any]) -> str:
    """What a person reads at the end."""
    lines = []
    for name, row in found["classes"].items():
        low, high = row["interval"]
        if name == DESIRABLE:
            lines.append(f"  {name:27} {row['examples']:5} examples, kept {_share(row['kept'])} ({low:.3f} to {high:.3f})")
            continue
        decides = "rejects" if row["rejects"] else "is recorded only"
        found_share = f"found {_share(row['recall'])} ({low:.3f} to {high:.3f}), precision {_share(row['precision'])}"
        lines.append(f"  {name:27} {row['examples']:5} examples, {found_share}: {decides}")
    return "\n".join(lines)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
