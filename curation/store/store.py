"""Model and sample-data store: a name of `store.yaml` → a verified local path, fetched once, offline afterwards."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import IO, Any

import yaml
from filelock import FileLock

from curation.storage import replacing
from curation.store.sources import Unavailable, hub_says, opened
from curation.store.weights import weights_digest

OWN = Path(__file__).with_name("store.yaml")
STAMP = ".verified"
PINS = ".pins.json"
"""What the hub said, at the first fetch, of the files for which the table has no hash."""
CHUNK = 1 << 22

Progress = Callable[[str], None]


class StoreError(Exception):
    """One line: which file, from where, what failed, and where to put it by hand."""


@dataclass(frozen=True)
class File:
    """One file of an entry: `member` is its path inside the source (unused when the source is the file itself).

    `sha256` has 64 hexadecimal digits; or 40, a git blob id, which is what the hub has of small files; or it is null, and `size`
    too: the commit decides what the file is, and the hub's own word is taken for its hash at the first fetch; of one that is put
    there by hand, the hash of the first copy.
    """

    name: str
    sha256: str | None
    size: int | None
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
        """The file's hash; for several files the sha256 of their sorted names and hashes. The source stands for one without."""
        pins = {file.name: file.sha256 or self.source for file in self.files}
        if len(pins) == 1:
            return next(iter(pins.values()))
        return hashlib.sha256("".join(sorted(f"{name} {pin}\n" for name, pin in pins.items())).encode()).hexdigest()

    @property
    def pinned(self) -> tuple[File, ...]:
        """The files; those without a hash in the table with what the hub said of them, once they were fetched."""
        try:
            pins = json.loads((self.folder / PINS).read_text())
        except (OSError, ValueError):
            return self.files
        found = pins["files"] if pins.get("source") == self.source else {}
        return tuple(replace(f, **found[f.name]) if not f.sha256 and f.name in found else f for f in self.files)


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


def folder_of(name: str, own: str | None) -> tuple[Path, str]:
    """A folder of weights and what identifies its content: an entry's, or a user's `own`. Raises `StoreError`."""
    if own is None:
        return path(name), entry(name).digest
    folder = Path(own).expanduser()
    if not folder.is_dir():
        raise StoreError(f"no folder {folder}: name one with config.json and the weights")
    return folder, weights_digest(folder)


def is_present(name: str) -> bool:
    """Whether `path` needs no network: every file is there and was verified, now or before."""
    found = entry(name)
    return _stamped(found) or not any(_fault(found, file) for file in found.pinned)


def verify(name: str) -> list[str]:
    """Hash every file again; one line per file that is missing or not what the table says."""
    found = entry(name)
    return [f"{found.folder / file.name}: {fault}" for file in found.pinned if (fault := _fault(found, file))]


def hashes(wanted: Iterable[str]) -> dict[str, str]:
    """name → sha256 from the table alone; the files need not be here."""
    return {name: entry(name).digest for name in wanted}


def fetch(wanted: Iterable[str], progress: Progress | None = None) -> None:
    """Fetch what is missing; `progress` gets one line before each transfer. Unknown names are refused before the first."""
    for found in [entry(name) for name in wanted]:
        if not _stamped(found):
            _obtain(found, progress)


def notice() -> str:
    """The text of NOTICE: what the package's own table fetches, from where, and under which licence."""
    own = "It carries no clips, and no weights but its own small quality filter"
    head = f"curation: Apache-2.0 (LICENSE). {own}. What it fetches keeps its authors' licence:"
    lines = [
        f"{found.name}: {found.description}\n  licence: {found.licence}\n  source: {found.source}"
        for found in _read(OWN).values()
    ]
    return "\n\n".join([head, *lines]) + "\n"


def _table() -> dict[str, Entry]:
    """The package's entries, then the user's own of `$CURATION_HOME/store.yaml`, which win."""
    tables = [table for table in (OWN, home() / "store.yaml") if table.is_file()]
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
    if not all(file.sha256 and file.size for file in files) and not re.fullmatch(
        r"hf:[^@]+@[0-9a-f]{40}|file:.+", fields["source"]
    ):
        raise KeyError(
            f"{name!r} has files without sha256 or size: only a hub repository at a full commit may, or a file: by hand"
        )
    rest = {key: value for key, value in fields.items() if key not in ("root", "files")}
    return Entry(name=name, files=files, **rest)


def _stamped(found: Entry) -> bool:
    """Verified before and not changed in size since. The stamp holds the digest, so that a changed table verifies anew."""
    try:
        return (found.folder / STAMP).read_text() == found.digest and all(
            (found.folder / file.name).stat().st_size == file.size for file in found.pinned
        )
    except OSError:
        return False


def _fault(found: Entry, file: File) -> str:
    """What is wrong with the local copy of a file; "" when it is right."""
    target = found.folder / file.name
    if not target.is_file():
        return "missing"
    if not file.sha256:
        return "not been compared with any hash"
    if (size := target.stat().st_size) != file.size:
        return f"{size} bytes instead of {file.size}"
    with target.open("rb") as stream:
        return _difference(file, _hashed(stream, file))


def _hashed(stream: IO[bytes], file: File, copy: IO[bytes] | None = None) -> str:
    """The hash of a stream, of the kind that the file's own is; at most its size and a byte is read, and written to `copy`."""
    size = file.size or 0
    digest = hashlib.sha256() if len(file.sha256 or "") == 64 else hashlib.sha1(f"blob {size}\0".encode())
    left = size + 1
    while left and (chunk := stream.read(min(left, CHUNK))):
        left -= len(chunk)
        digest.update(chunk)
        if copy:
            copy.write(chunk)
    if left != 1:
        raise Unavailable(f"got {size + 1 - left if left else 'more'} bytes instead of {size}")
    return digest.hexdigest()


def _difference(file: File, found: str) -> str:
    kind = "sha256" if len(found) == 64 else "git blob"
    return "" if found == file.sha256 else f"{kind} {found} instead of {file.sha256}"


def _obtain(found: Entry, progress: Progress | None = None) -> None:
    """Verify what lies there (perhaps put by hand), fetch the rest, stamp. One process at a time per entry."""
    try:
        found.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(found.folder.with_name(f".{found.name}.lock")):
            if _stamped(found):
                return
            if missing := [file for file in found.pinned if _fault(found, file)]:
                if progress:
                    size = f" ({found.download / 1e6:.0f} MB)" if found.download else ""
                    progress(f"fetching {found.name} from {found.source}{size}")
                _fetch(found, missing)
            _put(found.folder / STAMP, found.digest.encode())
    except OSError as error:
        raise StoreError(f"{found.name}: cannot write to {found.folder}: {error.strerror or error}") from error


def _fetch(found: Entry, files: list[File]) -> None:
    with _scratch(found) as scratch:
        for file in files:
            target = found.folder / file.name
            try:
                if not file.sha256:
                    file = _pin(found, file)
                if _fault(found, file):
                    with opened(found.source, file.member, scratch) as stream:
                        _write(target, stream, file)
            except Unavailable as error:
                there = f"; the file there has {_fault(found, file)}" if target.is_file() else ""
                by_hand = f"by hand: put it at {target} ({'git blob' if len(f'{file.sha256}') == 40 else 'sha256'} {file.sha256})"
                unknown = f"put it at {target}: no hash of it is known, that of the first copy is remembered"
                if not found.source.startswith("file:"):
                    unknown = "no hash of it is known here: the hub must be in reach once, or a stage's `weights` name a copy"
                raise StoreError(
                    f"cannot get {file.member or file.name} of {found.name} from {found.source}: {error}{there}; "
                    f"{by_hand if file.sha256 else unknown}"
                ) from error


def _pin(found: Entry, file: File) -> File:
    """Ask the hub for the hash and the size of a file at the pinned commit, and write them down. Of a file that is put there by
    hand those of the copy that is seen first are taken, in the store or where it comes from: it may not change afterwards."""
    sha256, size = _seen(found, file) if found.source.startswith("file:") else hub_says(found.source, file.member)
    pinned = {f.name: {"sha256": f.sha256, "size": f.size} for f in found.pinned if f.sha256}
    pinned[file.name] = {"sha256": sha256, "size": size}
    unknown = {f.name for f in found.files if not f.sha256}
    pins = {"source": found.source, "files": {name: pin for name, pin in pinned.items() if name in unknown}}
    _put(found.folder / PINS, json.dumps(pins, indent=1).encode())
    return replace(file, sha256=sha256, size=size)


def _seen(found: Entry, file: File) -> tuple[str, int]:
    """Hash and size of the copy of a file in the store, or else at its source. Raises `Unavailable`."""
    target = found.folder / file.name
    with target.open("rb") if target.is_file() else opened(found.source, file.member, found.folder) as stream:
        digest, size = hashlib.sha256(), 0
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return digest.hexdigest(), size


@contextmanager
def _scratch(found: Entry) -> Iterator[Path]:
    """Where a source may put what it fetches: on the store's own disk, and kept after a failure where a transfer can go on."""
    if not found.source.startswith("hf:"):
        with tempfile.TemporaryDirectory(prefix="curation-") as folder:
            yield Path(folder)
        return
    scratch = found.folder.with_name(f".{found.name}.part")
    scratch.mkdir(exist_ok=True)
    yield scratch
    shutil.rmtree(scratch)


def _write(target: Path, stream: IO[bytes], file: File) -> None:
    """A stream that is what the file should be; else `Unavailable`, and no trace of it."""
    with replacing(target) as temporary:
        with temporary.open("wb") as copy:
            found = _hashed(stream, file, copy)
        if difference := _difference(file, found):
            raise Unavailable(f"it has {difference}")


def _put(target: Path, content: bytes) -> None:
    with replacing(target) as temporary:
        temporary.write_bytes(content)
