"""Files on a disk or behind an fsspec URL: list, open, test. Local paths never go through fsspec: its syntax mangles some."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import fsspec

VIDEO_EXTENSIONS = (
    *(".mp4", ".webm", ".mkv", ".mov", ".avi", ".m4v", ".mpg", ".mpeg"),
    *(".ts", ".flv", ".wmv", ".gif", ".ogv", ".3gp"),
)


class InputError(Exception):
    """One line: what was looked for, where, and what would be right."""


def is_url(path: str) -> bool:
    return re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", path) is not None


def join(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}"


def is_file(path: str) -> bool:
    if not is_url(path):
        return os.path.isfile(path)  # noqa: PTH113 Path refuses names with a NUL, os answers
    fs, inner = fsspec.core.url_to_fs(path)
    return fs.isfile(inner)


def exists(path: str) -> bool:
    if not is_url(path):
        return os.path.exists(path)  # noqa: PTH110
    fs, inner = fsspec.core.url_to_fs(path)
    return fs.exists(inner)


def listing(folder: str) -> tuple[list[str], list[str]]:
    """Names of the subfolders and of the files in `folder`, each sorted; hidden ones are passed over."""
    if is_url(folder):
        fs, inner = fsspec.core.url_to_fs(folder)
        entries = [(e["name"].rstrip("/").rsplit("/", 1)[-1], e["type"] == "directory") for e in fs.ls(inner, detail=True)]
    else:
        with os.scandir(folder) as scan:
            entries = [(e.name, e.is_dir()) for e in scan]
    entries = sorted(e for e in entries if e[0] and not e[0].startswith("."))
    return [n for n, is_dir in entries if is_dir], [n for n, is_dir in entries if not is_dir]


def walk(folder: str) -> Iterator[tuple[str, list[str]]]:
    """(folder relative to the top, its files), depth first, in sorted order, one folder in memory at a time."""
    stack = [""]
    while stack:
        inner = stack.pop()
        folders, names = listing(join(folder, inner) if inner else folder)
        yield inner, names
        stack += [f"{inner}/{name}".lstrip("/") for name in reversed(folders)]


def open_text(path: str) -> IO[str]:
    """UTF-8 with or without a BOM; bytes that are not UTF-8 become U+FFFD."""
    if is_url(path):
        return fsspec.open(path, "rt", encoding="utf-8-sig", errors="replace", newline="").open()
    return Path(path).open(encoding="utf-8-sig", errors="replace", newline="")


def open_bytes(path: str) -> IO[bytes]:
    return fsspec.open(path, "rb").open() if is_url(path) else Path(path).open("rb")


def read_text(path: str) -> str:
    with open_text(path) as file:
        return file.read()


def suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122


def is_video(name: str) -> bool:
    return suffix(name) in VIDEO_EXTENSIONS


def stem(name: str) -> str:
    return os.path.splitext(name)[0]  # noqa: PTH122


def as_utf8(text: str) -> str:
    """The text if it is valid UTF-8, else with the odd bytes written out: names from a disk may hold anything."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
