"""What a checkpoint of the user's own is: its identity for fingerprints, provenance and caches."""

from __future__ import annotations

import hashlib
from pathlib import Path

SAMPLE = 1 << 20
"""Bytes that are read at the start, the middle and the end of a file: a checkpoint of 15 GB costs milliseconds a file."""


def weights_digest(path: str | Path) -> str:
    """The sha256 of a file's or folder's names, sizes and samples of content, whatever the path itself is called.

    Hidden files are no part of it. Raises FileNotFoundError when nothing is there.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"no weights at {path}")
    files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file() and not f.name.startswith("."))
    digest = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.relative_to(path) if file != path else ''} {size}\n".encode())
        with file.open("rb") as stream:
            for place in sorted({0, max(0, size // 2 - SAMPLE // 2), max(0, size - SAMPLE)}):
                stream.seek(place)
                digest.update(stream.read(SAMPLE))
    return digest.hexdigest()
