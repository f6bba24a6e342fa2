"""The bounds that a run's recipe sets to what its ledger has columns of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

KNOBS = (
    ("duration", "split_shots", "min_seconds", "least"),
    ("duration", "split_shots", "max_seconds", "most"),
    ("boundary", "split_shots", "threshold", "most"),
    ("desirable", "score_quality", "min_desirable", "least"),
    ("smallest_mask", "segment_entities", "min_area", "least"),
    ("smallest_side", "score_references", "min_side", "least"),
    ("truncation", "score_references", "max_truncation", "most"),
    ("covered", "score_references", "max_covered", "most"),
    ("sharpness", "score_references", "min_sharpness", "least"),
    ("likeness", "score_references", "min_likeness", "least"),
    ("face_distance", "score_references", "max_face_distance", "most"),
    ("brightness", "score_references", "min_brightness", "least"),
    ("overlaid", "score_references", "max_overlaid", "most"),
    ("clipped", "score_references", "max_clipped", "most"),
    ("mask_score", "score_references", "min_mask", "least"),
    ("background_coverage", "inpaint_background", "min_coverage", "least"),
    ("background_invented", "inpaint_background", "max_invented", "most"),
)
"""Column, stage, knob, and whether it is the least or the most that passes."""
TRANSNETV2 = 0.5
"""Its own threshold (`split_shots.threshold`)."""


@dataclass(frozen=True)
class Bound:
    stage: str
    knob: str
    kind: Literal["least", "most"]
    value: float


def bounds(recipe: Mapping[str, Any]) -> dict[str, list[Bound]]:
    """Column → its bounds, by the recipe as `run.json` has it. One that bounds nothing (0, or null) is none."""
    stages = {**(recipe.get("plan") or {}), **(recipe.get("clips") or {})}
    found: dict[str, list[Bound]] = {}
    for column, stage, knob, kind in KNOBS:
        knobs = stages.get(stage)
        value = _value(stage, knob, knobs) if isinstance(knobs, Mapping) else None
        if value:
            found.setdefault(column, []).append(Bound(stage, knob, kind, float(value)))  # type: ignore[arg-type]
    return found


def _value(stage: str, knob: str, knobs: Mapping[str, Any]) -> Any:
    value = knobs.get(knob)
    if value is not None:
        return value
    if stage == "split_shots":
        return TRANSNETV2 if knobs.get("detector") == "transnetv2" else None
    if stage == "score_quality" and knobs.get("weights") is None:
        from curation.stages.score_quality import SMALL

        return json.loads((SMALL / "config.json").read_text(encoding="utf-8"))["rule"]["min_desirable"]
    return None
