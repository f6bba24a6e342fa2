"""A small benchmark in MP's layout, videos for it, and metrics that need no network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from curation.benchmark.case import Case, References
from curation.benchmark.metrics import Metric, Score, Truth, Video
from tests import videos

RED, GREEN, BLUE = (220, 20, 20), (20, 200, 20), (20, 20, 220)


def png(path: Path, colour: Sequence[int], alpha: bool = True) -> None:
    pixels = np.full((20, 24, 4 if alpha else 3), [*colour[::-1], 255][: 4 if alpha else 3], np.uint8)
    if alpha:
        pixels[:4, :, 3] = 0
    cv2.imwrite(str(path), pixels)


def clip(
    top: Path,
    key: str,
    colour: Sequence[int] = RED,
    *,
    prompt: str = "A man with a hat walks.",
    scene: bool = True,
    seen: Sequence[int] = (1, 2, 3),
    **tags: list[str],
) -> Path:
    """A clip's folder; by default of one man with a face and a hat."""
    words = {"subject": ["man"], "object": ["hat"], "background": [""], "subject_with_face": ["man"]} | tags
    folder = top / key
    folder.mkdir(parents=True)
    for number in (1, 2, 3):
        png(folder / f"frame{number}.jpg", colour, alpha=False)
    for word in [*words["subject"], *words["object"]]:
        for number in seen:
            png(folder / f"{word.replace(' ', '_').replace('/', '_')}.frame{number}.png", colour)
    for word in words["subject_with_face"]:
        for number in seen:
            png(folder / f"{word.replace(' ', '_').replace('/', '_')}.face.frame{number}.png", colour)
    if scene:
        png(folder / "background.jpg", BLUE, alpha=False)
    (folder / "summary_text.txt").write_text(prompt)
    (folder / "word_tags.json").write_text(json.dumps(words))
    video(folder / "video.mp4", colour)
    return folder


def video(path: Path, colour: Sequence[int], frames: int = 6, rate: int = 12) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    videos.write([np.full((48, 64, 3), colour, np.uint8)] * frames, path, rate=rate)
    return path


class Colour:
    """How near the mean colour is to that of the true frames, 1 for the same; and the frames that were seen."""

    columns = ("colour", "frames", "copy_paste_colour")
    models: tuple[str, ...] = ()
    asked: list[str] = []
    """Keys whose truth was asked for, of this process."""

    def __init__(self, references: References):
        self.references = references

    def truth(self, case: Case) -> Truth:
        self.asked.append(case.key)
        return {"a/b": np.mean([frame.mean((0, 1)) for frame in case.frames], 0)}

    def score(self, video: Video, case: Case, truth: Truth) -> dict[str, Score]:
        apart = np.abs(video.frames.mean((0, 1, 2)) - truth["a/b"]).mean() / 255
        pasted: Score = 0.5 if self.references == "single" else "all_references"
        return {"colour": float(1 - apart), "frames": float(len(video.frames)), "copy_paste_colour": pasted}


class Faces:
    """Undefined where the clip has no face, as real ones are; else not a number for what is blue."""

    columns = ("faces",)
    models: tuple[str, ...] = ()

    def truth(self, case: Case) -> Truth:
        return {}

    def score(self, video: Video, case: Case, truth: Truth) -> dict[str, Score]:
        if not case.with_face:
            return {"faces": "no_face_in_truth"}
        return {"faces": float("nan") if video.frames[..., 2].mean() > 128 else 0.0}


def metrics(device: str, references: References) -> list[Metric]:
    return [Colour(references), Faces()]


class Deadly(Faces):
    """Ends its process for a video that is blue."""

    def score(self, video: Video, case: Case, truth: Truth) -> dict[str, Score]:
        import os

        if video.frames[..., 2].mean() > 128:
            os._exit(1)
        return super().score(video, case, truth)


def deadly(device: str, references: References) -> list[Metric]:
    return [Deadly()]


def scored(told: dict[str, Any]) -> dict[str, float | None]:
    """Metric → mean, of what `evaluate` gives."""
    return {column["metric"]: column["mean"] for column in told["metrics"]}
