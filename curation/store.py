"""Model and sample-data store: a name of `store.yaml` → a verified local path, fetched once, offline afterwards."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import IO, Any

import yaml
from filelock import FileLock

from curation.sources import Unavailable, opened

STAMP = ".verified"

Progress = Callable[[str], None]


class StoreError(Exception):
    """One line: which file, from where, what failed, and where to put it by hand."""


@dataclass(frozen=True)
class File:
    """One file of an entry: `member` is its path inside the source (unused when the source is the file itself)."""

    name: str
    sha256: str
    size: int
    member: str


@dataclass(frozen=True)
class Entry:
    """One line of the table. `download` is the number of bytes transferred to get it, 0 when unknown."""

    name: str
    description: str
    licence: str
    source: str
    files: tuple[File, ...]
    download: int = 0

    @property
    def folder(self) -> Path:
        return home() / "models" / self.name

    @property
    def path(self) -> Path:
        """The file when there is one, else the folder that holds them."""
        return self.folder / self.files[0].name if len(self.files) == 1 else self.folder

    @property
    def digest(self) -> str:
        """The file's sha256; for several files the sha256 of their sorted names and hashes."""
        if len(self.files) == 1:
            return self.files[0].sha256
        return hashlib.sha256("".join(sorted(f"{f.name} {f.sha256}\n" for f in self.files)).encode()).hexdigest()


def home() -> Path:
    """`$CURATION_HOME`, by default `~/.cache/curation`."""
    return Path(os.environ.get("CURATION_HOME") or "~/.cache/curation").expanduser()


def names() -> list[str]:
    return list(_table())


def entry(name: str) -> Entry:
    """Raises `StoreError` for an unknown name, with the name that was probably meant."""
    table = _table()
    if name not in table:
        meant = get_close_matches(name, table, n=1)
        hint = f"did you mean {meant[0]!r}?" if meant else f"known: {', '.join(table)}"
        raise StoreError(f"no model {name!r} in the store; {hint}")
    return table[name]


def path(name: str) -> Path:
    """A verified local path, fetched now if it is not there yet: a file, or a folder for an entry of several files."""
    found = entry(name)
    if not _stamped(found):
        _obtain(found)
    return found.path


def is_present(name: str) -> bool:
    """Whether `path` needs no network: every file is there and was verified, now or before."""
    found = entry(name)
    return _stamped(found) or not any(_fault(found, file) for file in found.files)


def verify(name: str) -> list[str]:
    """Hash every file again; one line per file that is missing or not what the table says."""
    found = entry(name)
    return [f"{found.folder / file.name}: {fault}" for file in found.files if (fault := _fault(found, file))]


def hashes(wanted: Iterable[str]) -> dict[str, str]:
    """name → sha256 from the table alone; the files need not be here."""
    return {name: entry(name).digest for name in wanted}


def fetch(wanted: Iterable[str], progress: Progress | None = None) -> None:
    """Fetch what is missing; `progress` gets one line before each transfer. Unknown names are refused before the first."""
    for found in [entry(name) for name in wanted]:
        if not _stamped(found):
            _obtain(found, progress)


def _table() -> dict[str, Entry]:
    """The package's entries, then the user's own of `$CURATION_HOME/store.yaml`, which win."""
    tables = [table for table in (Path(__file__).with_name("store.yaml"), home() / "store.yaml") if table.is_file()]
    return {name: found for table in tables for name, found in _read(table).items()}


_parsed: dict[tuple[Path, int], dict[str, Entry]] = {}


def _read(table: Path) -> dict[str, Entry]:
    key = (table, table.stat().st_mtime_ns)
    if key not in _parsed:
        try:
            _parsed[key] = {name: _entry(name, fields) for name, fields in (yaml.safe_load(table.read_text()) or {}).items()}
        except (yaml.YAMLError, TypeError, KeyError, AttributeError) as error:
            raise StoreError(f"{table}: not a table of models: {' '.join(str(error).split())}") from error
    return _parsed[key]


def _entry(name: str, fields: dict[str, Any]) -> Entry:
    """A file's member is `root`/its name unless it says otherwise."""
    root = fields.get("root", "")
    files = tuple(
        File(**{"name": file, "member": str(PurePosixPath(root, file)), **facts}) for file, facts in fields["files"].items()
    )
    for part in (name, *(file.name for file in files)):
        if PurePosixPath(part).is_absolute() or ".." in PurePosixPath(part).parts:
            raise KeyError(f"{part!r} points outside the store")
    rest = {key: value for key, value in fields.items() if key not in ("root", "files")}
    return Entry(name=name, files=files, **rest)


def _stamped(found: Entry) -> bool:
    """Verified before and not changed in size since. The stamp holds the digest, so that a changed table verifies anew."""
    try:
        return (found.folder / STAMP).read_text() == found.digest and all(
            (found.folder / file.name).stat().st_size == file.size for file in found.files
        )
    except OSError:
        return False


def _fault(found: Entry, file: File) -> str:
    """What is wrong with the local copy of a file; "" when it is right."""
    target = found.folder / file.name
    if not target.is_file():
        return "missing"
    if (size := target.stat().st_size) != file.size:
        return f"{size} bytes instead of {file.size}"
    with target.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    return "" if sha256 == file.sha256 else f"sha256 {sha256} instead of {file.sha256}"


def _obtain(found: Entry, progress: Progress | None = None) -> None:
    """Verify what lies there (perhaps put by hand), fetch the rest, stamp. One process at a time per entry."""
    try:
        found.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(found.folder.with_name(f".{found.name}.lock")):
            if _stamped(found):
                return
            if missing := [file for file in found.files if _fault(found, file)]:
                if progress:
                    size = f" ({found.download / 1e6:.0f} MB)" if found.download else ""
                    progress(f"fetching {found.name} from {found.source}{size}")
                _fetch(found, missing)
            _write(found.folder / STAMP, found.digest.encode())
    except OSError as error:
        raise StoreError(f"{found.name}: cannot write to {found.folder}: {error.strerror or error}") from error


def _fetch(found: Entry, files: list[File]) -> None:
    with tempfile.TemporaryDirectory(prefix="curation-") as scratch:
        for file in files:
            try:
                with opened(found.source, file.member, Path(scratch)) as stream:
                    content = _checked(stream, file)
            except Unavailable as error:
                target = found.folder / file.name
                there = f"; the file there has {_fault(found, file)}" if target.is_file() else ""
                raise StoreError(
                    f"cannot get {file.member or file.name} of {found.name} from {found.source}: {error}{there}; "
                    f"to provide it by hand, put it at {target} (sha256 {file.sha256})"
                ) from error
            _write(found.folder / file.name, content)


def _checked(stream: IO[bytes], file: File) -> bytes:
    """The file's bytes; never more than its size is read."""
    content = stream.read(file.size + 1)
    if len(content) != file.size:
        raise Unavailable(f"got {'more' if len(content) > file.size else len(content)} bytes instead of {file.size}")
    if (sha256 := hashlib.sha256(content).hexdigest()) != file.sha256:
        raise Unavailable(f"it has sha256 {sha256} instead of {file.sha256}")
    return content


def _write(target: Path, content: bytes) -> None:
    """Whole or not at all: written beside the target, then renamed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
