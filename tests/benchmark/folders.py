"""Clips' folders as MSRVTT-Personalization has them, of colours."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from tests.trainer import made

COLOURS = [(200, 30, 30), (30, 160, 40), (40, 60, 210)]
"""Of a word's cut-outs on the three frames."""


def clip(folder: Path, key: str, subjects: int = 1, faces: int = 1, background: bool = True) -> Path:
    """`A man, a dog and a ball in a street.`: the first words are subjects, the first of them have faces."""
    place = folder / key
    place.mkdir(parents=True)
    words = ["man", "dog", "ball"]
    (place / "summary_text.txt").write_text(f"A man, a dog and a ball in a street, {key}.\n")
    tags = {"subject": words[:subjects], "object": words[subjects:], "background": ["street"], "subject_with_face": words[:faces]}
    (place / "word_tags.json").write_text(json.dumps(tags))
    (place / "video.mp4").write_bytes(made.mp4(24, 24))
    for frame, colour in enumerate(COLOURS, start=1):
        cv2.imwrite(str(place / f"frame{frame}.jpg"), np.full((36, 64, 3), 40 * frame, np.uint8))
        for word in words:
            _png(place / f"{word}.frame{frame}.png", made.cut_out(colour))
        for word in words[:faces]:
            _png(place / f"{word}.face.frame{frame}.png", made.cut_out(colour, 24))
    if background:
        cv2.imwrite(str(place / "background.jpg"), np.full((36, 64, 3), 90, np.uint8))
    return place


def _png(file: Path, rgba: np.ndarray) -> None:
    cv2.imwrite(str(file), cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGRA))
