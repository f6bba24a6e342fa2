"""Which of a clip's pictures its video is made from (PAPER.md §6, MP's released lists)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from curation.benchmark.case import Case, Mode, References

SCENE = "background.jpg"
Given = tuple[Path, str, Literal["subject", "face", "background"]]
"""A picture's file, the word it shows, and as what."""


def given(case: Case, mode: Mode, references: References, background: bool) -> list[Given]:
    """The one subject's cut-outs or faces, of several the middle one of the sorted list (MP's released code) or all; then the
    background, which is bound to its word as in training."""
    word = (case.subjects if mode == "subject" else case.with_face)[0]
    files = (case.cutouts if mode == "subject" else case.face_files)[word]
    single = case.single(word) if mode == "subject" else case.single_face(word)
    chosen = files if references == "all" else files[single : single + 1]
    found: list[Given] = [(file, word, mode) for file in chosen]
    scene = case.folder / SCENE
    return found + ([(scene, case.background, "background")] if background and scene.exists() else [])
