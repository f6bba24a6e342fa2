"""Clips without pictures, for metrics whose networks are given."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from curation.benchmark.case import Case


def case(
    folder: Path,
    subjects: tuple[str, ...] = ("man",),
    objects: tuple[str, ...] = (),
    views: int = 3,
    with_face: tuple[str, ...] = (),
    faces: int = 2,
) -> Case:
    """Every word has `views` cut-outs: opaque squares of the grey 10 × (word's place + 1) + view; faces have grey 200 + view."""
    folder.mkdir(parents=True, exist_ok=True)
    cutouts = {
        word: tuple(_png(folder / f"{word}.frame{view + 1}.png", 10 * (w + 1) + view) for view in range(views))
        for w, word in enumerate(dict.fromkeys((*subjects, *objects)))
    }
    crops = {word: tuple(_png(folder / f"{word}.face.frame{i + 1}.png", 200 + i) for i in range(faces)) for word in with_face}
    for number in (1, 2, 3):
        _png(folder / f"frame{number}.jpg", 100 + number)
    return Case(folder, folder.name, "a man", subjects, objects, "", with_face, cutouts, crops)


def _png(file: Path, grey: int) -> Path:
    picture = np.full((8, 8, 4), grey, np.uint8)
    picture[..., 3] = 255
    file.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    return file
