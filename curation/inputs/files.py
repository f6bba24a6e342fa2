"""Files on a disk or behind an fsspec URL: list, open, test. Local paths never go through fsspec: its syntax mangles some."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import fsspec

from curation.faults import DataError, one_line

VIDEO_EXTENSIONS = (
    *(".mp4", ".webm", ".mkv", ".mov", ".avi", ".m4v", ".mpg", ".mpeg"),
    *(".ts", ".flv", ".wmv", ".gif", ".ogv", ".3gp"),
)


ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ENAMETOOLONG, errno.ELOOP)
"""What a disk says of a name that leads to no file we can have; anything else it says is about itself."""
OF_ONE_FILE = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
"""Errors that tell of one file, and leave the others readable."""


class InputError(Exception):
    """One line: what was looked for, where, and what would be right."""


def is_url(path: str) -> bool:
    return re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", path) is not None


def join(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}"


def is_file(path: str) -> bool:
    """Raises `OSError` when the disk does not say."""
    if not is_url(path):
        found = _stat(path)
        return found is not None and stat.S_ISREG(found.st_mode)
    fs, inner = fsspec.core.url_to_fs(path)
    return fs.isfile(inner)


def exists(path: str) -> bool:
    if not is_url(path):
        return _stat(path) is not None
    fs, inner = fsspec.core.url_to_fs(path)
    return fs.exists(inner)


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)  # noqa: PTH116 Path refuses names with a NUL
    except ValueError:  # a NUL, or half a surrogate pair
        return None
    except OSError as error:
        if error.errno in ABSENT:
            return None
        raise


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


def walk(folder: str) -> Iterator[tuple[str, list[str] | OSError]]:
    """(folder relative to the top, its files), depth first, in sorted order, one folder in memory at a time. A folder below the
    top that cannot be listed comes with its error in place of the files."""
    stack = [""]
    while stack:
        inner = stack.pop()
        try:
            folders, names = listing(join(folder, inner) if inner else folder)
        except OF_ONE_FILE as error:
            if not inner:
                raise
            yield inner, error
            continue
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


def read_object(path: str) -> dict[str, Any]:
    """The JSON object in a file. Raises `DataError` when it holds none."""
    return json_object(read_text(path))


def json_object(content: str | bytes) -> dict[str, Any]:
    """Raises `DataError`."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError("bad_json", f"not JSON: {one_line(error)}") from error
    if not isinstance(found, dict):
        raise DataError("bad_json", "no JSON object")
    return found


def suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122


def is_video(name: str) -> bool:
    return suffix(name) in VIDEO_EXTENSIONS


def stem(name: str) -> str:
    return os.path.splitext(name)[0]  # noqa: PTH122


def as_utf8(text: str) -> str:
    """The text if it is valid UTF-8, else with the odd bytes written out: names from a disk may hold anything."""
    if text.isascii():
        return text
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half of a surrogate pair, which no disk has written
        return text.encode("utf-8", "backslashreplace").decode("utf-8")
