"""MSRVTT-Personalization's folders read: ours, of `export --format msrvtt` and `benchmark build`, and the released ones."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from curation.benchmark.case import Case, Mode
from curation.benchmark.errors import BenchmarkError
from curation.faults import DataError
from curation.inputs import files
from curation.look.export.msrvtt import FOLDER

KINDS = ("subject", "object", "background", "subject_with_face")
NEEDED = ("video.mp4", "frame1.jpg", "frame2.jpg", "frame3.jpg", "summary_text.txt", "word_tags.json")
LONGEST_WORD = 200
"""Characters; a file's name has 255 bytes."""


def cases(folder: Path | str, mode: Mode | None = None) -> list[Case]:
    """The clips of a benchmark in the order of their keys, of `mode` those it takes; broken ones are passed over (`read` tells
    them). Raises `BenchmarkError` where none is left."""
    found, broken = read(folder)
    chosen = subset(found, mode) if mode else found
    if not chosen:
        told = f"; {len(broken)} are broken, as {next(iter(broken.items()))}" if broken else ""
        raise BenchmarkError(f"{folder}: none of {len(found)} clips is for mode {mode}" + told)
    return chosen


def subset(cases: Iterable[Case], mode: Mode) -> list[Case]:
    """Subject mode: exactly one subject. Face mode: exactly one of the subjects has a face (PAPER.md §6, MP's own lists)."""
    return [case for case in cases if len(case.subjects if mode == "subject" else case.with_face) == 1]


def top(folder: Path | str) -> Path:
    """The folder of the clips' folders: this one, or `msrvtt_personalization_data` in it. Raises `BenchmarkError`."""
    place = Path(folder)
    inner = place / FOLDER
    if inner.is_dir():
        return inner
    if not place.is_dir():
        raise BenchmarkError(f"{folder}: no such folder; `curation benchmark build` makes one, or MP's prepare script")
    return place


def read(folder: Path | str) -> tuple[list[Case], dict[str, str]]:
    """The clips, and of the broken ones key → why. Raises `BenchmarkError` for a folder that holds no clip's."""
    place = top(folder)
    try:
        names = sorted(entry.name for entry in os.scandir(place) if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise BenchmarkError(f"{place}: {error.strerror}") from error
    found: list[Case] = []
    broken: dict[str, str] = {}
    for name in names:
        try:
            found.append(case(place / name))
        except BenchmarkError as error:
            broken[name] = str(error).removeprefix(f"{place / name}: ")
    if not found:
        one = f"; {next(iter(broken))}: {next(iter(broken.values()))}" if broken else ""
        raise BenchmarkError(f"{place}: no clip's folder in it with {', '.join(NEEDED)}{one}")
    return found, broken


def case(folder: Path) -> Case:
    """One clip's folder; no picture of it is opened. Raises `BenchmarkError`."""
    try:
        names = {path.name for path in folder.iterdir()}
        if missing := [name for name in NEEDED if name not in names]:
            raise BenchmarkError(f"{folder}: no {', '.join(missing)}")
        prompt = files.read_text(str(folder / "summary_text.txt")).strip()
        tags = _tags(folder, files.read_object(str(folder / "word_tags.json")))
    except DataError as error:
        raise BenchmarkError(f"{folder}: {error}") from error
    except OSError as error:
        raise BenchmarkError(f"{error.filename or folder}: {error.strerror}") from error
    if not prompt:
        raise BenchmarkError(f"{folder}: summary_text.txt is empty")
    subjects = tuple(dict.fromkeys(tags["subject"]))
    objects = tuple(word for word in dict.fromkeys(tags["object"]) if word not in subjects)
    with_face = tuple(dict.fromkeys(tags["subject_with_face"]))
    if stray := [word for word in with_face if word not in subjects]:
        raise BenchmarkError(f"{folder}: word_tags.json: {stray[0]!r} has a face and is no subject")
    return Case(
        folder=folder,
        key=folder.name,
        prompt=prompt,
        subjects=subjects,
        objects=objects,
        background=next(iter(tags["background"]), ""),
        with_face=with_face,
        cutouts={word: _pictures(folder, names, word, "frame") for word in (*subjects, *objects)},
        face_files={word: _pictures(folder, names, word, "face.frame") for word in with_face},
    )


def stem(word: str) -> str:
    """How the files of a word begin."""
    return word.replace(" ", "_").replace("/", "_")


def _tags(folder: Path, said: Mapping[str, Any]) -> dict[str, list[str]]:
    tags = {kind: said.get(kind, []) for kind in KINDS}
    for kind, words in tags.items():
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise BenchmarkError(f"{folder}: word_tags.json: {kind} is no list of words")
        for word in words if kind != "background" else ():
            if not word or len(word) > LONGEST_WORD or word.startswith(".") or re.search(r"[\x00-\x1f\\]", word):
                raise BenchmarkError(f"{folder}: word_tags.json: {word[:40]!r} is no word that files are named by")
    return tags


def _pictures(folder: Path, names: Iterable[str], word: str, kind: str) -> tuple[Path, ...]:
    """Found among the names of the folder itself, so that no word leads out of it; sorted as MP's scripts sort them."""
    pattern = re.compile(rf"{re.escape(stem(word))}\.{re.escape(kind)}\d*\.png")
    found = sorted(name for name in names if pattern.fullmatch(name))
    if not found:
        raise BenchmarkError(f"{folder}: no {stem(word)}.{kind}N.png for {word!r}")
    return tuple(folder / name for name in found)
