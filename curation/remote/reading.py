"""Files of a store as Python and pyarrow read them: each read is one request for just those bytes, made patiently.

fsspec's own files read megabytes ahead of every seek, and do not try again.
"""

from __future__ import annotations

import io
from functools import partial
from typing import TYPE_CHECKING, Any

from pyarrow import PythonFile
from pyarrow.fs import FileSelector, FSSpecHandler

from curation.remote.patience import patiently

if TYPE_CHECKING:
    from curation.remote.objects import ObjectStore


class RemoteFile(io.RawIOBase):
    """Random access to a file; every read is one request."""

    def __init__(self, store: ObjectStore, key: str, size: int):
        self.store, self.key, self.size, self.place = store, key, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.place = offset + (0, self.place, self.size)[whence]
        return self.place

    def tell(self) -> int:
        return self.place

    def readinto(self, buffer: Any) -> int:
        data = self.store.range(self.key, self.place, max(0, min(len(buffer), self.size - self.place)))
        buffer[: len(data)] = data
        self.place += len(data)
        return len(data)


class Handler(FSSpecHandler):
    """A filesystem for pyarrow; pickled, it is only the store's root."""

    def __init__(self, store: ObjectStore):
        self.store = store

    @property
    def fs(self) -> Any:
        return self.store.filesystem()

    def get_file_info(self, paths: list[str]) -> Any:
        return patiently(self.store.root, partial(FSSpecHandler.get_file_info, self, paths))

    def get_file_info_selector(self, selector: FileSelector) -> Any:
        return patiently(self.store.root, partial(FSSpecHandler.get_file_info_selector, self, selector))

    def open_input_file(self, path: str) -> Any:
        size = patiently(path, lambda: self.fs.info(path)["size"])
        return PythonFile(RemoteFile(self.store, path, size), mode="r")

    open_input_stream = open_input_file
