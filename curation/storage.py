"""Files of a run, on a disk or in an object store: the only room that writes under --output.

A file appears whole under its name or not at all, on a disk also after a power loss. `Storage` itself is the disk;
`curation.remote` has what differs behind a URL.
"""

from __future__ import annotations

import errno
import io
import os
import re
import secrets
import shutil
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, SoftFileLock, Timeout

URL = re.compile(r"(?P<protocol>[a-zA-Z][a-zA-Z0-9+.-]+):/(?P<second>/?)")
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")
CHUNK = 1 << 24
UNSUPPORTED = (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM)
"""What copy_file_range says where the kernel or the file system cannot do it."""
OF_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ESTALE)


class StorageError(Exception):
    """One line that a user can mend: no such bucket, no permission, another run at work."""


class ClaimLost(OSError):
    """This process no longer holds the claim of the output: another may be at work there, so nothing more is written."""


class Claim:
    """What `Storage.claim` gives. `lost` says why it is no longer held, "" while it is."""

    def __init__(self, root: str, lost: Callable[[], str]):
        self.root, self.lost = root, lost

    @property
    def held(self) -> bool:
        return not self.lost()

    def check(self) -> None:
        if why := self.lost():
            raise ClaimLost(f"the claim of {self.root} was lost: {why}")


_claims: dict[tuple[int, str], Claim] = {}
"""Claims of this process (a fork has its parent's memory, but not its claims), by root."""


@dataclass(frozen=True)
class Storage:
    """A folder and the files below it, by names with forward slashes. Pickled, it is only its root."""

    root: str

    @staticmethod
    def at(where: str | os.PathLike[str]) -> Storage:
        """Raises `StorageError` for a protocol that is not known or installed, and for a bucket that cannot be listed."""
        text = os.fspath(where)
        url = URL.match(text)
        if not text:
            raise StorageError("an empty path is no place for files")
        if url is None:
            return Storage(str(Path(text).absolute()))
        if url["protocol"] in ("file", "local"):
            return Storage(str(Path("/", text[url.end() :].lstrip("/"))))
        if not url["second"]:
            raise StorageError(f"{text}: a URL begins with {url['protocol']}://")
        from curation.remote.objects import ObjectStore  # fsspec and a cloud's client: only where they are needed

        return ObjectStore.checked(text)

    @property
    def is_local(self) -> bool:
        return True

    def local(self, name: str = "") -> Path:
        return Path(self.root, name)

    def path(self, name: str = "") -> str:
        """What to show, or to hand to others: a path or a URL."""
        return f"{self.root}/{name}" if name else self.root

    def exists(self, name: str) -> bool:
        """Whether there is such a file; a folder is none."""
        return self.size(name) is not None

    def size(self, name: str) -> int | None:
        """In bytes; None when there is no such file. Other errors are raised: a disk that is gone does not say "no"."""
        try:
            found = self.local(name).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return None if stat.S_ISDIR(found.st_mode) else found.st_size

    def read(self, name: str) -> bytes:
        """Raises `FileNotFoundError`."""
        return self.local(name).read_bytes()

    def read_range(self, name: str, offset: int, size: int) -> bytes:
        """Fewer bytes than `size` where the file ends. Raises `FileNotFoundError`."""
        with self.local(name).open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def open(self, name: str, ahead: int = 1 << 22) -> IO[bytes]:
        """For reading, seekable. `ahead`: bytes that are asked of an object store at once. Raises `FileNotFoundError`."""
        return self.local(name).open("rb")

    def write(self, name: str, data: bytes | str) -> None:
        """Whole or not at all; replaces what was there."""
        with self.writing(name) as file:
            file.write(data.encode() if isinstance(data, str) else data)

    def append_line(self, name: str, line: bytes, header: bytes) -> None:
        """A line, and the header before the first, at the end of a file that several write to: on a disk and on S3 none is lost.
        Where the last line was cut off it begins a new one."""
        self._check()
        path = self.local(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")), named(str(path)), path.open("ab+") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - 1))
            file.write(ending(file.read(), header) + line)
            file.flush()
            os.fsync(file.fileno())

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """A file to write to, published when the block ends well; no trace of it when it raises."""
        self._check()
        with named(self.path(name)), replacing(self.local(name)) as temporary:
            with temporary.open("xb") as file:
                yield file
            self._check()

    def names(self, folder: str = "") -> dict[str, int]:
        """Name → size of the files directly in a folder, sorted; hidden and unfinished ones are passed over."""
        found = {}
        for entry in _entries(self.local(folder)):
            with suppress(FileNotFoundError):  # removed meanwhile
                if not entry.name.startswith(".") and entry.is_file():
                    found[entry.name] = entry.stat().st_size
        return found

    def folders(self, folder: str = "") -> list[str]:
        """Names of the folders directly in a folder, sorted; hidden ones are passed over."""
        return [entry.name for entry in _entries(self.local(folder)) if not entry.name.startswith(".") and entry.is_dir()]

    def remove(self, *names: str) -> None:
        """Missing is no error."""
        self._check()
        for name in names:
            self.local(name).unlink(missing_ok=True)

    def remove_folder(self, folder: str) -> None:
        """With all that is in it. Missing is no error."""
        self._check()
        with suppress(FileNotFoundError):
            shutil.rmtree(self.local(folder))

    def join(self, parts: Sequence[str], name: str, tail: bytes = b"") -> None:
        """The bytes of the parts one after the other, and the tail, as a new file. Raises `FileNotFoundError`."""
        with self.writing(name) as target:
            for part in parts:
                with self.open(part) as source:
                    _append(source, target)
            target.write(tail)

    def sweep(self, folder: str = "") -> None:
        """Remove what unfinished writes left directly in a folder. Only under the claim: whoever still writes there fails."""
        for entry in _entries(self.local(folder)):
            if TEMPORARY.fullmatch(entry.name):
                Path(entry.path).unlink(missing_ok=True)

    def arrow(self) -> tuple[Any, str]:
        """For scans: a filesystem of pyarrow's, and this root as a path in it."""
        from pyarrow.fs import LocalFileSystem

        return LocalFileSystem(), self.root

    @contextmanager
    def claim(self) -> Iterator[Claim]:
        """The folder, for one driver at a time; it is made if need be. What this process writes then needs the claim.

        Raises `StorageError` when another holds it, or when nothing can be written there.
        """
        with self._claimed() as claim:
            _claims[os.getpid(), self.root] = claim
            try:
                yield claim
            finally:
                _claims.pop((os.getpid(), self.root), None)

    def _check(self) -> None:
        if claim := _claims.get((os.getpid(), self.root)):
            claim.check()

    @contextmanager
    def _claimed(self) -> Iterator[Claim]:
        path = self.local(".lock")
        lock: FileLock | SoftFileLock = FileLock(path, timeout=0, fallback_to_soft=False)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire()
            except OSError as error:
                if error.errno != errno.ENOSYS:
                    raise
                path = self.local(".softlock")  # the other one is there now, held by nobody
                lock = SoftFileLock(path, timeout=0)
                lock.acquire()
        except Timeout as error:
            killed = f" (or was killed: this disk knows no locks; delete {path} then)" if isinstance(lock, SoftFileLock) else ""
            raise StorageError(f"another run is at work in {self.root}{killed}") from error
        except OSError as error:
            raise StorageError(f"--output {self.root}: {error.strerror or error}") from error
        try:
            if isinstance(lock, SoftFileLock):
                warnings.warn(f"this disk knows no locks; a run that is killed leaves {path}: delete it", stacklevel=5)
            own = path.stat()
            yield Claim(self.root, lambda: _replaced(path, own))
        finally:
            lock.release()


def ending(text: bytes, header: bytes) -> bytes:
    """What is missing before the next line can be written."""
    return header if not text else b"" if text.endswith(b"\n") else b"\n"


def _replaced(path: Path, own: os.stat_result) -> str:
    """Whether a lock's file is still the one that was locked: a mount may vanish, a folder may be deleted."""
    try:
        found = path.stat()
    except OSError as error:
        return f"{path}: {error.strerror}"
    return "" if os.path.samestat(found, own) else f"{path} is another file"


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A name beside `path` to write to. It becomes `path` when the block ends well, else it is gone.

    Not `durable`: a power loss may leave a damaged file; for what is checked when it is read.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(temporary_name(path.name))
    try:
        yield temporary
        publish(temporary, path, durable=durable)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_name(name: str) -> str:
    """Its part that is random tells apart writers on several machines: the number of a process does not."""
    return f".{name}.{secrets.token_hex(8)}.tmp"


def publish(temporary: Path, target: Path, *, durable: bool = True) -> None:
    """Give a file, or a folder with all its files, its name, once its bytes are on the disk."""
    if durable:
        for path in (*(temporary.rglob("*") if temporary.is_dir() else ()), temporary):
            _sync(path)
    temporary.replace(target)
    if durable:
        _sync(target.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not (path.is_dir() and error.errno in UNSUPPORTED):  # not every file system syncs folders
            raise
    finally:
        os.close(descriptor)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What stands in a folder, by name; nothing where there is no folder."""
    try:
        with os.scandir(folder) as scan:
            return sorted(scan, key=lambda entry: entry.name)
    except FileNotFoundError:
        return []


def _append(source: IO[bytes], target: IO[bytes]) -> None:
    """Copy a file behind another: by the kernel where it can, which on some file systems moves no byte."""
    target.flush()
    copied = 0
    try:
        while moved := os.copy_file_range(source.fileno(), target.fileno(), CHUNK):
            copied += moved
    except OSError as error:
        if not (isinstance(error, io.UnsupportedOperation) or error.errno in UNSUPPORTED):
            raise
    source.seek(copied)  # some file systems say 0 where bytes are left
    target.seek(0, os.SEEK_END)
    shutil.copyfileobj(source, target, CHUNK)


@contextmanager
def named(path: str) -> Iterator[None]:
    """A full disk says of which file."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in OF_WRITING:
            error.filename = path
        raise
