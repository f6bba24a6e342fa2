"""A clip of the benchmark as its folder holds it (PAPER.md §6): what a video is made from, and what it is compared with."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from curation.benchmark.errors import BenchmarkError

Mode = Literal["subject", "face"]
References = Literal["single", "all"]


@dataclass(frozen=True, eq=False)
class Case:
    """Pictures are read when asked for, and raise `BenchmarkError` where their file is no picture."""

    folder: Path
    key: str
    prompt: str
    subjects: tuple[str, ...]
    objects: tuple[str, ...]
    background: str
    """The word; "" where the clip has none."""
    with_face: tuple[str, ...]
    """Those of `subjects` that have a face."""
    cutouts: Mapping[str, tuple[Path, ...]]
    """Of each subject's and object's word its files, in the order of the frames."""
    face_files: Mapping[str, tuple[Path, ...]]

    @property
    def words(self) -> tuple[str, ...]:
        """What Subj-S asks for: every subject and object."""
        return (*self.subjects, *self.objects)

    @functools.cached_property
    def frames(self) -> list[np.ndarray]:
        """frame1…3.jpg: uint8 RGB [H, W, 3], at 5, 50 and 95 % of the clip."""
        return [picture(self.folder / f"frame{number}.jpg")[..., :3] for number in (1, 2, 3)]

    def references(self, word: str) -> list[np.ndarray]:
        """Its cut-outs, uint8 RGBA [h, w, 4]: alpha is the mask."""
        return [picture(file) for file in self.cutouts[word]]

    def faces(self, word: str) -> list[np.ndarray]:
        """Its faces, uint8 RGBA [h, w, 4]."""
        return [picture(file) for file in self.face_files[word]]

    def single(self, word: str, mode: Mode = "subject") -> int:
        """Which of its `references`, or in face mode of its `faces`, is given where only one is: the middle of the sorted files,
        of two the later (MP's released code; V1 draws one at random)."""
        return len((self.cutouts if mode == "subject" else self.face_files)[word]) // 2

    def scene(self) -> np.ndarray | None:
        """background.jpg, uint8 RGB [H, W, 3]; None where the clip has none."""
        file = self.folder / "background.jpg"
        return picture(file)[..., :3] if file.exists() else None

    @property
    def video(self) -> Path:
        return self.folder / "video.mp4"


def picture(file: Path) -> np.ndarray:
    """uint8 RGBA [H, W, 4]; opaque where the file has no alpha. Raises `BenchmarkError`."""
    import cv2

    try:
        data = file.read_bytes()
    except OSError as error:
        raise BenchmarkError(f"{file}: {error.strerror}") from error
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if pixels is None or pixels.dtype != np.uint8:
        raise BenchmarkError(f"{file}: no picture")
    code = {2: cv2.COLOR_GRAY2RGBA, 3: cv2.COLOR_BGR2RGBA, 4: cv2.COLOR_BGRA2RGBA}[
        pixels.ndim if pixels.ndim == 2 else pixels.shape[2]
    ]
    return cv2.cvtColor(pixels, code)
