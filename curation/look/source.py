"""Where the plan has a clip's video, for who looks at a clip that was dropped: the file to play, or stills of it.

A run may come from somebody else, and its plan may name any path. So what is played lies in the folder of the run's input, also
when all links are followed, is called a video and begins as one; of other files there are small stills at most.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from curation.faults import DataError
from curation.inputs import files
from curation.inputs.open import folders
from curation.limits import TooSlow, watchdog
from curation.shards import planned
from curation.storage import Storage, StorageError

STILLS, STILL_SIDE = 3, 480
"""Pictures of a source between a clip's start and end, and pixels of their longer side."""
STILL_SECONDS = 20.0
"""That decoding a still may take."""
MOST_PIXELS = 1 << 26
"""Of a source's frame."""
PLAYED = {".mp4": "video/mp4", ".m4v": "video/mp4", ".webm": "video/webm"}
"""Containers that browsers play. Whether they know what is in one they find out themselves."""
STORES = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az")
"""Of other URLs nothing is fetched because a plan says so."""


class Lost(Exception):
    """What the ledger or the plan promises is not there, or not whole: one line."""


@dataclass(frozen=True)
class Bytes:
    """Some bytes of a file, and what they are."""

    storage: Storage
    name: str
    offset: int
    size: int
    type: str


@dataclass(frozen=True)
class Source:
    """`facts`: a clip's source as the plan has it; `roots`: folders, or URLs, of the run's input."""

    facts: Mapping[str, Any]
    roots: tuple[str, ...]

    @property
    def path(self) -> str:
        return str(self.facts["path"])

    @property
    def is_here(self) -> bool:
        """Whether there can be stills."""
        return not files.is_url(self.path) and _is_below(self.path, self.roots) and files.is_file(self.path)

    @property
    def type(self) -> str | None:
        """What it would be played as; None where it may not be, or no browser can. Nothing is read."""
        kind = PLAYED.get(files.suffix(str(self.facts.get("member") or self.path)))
        if kind is None or (self.facts.get("member") and files.suffix(self.path) != ".tar"):
            return None
        if files.is_url(self.path):
            return kind if self.path.partition("://")[0] in STORES and _is_below(self.path, self.roots) else None
        if not self.is_here:
            return None
        return kind if _is_below(os.path.realpath(self.path), [os.path.realpath(root) for root in self.roots]) else None

    def video(self) -> Bytes:
        """Raises `Lost` for what is not to be played."""
        kind = self.type
        if kind is None:
            raise Lost("the source is not to be played from here")
        try:
            folder, _, name = (self.path if files.is_url(self.path) else os.path.realpath(self.path)).rpartition("/")
            storage = Storage.at(folder or "/")
            whole = storage.size(name)
            offset, size = (self.facts["offset"], self.facts["size"]) if self.facts.get("member") else (0, whole or 0)
            head = storage.read_range(name, offset, min(size, 12)) if whole and 0 <= offset <= offset + size <= whole else b""
        except (OSError, StorageError, KeyError, TypeError) as error:
            raise Lost(f"the source cannot be read: {error or type(error).__name__}") from error
        if not (head[4:8] == b"ftyp" if kind == "video/mp4" else head[:4] == b"\x1a\x45\xdf\xa3"):
            raise Lost("the source is no video that a browser plays")
        return Bytes(storage, name, offset, size, kind)

    def still(self, number: int, start: float | None, end: float | None) -> bytes:
        """One of `STILLS` pictures between a start and an end, JPEG. Raises `Lost`."""
        from curation.media.members import to_jpeg
        from curation.media.picture import Painter
        from curation.media.source import open_source
        from curation.media.video import Reader

        if not self.is_here:
            raise Lost("the source is not to be reached from here")
        try:
            with watchdog.watch(STILL_SECONDS, "a still"):
                opened = open_source(self.facts)
                if end is None:
                    with Reader(opened.input, MOST_PIXELS) as reader:
                        start, end = 0.0, reader.extent().seconds
                wanted = (start or 0.0) + (number + 0.5) / STILLS * (end - (start or 0.0))
                with Reader(opened.input, MOST_PIXELS) as reader:
                    frame = _at(reader, wanted)
                    picture = Painter(_small, tone=True)(frame)
        except (DataError, TooSlow, OSError, StopIteration) as error:
            raise Lost(f"the source cannot be read: {error or type(error).__name__}") from error
        return to_jpeg(picture, 80)


def source_of(storage: Storage, row: Mapping[str, Any]) -> Source | None:
    """Of a row of the ledger; None where the plan does not say."""
    name = planned.part(row["group"])
    if not storage.exists(name):
        return None
    with storage.open(name) as file:
        found = pq.read_table(file, filters=[("key", "==", row["clip"])]).to_pylist()
    facts = planned.sample_of(found[0]).meta["source"] if found else {}
    if not facts.get("path"):
        return None
    info = planned.info_of(storage) or {}
    return Source(facts, tuple(folders(str(info.get("made_from", {}).get("input") or ""), info.get("videos"))))


def _is_below(path: str, roots: Iterable[str]) -> bool:
    return any(files.is_below(path, root) for root in roots)


def _at(reader: Any, time: float) -> Any:
    """The frame that is shown at a time, or the last one before the file ends."""
    frames: Iterator[Any] = reader.frames()
    last = next(frames)
    reader.skip_to(time)
    for frame in frames:
        last = frame
        if frame.end > time:
            break
    return last


def _small(width: int, height: int) -> tuple[int, int]:
    scale = min(1.0, STILL_SIDE / max(width, height))
    return max(2, round(width * scale)), max(2, round(height * scale))
