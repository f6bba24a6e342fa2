"""Where a clip's video lies: on a disk, in a shard, in an object store. What was fetched from afar stays at hand for a while."""

from __future__ import annotations

import errno
import io
import os
import stat
import tempfile
import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from fsspec.callbacks import Callback

from curation.faults import Infrastructure
from curation.limits import watchdog
from curation.media.video import Input, VideoError

AT_HAND = 1_000_000_000
"""Bytes of the latest downloads that this process keeps, so that a unit's stages fetch once; the last one stays in any case."""
STAMPS = ("ETag", "etag", "Content-MD5", "Digest", "Last-Modified", "LastModified", "mtime", "created")
"""What tells versions of a remote file apart, as fsspec's file systems name it."""
DOWNLOAD = 1800.0
"""Seconds that a download may take."""
OPEN_FILES = Path("/proc/self/fd")
NAMES_NOTHING = (errno.ELOOP, errno.ENAMETOOLONG)
"""Errors that tell of a name and not of the disk: a link to itself, a path that is too long."""

Part = tuple[int, int] | None


@dataclass(frozen=True)
class Opened:
    """Something to decode, and which version of the file it is: its `bytes` and a `stamp`, the time it was written or an ETag."""

    input: Input
    file: dict[str, Any]
    hold: Any = None
    """A download is gone when nobody holds it."""

    def read(self) -> bytes:
        return self.input.getvalue() if isinstance(self.input, io.BytesIO) else Path(self.input).read_bytes()


def open_source(source: Mapping[str, Any], file: Mapping[str, Any] | None = None, most: float = inf) -> Opened:
    """The `path` of a planned clip's source: itself, a download of it, or a member of a shard by its `offset` and `size` alone.

    `file`: the version that is meant, if it is known. `most`: its bytes at most, of which none is read of a larger one. Raises
    `VideoError` when there is nothing to open, it is another version (`source_changed`) or `too_big`; `Infrastructure` when the
    folder or bucket is gone too; an OSError as it comes: neither says anything of the clip.
    """
    path = str(source["path"])
    part = (source["offset"], source["size"]) if source.get("member") else None
    opened = _remote(path, part, file, most) if "://" in path else _local(path, part, most)
    if file and dict(file) != opened.file:
        raise VideoError("source_changed", f"{opened.file} was {dict(file)}")
    return opened


def _local(path: str, part: Part, most: float) -> Opened:
    try:
        state = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _missing(path) from error
    except OSError as error:
        if error.errno in NAMES_NOTHING:
            raise VideoError("no_such_file", error.strerror or "") from error
        raise
    if not stat.S_ISREG(state.st_mode):
        raise VideoError("no_such_file", "not a file")
    if not os.access(path, os.R_OK):
        raise VideoError("no_permission")
    file = {"bytes": state.st_size, "stamp": str(state.st_mtime_ns)}
    _check_size(state.st_size, part, most)
    if not part:
        return Opened(path, file)
    with Path(path).open("rb") as shard:
        shard.seek(part[0])
        return Opened(io.BytesIO(shard.read(part[1])), file)


def _check_size(size: int | None, part: Part, most: float) -> None:
    if (read := part[1] if part else size or 0) > most:
        raise VideoError("too_big", f"{read / 1e6:.0f} MB")
    if size == 0 or (part and not part[1]):
        raise VideoError("empty_file")
    if part and size is not None and size < sum(part):
        raise VideoError("truncated", "the shard ends within the clip")


def _missing(path: str) -> Exception:
    """A verdict while the folder that should hold the file holds others, else our side's fault: a lost mount leaves it empty."""
    try:
        with os.scandir(Path(path).parent) as entries:
            there = any(entries)
    except OSError:
        there = False
    return VideoError("no_such_file") if there else Infrastructure(f"{path}: its folder is gone or empty")


class SlowDownload(Infrastructure):
    """Raised by the watchdog: the network's fault, or the server's, and no clip's."""

    def __init__(self) -> None:
        super().__init__(f"a download was not done in {DOWNLOAD:g} s")


class _Bound(Callback):
    """Ends a download that turns out larger than it said."""

    def __init__(self, most: float):
        super().__init__()
        self.most = most

    def relative_update(self, inc: int = 1) -> None:
        super().relative_update(inc)
        if self.value > self.most:
            raise VideoError("too_big", f"more than {self.most / 1e6:.0f} MB")


class Download:
    """A remote file, or a part of one, on this machine: without a name where the system allows, so it goes with the process."""

    def __init__(self, files: Any, where: str, part: Part, file: dict[str, Any], most: float):
        self.file = file
        descriptor, name = tempfile.mkstemp(prefix="curation-")
        weakref.finalize(self, os.close, descriptor)
        self.path = name
        if OPEN_FILES.exists():
            Path(name).unlink()
            self.path = f"{OPEN_FILES}/{descriptor}"
        else:
            weakref.finalize(self, os.unlink, name)
        if part:
            Path(self.path).write_bytes(files.cat_file(where, start=part[0], end=sum(part)))
        else:
            files.get_file(where, self.path, callback=_Bound(most))
        self.size = os.fstat(descriptor).st_size
        if self.size != (part[1] if part else file["bytes"] if file["bytes"] is not None else self.size):
            raise OSError(f"{where}: the download broke off after {self.size} bytes")


_lock = threading.Lock()
_at_hand: OrderedDict[tuple[str, Part], Download] = OrderedDict()


def _remote(url: str, part: Part, file: Mapping[str, Any] | None, most: float) -> Opened:
    """By `_at_hand`, if that is the version that is meant."""
    with _lock:
        download = _at_hand.get((url, part))
    if download is None or (file and dict(file) != download.file):
        with watchdog.watch(DOWNLOAD, "a download", error=SlowDownload):
            download = _fetched(url, part, file, most)
    with _lock:
        _at_hand[url, part] = download
        _at_hand.move_to_end((url, part))
        while len(_at_hand) > 1 and sum(d.size for d in _at_hand.values()) > AT_HAND:
            _at_hand.popitem(last=False)
    return Opened(download.path, download.file, download)


def _fetched(url: str, part: Part, file: Mapping[str, Any] | None, most: float) -> Download:
    from fsspec.core import url_to_fs

    files, where = url_to_fs(url)
    try:
        info = files.info(where)
        found = {"bytes": info.get("size"), "stamp": next((str(info[name]) for name in STAMPS if info.get(name)), "")}
        _check_size(found["bytes"], part, most)
        if file and dict(file) != found:
            raise VideoError("source_changed", f"{found} was {dict(file)}")
        return Download(files, where, part, found, most)
    except FileNotFoundError as error:
        if not url.startswith("http") and not files.exists(_top(where)):
            raise Infrastructure(f"{url}: its bucket is gone") from error
        raise VideoError("no_such_file") from error  # of HTTP the server's own word


def _top(where: str) -> str:
    """The bucket, or the first folder."""
    return where[: len(where) - len(where.lstrip("/"))] + where.strip("/").split("/")[0]
