"""A clip and videos of it out of seeds alone: what `benchmarks/mp_parity.py` gives MSRVTT-Personalization's code and ours."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from curation.benchmark.case import Case
from curation.benchmark.metrics import Video

PROMPT = "a man with a green bottle, and his dog"
SUBJECT, OBJECTS = "man", ("green bottle", "old man")
"""The first word stands inside the last."""
SIZES = {"landscape": (132, 179), "portrait": (171, 133)}
"""Height and width; no side is a multiple of 8."""


def texture(seed: int, height: int, width: int, cell: int = 9) -> np.ndarray:
    """uint8 RGB [height, width, 3] of coloured squares with some grain."""
    rng = np.random.default_rng(seed)
    cells = rng.integers(0, 236, (-(-height // cell), -(-width // cell), 3))
    grain = rng.integers(0, 20, (height, width, 3))
    return (np.kron(cells, np.ones((cell, cell, 1), int))[:height, :width] + grain).astype(np.uint8)


def moving(seed: int, size: str, count: int, step: int) -> np.ndarray:
    """A texture that moves sideways by so many pixels a frame, and another before it that moves down."""
    height, width = SIZES[size]
    behind, before = texture(seed, height, width + 64), texture(seed + 1, 50, 40, 5)
    frames = []
    for at in range(count):
        frame = np.roll(behind, at * step, 1)[:, :width].copy()
        top = 20 + at * step % 50
        frame[top : top + 50, 60:100] = before
        frames.append(frame)
    return np.stack(frames)


def videos() -> dict[str, Video]:
    grey = np.full((1, *SIZES["landscape"], 3), 114, np.uint8)
    return {
        "fast": Video(moving(0, "landscape", 4, 11), 8.0),
        "strided": Video(moving(2, "landscape", 8, 2), 24.0),
        "portrait": Video(moving(4, "portrait", 5, 7), 12.0),
        "pair": Video(np.concatenate([moving(6, "landscape", 1, 0), grey]), 8.0),
        "still": Video(np.repeat(moving(8, "landscape", 1, 0), 3, 0), 7.0),
    }


def case(folder: Path) -> Case:
    """Written as the benchmark's folders are, but all pictures as PNG, whose content no decoder doubts."""
    folder.mkdir(parents=True)
    (folder / "summary_text.txt").write_text(PROMPT)
    tags = {"subject": [SUBJECT], "object": list(OBJECTS), "background": ["street"], "subject_with_face": [SUBJECT]}
    (folder / "word_tags.json").write_text(json.dumps(tags))
    cutouts: dict[str, tuple[Path, ...]] = {}
    for number in (1, 2, 3):
        frame = moving(10, "landscape", 3, 9)[number - 1]
        _png(folder / f"frame{number}.jpg", frame)
    for w, word in enumerate((SUBJECT, *OBJECTS)):
        shown = (1, 2, 3)[: 3 - w]
        files = tuple(folder / f"{word.replace(' ', '_')}.frame{number}.png" for number in shown)
        for number, file in zip(shown, files, strict=True):
            _png(file, _cutout(20 + 3 * w + number, 40 + 7 * w, 61 - 10 * number))
        cutouts[word] = files
    faces = tuple(folder / f"{SUBJECT}.face.frame{number}.png" for number in (1, 3))
    for number, file in zip((1, 3), faces, strict=True):
        _png(file, _cutout(40 + number, 33, 25))
    return Case(folder, folder.name, PROMPT, (SUBJECT,), OBJECTS, "street", (SUBJECT,), cutouts, {SUBJECT: faces})


def _cutout(seed: int, height: int, width: int) -> np.ndarray:
    """RGBA: nothing in two corners, half of one pixel."""
    alpha = np.full((height, width, 1), 255, np.uint8)
    alpha[: height // 3, : width // 3] = alpha[-height // 4 :, -width // 5 :] = 0
    alpha[height // 2, width // 2] = 127
    return np.concatenate([texture(seed, height, width, 6), alpha], 2)


def _png(file: Path, picture: np.ndarray) -> None:
    code = cv2.COLOR_RGB2BGR if picture.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
    file.write_bytes(cv2.imencode(".png", cv2.cvtColor(picture, code))[1].tobytes())
