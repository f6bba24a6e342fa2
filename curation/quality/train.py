"""`curation train-filter`: a quality filter of a user's own clips, whose undesirable examples are made of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from curation.console import say
from curation.inputs.files import InputError
from curation.models.quality import Rule
from curation.quality import head, report
from curation.quality.measured import AS_IT_IS, MADE, UNSEEN, Measured, is_raw, measured, pictures
from curation.quality.sources import Shot, folds, labelled, shots
from curation.stages.score_quality import CLASSES

PARTS = 5
"""Into which videos are put for cross-validation."""


def train(input: str, output: Path, labels: Path | None, init: Path | None, videos: str | None, limit: int | None) -> None:
    """Write `OUTPUT/model/` (what `score_quality.weights` takes), `report.json`, `confusion.png` and `examples.png`.

    Without `init` the small filter; with it a VideoMAE, fine-tuned from that folder. What is done already is not done again, and
    the same clips give the same weights. Raises `InputError`.
    """
    if init and not (init.expanduser() / "config.json").is_file():
        raise InputError(f"--init {init}: no config.json there; it should be the folder of a VideoMAE, as transformers saves it")
    output.mkdir(parents=True, exist_ok=True)
    shown, became = shots(input, output, labels, videos, limit)
    shown = list(labelled(shown))
    part = _parts(shown)
    sheet(output / "examples.png", shown, part)
    if init is None:
        found = _small(shown, part, output)
    else:
        from curation.quality.finetune import finetune

        found = finetune(shown, part, output, init.expanduser())
    clips = {reason: int(count) for reason, count in sorted(became.items()) if count}
    said = Counter(shot.label or "unlabelled" for shot in shown)
    found = {"clips": clips, "shots": dict(sorted(said.items())), "videos": len(part), **found}
    report.write(output, found)
    report.picture(output / "confusion.png", found["unseen_ways"]["confusion"], "videos and ways that were not trained on")
    say(report.table(found["unseen_ways"]))
    say(f"{output / 'model'}: set score_quality.weights to it; {output / 'report.json'} has all figures")


def _parts(shown: Sequence[Shot]) -> dict[str, int]:
    raw = {shot.video for shot in shown if is_raw(shot)}
    if len(raw) < 2:
        raise InputError(f"--input: {len(raw)} videos that move like a video; examples are made of at least 2, tested on others")
    return folds(shown, min(PARTS, len(raw)))


def _small(shown: Sequence[Shot], part: dict[str, int], output: Path) -> dict[str, Any]:
    data = measured(shown, part, output)
    places = np.array([part[str(video)] for video in data.video])
    found = head.cross_validated(data, places)
    tested = data.kind != MADE
    temperature = head.temperature(found[tested], data.label[tested])
    found = head.softened(found, temperature)
    rule = report.calibrated(found, data.label)
    own = head.trained(data)
    replace(own, rule=rule, weight=own.weight / temperature, bias=own.bias / temperature).save(output / "model")
    return {"filter": "small", "parts": int(places.max()) + 1, "temperature": temperature, **_figures(data, found, rule)}


def _figures(data: Measured, found: np.ndarray, rule: Rule) -> dict[str, Any]:
    """Of cross-validation: on clips as they are and on what is made by ways that are never trained on; on all others; on clips as
    they are alone."""
    sets = {"unseen_ways": data.kind != MADE, "seen_ways": data.kind != UNSEEN, "as_they_are": data.kind == AS_IT_IS}
    figures = {name: report.report(found[mask], data.label[mask], rule) for name, mask in sets.items()}
    return {"rule": {"min_desirable": rule.min_desirable, "rejects": list(rule.rejects)}, **figures}


def sheet(path: Path, shown: Sequence[Shot], part: dict[str, int], rows: int = 6) -> None:
    """Some examples of every class, for eyes: five pictures of each, seen ways left and unseen ones right."""
    import cv2

    if path.exists():
        return
    raw = [shot for shot in shown if is_raw(shot)]
    rows = min(rows, len(raw))
    lines = []
    for label in CLASSES:
        for row in range(rows):
            shot = raw[(row * len(raw) // rows) % len(raw)]
            others = [other for other in raw if part[other.video] == part[shot.video]]
            clips = [pictures(shot, others, kind, label, row) for kind in (MADE, UNSEEN)]
            lines.append(np.hstack([strip(clip) for clip in clips]))
        lines[-rows] = cv2.copyMakeBorder(lines[-rows][24:], 24, 0, 0, 0, cv2.BORDER_CONSTANT, value=(255, 255, 255))
        cv2.putText(lines[-rows], label, (4, 17), (30, 30, 30), cv2.FontFace("sans"), 16, 600)
    cv2.imwrite(str(path), np.vstack(lines)[..., ::-1])


def strip(clip: np.ndarray, height: int = 96, wide: int = 150, count: int = 5) -> np.ndarray:
    import cv2

    cells = []
    for place in np.linspace(0, len(clip) - 1, count).astype(int):
        frame = clip[place]
        scale = min(height / frame.shape[0], wide / frame.shape[1])
        small = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        cell = np.full((height + 2, wide + 2, 3), 255, np.uint8)
        cell[: small.shape[0], : small.shape[1]] = small
        cells.append(cell)
    return np.hstack([*cells, np.full((height + 2, 12, 3), 255, np.uint8)])
