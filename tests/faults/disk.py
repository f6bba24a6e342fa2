"""A disk that fails: what is done to files below some folder is counted, and one such thing, or all from one on, raises. Within
one process, at what Python itself asks the system for."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

CALLS = ("open", "stat", "fsync", "replace", "rename", "unlink", "mkdir", "rmdir", "scandir", "copy_file_range")
"""Of the module os."""


class Disk:
    """`fail`: the number, from 1, of the operation that fails; 0 for none. `for_good`: all later ones, too. `fails`: how."""

    def __init__(self, folder: Path, fail: int = 0, *, for_good: bool = False):
        self.folder, self.fail, self.for_good, self.count = str(folder), fail, for_good, 0
        self.fails: Callable[[], None] = self._error
        self.synced: set[str] = set()
        self.unsynced: list[str] = []
        """Files that got their names before their bytes were on the disk."""

    def _error(self) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def tick(self) -> None:
        self.count += 1
        if self.fail and (self.count == self.fail or (self.for_good and self.count > self.fail)):
            self.fails()

    def concerns(self, place: Any) -> bool:
        if isinstance(place, int):
            try:
                place = os.readlink(f"/proc/self/fd/{place}")  # noqa: PTH115
            except OSError:
                return False
        return isinstance(place, (str, os.PathLike)) and os.fspath(place).startswith(self.folder)

    def _note(self, call: str, *args: Any) -> None:
        if call == "fsync":
            self.synced.add(os.readlink(f"/proc/self/fd/{args[0]}"))  # noqa: PTH115
        elif call in ("replace", "rename") and os.fspath(args[0]) not in self.synced:
            self.unsynced.append(os.fspath(args[1]))

    @contextmanager
    def failing(self) -> Iterator[Disk]:
        def counted(name: str) -> Callable[..., Any]:
            function = getattr(os, name)

            def call(*args: Any, **kwargs: Any) -> Any:
                if args and any(map(self.concerns, args[:2])):
                    self.tick()
                    self._note(name, *args)
                return function(*args, **kwargs)

            return call

        disk, plain = self, io.open

        class Raw(io.FileIO):
            def write(self, data: Any) -> int:
                disk.tick()
                return super().write(data)

            def readinto(self, buffer: Any) -> int | None:
                disk.tick()
                return super().readinto(buffer)

            def readall(self) -> bytes:
                disk.tick()
                return super().readall()

        def opened(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            if "b" not in mode or not self.concerns(file):
                return plain(file, mode, *args, **kwargs)
            self.tick()
            raw = Raw(file, mode.replace("b", ""))
            return io.BufferedReader(raw) if mode == "rb" else io.BufferedWriter(raw)

        with patch.multiple(os, **{name: counted(name) for name in CALLS}), patch.object(io, "open", opened):
            yield self
