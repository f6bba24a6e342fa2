"""Shards read with webdataset: which there are, which of them a worker reads in an epoch, and the members it needs."""

from __future__ import annotations

import random
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from webdataset.gopen import gopen
from webdataset.shardlists import expand_urls
from webdataset.tariterators import group_by_keys, tar_file_expander

from curation.trainer.errors import TrainerError

Sources = str | Path | Sequence[str | Path]
Identity = tuple[str, str]
"""Shard and key of a sample."""
USED = ("mp4", "ref.", "face.", "background.")
"""How the suffixes of members begin that training may need, beside the metadata."""


def urls(sources: Sources) -> list[str]:
    """Paths and URLs of shards, in order.

    `sources`: the directory of a run (only shards whose ledger is there), a folder of tars, a tar, a pattern with braces
    (`s3-{000..127}.tar`), a URL or `pipe:command` as webdataset takes them, or a list of such. Raises `TrainerError`.
    """
    if not isinstance(sources, (str, Path)):
        return [url for source in sources for url in urls(source)]
    path = Path(sources)
    if path.is_dir():
        found = _in_folder(path / "shards" if (path / "shards").is_dir() else path)
        if not found:
            raise TrainerError(f"no finished shards in {path}: a run writes them, `curation run … --output {path}`")
        return found
    if path.is_file() or isinstance(sources, Path):
        if not path.is_file():
            raise TrainerError(f"no shards at {path}: no such file or folder")
        return [str(path)]
    try:
        found = expand_urls(sources)
    except AssertionError as error:
        raise TrainerError(f"{sources}: {error}") from error
    missing = [url for url in found if "://" not in url and not url.startswith("pipe:") and not Path(url).is_file()]
    if missing:
        raise TrainerError(f"no shards at {missing[0]}: no such file or folder")
    return found


def _in_folder(folder: Path) -> list[str]:
    """A shard exists when its ledger does; a folder without any ledger is taken as it is."""
    tars = sorted(folder.glob("*.tar"))
    ledgers = {path.stem for path in folder.glob("*.parquet")}
    return [str(tar) for tar in tars if tar.stem in ledgers or not (ledgers or folder.name == "shards")]


class Part:
    """What one worker of one process reads of an epoch: whole shards, or, when there are fewer shards than workers, every n-th
    sample. Over all workers of all processes every sample of the epoch comes once."""

    def __init__(self, shards: Sequence[str], epoch_seed: int, rank: int, world: int, worker: int, workers: int):
        order = list(shards)
        random.Random(epoch_seed).shuffle(order)
        by_sample = len(order) < world * workers
        self.shards = order if by_sample else order[rank::world][worker::workers]
        self._step, self._offset = (world * workers, rank * workers + worker) if by_sample else (1, 0)

    def samples(self, wanted: Callable[[Identity], bool]) -> Iterator[dict[str, Any]]:
        """Samples in the shards' order: `__key__`, `__url__`, and bytes by suffix; of those not `wanted` the metadata alone."""
        number = 0
        for url in self.shards:
            select = _Select(url, number, self._step, self._offset, wanted)
            try:
                stream = _Whole(gopen(url))
                yield from group_by_keys(tar_file_expander([{"url": url, "stream": stream}], select_files=select))
                stream.finish()
            except (OSError, tarfile.TarError, ValueError) as error:
                reason = " ".join(str(getattr(error, "strerror", None) or error.args[0]).split())
                raise TrainerError(f"{url}: cannot be read as a shard: {reason}") from error
            number = select.number


class _Whole:
    """A shard's bytes on their way to webdataset, which takes a tar that breaks off between members for a whole one."""

    def __init__(self, stream: IO[bytes]):
        self._stream = stream
        self._head, self._tail = b"", b""

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        if data:
            self._head = self._head or data[:2]
            self._tail = data[-tarfile.BLOCKSIZE :]
        return data

    def finish(self) -> None:
        """Raises `tarfile.ReadError` when the archive's end was not there, `OSError` when the command that gave it failed."""
        while self.read(1 << 16):
            pass
        self._stream.close()
        if self._head != b"\x1f\x8b" and any(self._tail):  # a tar ends with zeros; gzip knows its end itself
            raise tarfile.ReadError("it ends early")


class _Select:
    """Which members webdataset is to read. It asks for each in order, so samples can be counted on the way."""

    def __init__(self, url: str, number: int, step: int, offset: int, wanted: Callable[[Identity], bool]):
        self.number = number
        self._url, self._step, self._offset, self._wanted = url, step, offset, wanted
        self._key: str | None = None
        self._suffixes: tuple[str, ...] = ()

    def __call__(self, member: str) -> bool:
        folder, slash, name = member.rpartition("/")
        stem, _, suffix = name.partition(".")
        key = folder + slash + stem
        if key != self._key:
            self._key, mine = key, self.number % self._step == self._offset
            self._suffixes = () if not mine else ("json", *USED) if self._wanted((self._url, key)) else ("json",)
            self.number += 1
        return suffix.startswith(self._suffixes) if self._suffixes else False
