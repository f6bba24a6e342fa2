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


LONGEST_TEXT = 1 << 24
"""Characters of a caption's file, which may hold all that a downloader knew of the video; yt-dlp writes up to a million."""


class InputError(Exception):
    """One line: what was looked for, where, and what would be right."""


def is_url(path: str) -> bool:
    return re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", path) is not None


def join(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}"


def is_below(path: str, root: str) -> bool:
    """Whether a path leads to something in a folder, by its words alone: a link in the folder is its owner's."""
    if is_url(path) != is_url(root) or "::" in path:
        return False
    if is_url(path):
        return f"{path}/".startswith(f"{root.rstrip('/')}/") and ".." not in path.split("/")
    own, top = (os.path.abspath(place) for place in (path, root))  # noqa: PTH100 without looking at links
    return own == top or own.startswith(f"{top.rstrip('/')}/")


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
            entries = [(e.name, _is_folder(e)) for e in scan]
    entries = sorted(e for e in entries if e[0] and not e[0].startswith("."))
    return [n for n, is_dir in entries if is_dir], [n for n, is_dir in entries if not is_dir]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:  # a link that leads to itself
        if error.errno in ABSENT:
            return False
        raise


def walk(folder: str) -> Iterator[tuple[str, list[str] | OSError]]:
    """(folder relative to the top, its files), depth first, in sorted order, one folder in memory at a time. A folder below the
    top that cannot be listed comes with its error in place of the files; a link to a folder above itself is passed over."""
    stack: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while stack:
        inner, above = stack.pop()
        path = join(folder, inner) if inner else folder
        try:
            state = None if is_url(path) else _stat(path)
            here = frozenset({(state.st_dev, state.st_ino)} if state else ())
            if here & above:
                continue
            folders, names = listing(path)
        except OSError as error:
            if not inner or not (isinstance(error, OF_ONE_FILE) or error.errno in ABSENT):
                raise
            yield inner, error
            continue
        yield inner, names
        stack += [(f"{inner}/{name}".lstrip("/"), above | here) for name in reversed(folders)]


def open_text(path: str) -> IO[str]:
    """UTF-8 with or without a BOM; bytes that are not UTF-8 become U+FFFD."""
    if is_url(path):
        return fsspec.open(path, "rt", encoding="utf-8-sig", errors="replace", newline="").open()
    return Path(path).open(encoding="utf-8-sig", errors="replace", newline="")


def open_bytes(path: str) -> IO[bytes]:
    return fsspec.open(path, "rb").open() if is_url(path) else Path(path).open("rb")


def read_text(path: str) -> str:
    """A small file. Raises `DataError` when it is none: a caption is no pipe and no device, and not of gigabytes."""
    if not is_url(path) and exists(path) and not is_file(path):
        raise DataError("bad_caption", "it is not a file")
    with open_text(path) as file:
        content = file.read(LONGEST_TEXT + 1)
    if len(content) > LONGEST_TEXT:
        raise DataError("bad_caption", f"more than {LONGEST_TEXT:,} characters")
    return content


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
