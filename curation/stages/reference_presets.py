"""What `score_references` asks of a reference, by name."""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "papers": {
        "people": "any",
        "min_recognised": 0.0,
        "min_likeness": 0.0,
        "max_face_distance": 2.0,
        "ambiguous": "keep",
        "min_side": 1,
        "min_area": 0.0,
        "max_overlap": 1.0,
        "max_truncation": 1.0,
        "max_covered": 1.0,
        "min_sharpness": 0.0,
        "min_brightness": 0.0,
        "min_mask": 0.0,
        "max_clipped": 1.0,
        "max_overlaid": 1.0,
        "embeddings": False,
    },
    "clean": {
        "people": "upper_body",
        "min_recognised": 0.02,
        "min_likeness": 0.55,
        "max_face_distance": 0.65,
        "ambiguous": "refuse",
        "min_side": 48,
        "min_area": 0.0,
        "max_overlap": 0.5,
        "max_truncation": 0.5,
        "max_covered": 0.5,
        "min_sharpness": 2.0,
        "min_brightness": 40.0,
        "min_mask": 0.9,
        "max_clipped": 0.07,
        "max_overlaid": 0.002,
        "embeddings": True,
    },
    "hq": {
        "people": "upper_body",
        "min_recognised": 0.1,
        "min_likeness": 0.65,
        "max_face_distance": 0.6,
        "ambiguous": "refuse",
        "min_side": 128,
        "min_area": 1 / 32,
        "max_overlap": 0.5,
        "max_truncation": 0.35,
        "max_covered": 0.25,
        "min_sharpness": 4.0,
        "min_brightness": 60.0,
        "min_mask": 0.93,
        "max_clipped": 0.07,
        "max_overlaid": 0.002,
        "embeddings": True,
    },
}
"""Knobs by name. papers: nothing is refused. clean: by eye on panda70m-mini. hq: OpenS2V's least area of a mask and
Phantom-Data's 128 px (PAPER.md §7), the others stricter than clean."""
