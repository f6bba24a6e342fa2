"""`Storage` behind a URL, through fsspec: S3, with claims and bulk requests, and whatever else fsspec knows."""

from __future__ import annotations

import errno
import glob
import io
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from typing import IO, Any

import fsspec
from fsspec.spec import AbstractFileSystem
from pyarrow.fs import PyFileSystem

from curation.faults import one_line
from curation.remote.lease import LOCK, Head, Lease
from curation.remote.patience import code, patiently
from curation.remote.reading import Handler, RemoteFile
from curation.storage import TEMPORARY, Claim, Storage, StorageError, ending, named, temporary_name

S3 = ("s3", "s3a")
WHOLE = (*S3, "gs", "gcs", "abfs", "abfss", "az")
"""Where a put is seen whole or not at all. Elsewhere what can be renamed is written under a temporary name first."""
S3_OPTIONS = {"use_listings_cache": False, "max_concurrency": 4}
S3_PARTS = {"chunksize": 1 << 24}
"""What is larger than two parts goes up in parts, four at a time: 64 MiB of memory. Less than 5 MiB a part is refused."""
BULK = 1000
"""Names that S3 deletes by one request."""


@dataclass(frozen=True)
class ObjectStore(Storage):
    """A prefix of a bucket, or a folder of another kind of remote filesystem. Streams are spooled in $TMPDIR, then put."""

    @staticmethod
    def checked(root: str) -> ObjectStore:
        """Raises `StorageError` when it cannot work at all."""
        store = ObjectStore(root.rstrip("/"))
        if store.root.endswith(":"):
            raise StorageError(f"{root}: names no bucket")
        try:
            fsspec.get_filesystem_class(store.protocol)
        except ValueError as error:
            raise StorageError(f"{root}: {store.protocol}:// is not known; a path, or a URL as s3://bucket/folder") from error
        except ImportError as error:
            needed = "pip install 'curation[s3]'" if store.is_s3 else " ".join(str(error).split())
            raise StorageError(f"{root}: a package is missing: {needed}") from error
        if store.is_s3:
            bucket, _, prefix = store.key().partition("/")
            try:
                store._call("", "list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1)
            except (OSError, ValueError) as error:  # ValueError: no name for a bucket
                raise StorageError(f"{root}: {_reason(error)}") from error
        return store

    @property
    def is_local(self) -> bool:
        return False

    @property
    def protocol(self) -> str:
        return self.root.partition("://")[0]

    @property
    def is_s3(self) -> bool:
        return self.protocol in S3

    def filesystem(self) -> Any:
        """fsspec keeps one for each process. Only botocore tries a request again there: with s3fs's own tries 5 would be 125."""
        options = fsspec.get_filesystem_class(self.protocol)._get_kwargs_from_urls(self.root)
        found = fsspec.filesystem(self.protocol, **options, **(S3_OPTIONS if self.is_s3 else {}))
        if self.is_s3:
            found.retries = 1
        return found

    def key(self, name: str = "") -> str:
        """A file's name in the filesystem: bucket and key."""
        return fsspec.get_filesystem_class(self.protocol)._strip_protocol(self.path(name))

    def local(self, name: str = "") -> Any:
        raise TypeError(f"{self.path(name)} is on no disk")

    def size(self, name: str) -> int | None:
        try:
            info = self._ask(name, "info")
        except FileNotFoundError:
            return None
        return info["size"] if info["type"] == "file" else None

    def read(self, name: str) -> bytes:
        return self._ask(name, "cat_file")

    def read_range(self, name: str, offset: int, size: int) -> bytes:
        return self.range(self.key(name), offset, size)

    def range(self, key: str, offset: int, size: int) -> bytes:
        url = f"{self.protocol}://{key.lstrip('/')}"
        try:
            return patiently(url, lambda: self.filesystem().cat_file(key, start=offset, end=offset + size)) if size else b""
        except OSError as error:
            if code(error) in ("InvalidRange", "416"):  # behind the end
                return b""
            raise

    def open(self, name: str, ahead: int = 1 << 22) -> IO[bytes]:
        if (size := self.size(name)) is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", self.path(name))
        return io.BufferedReader(RemoteFile(self, self.key(name), size), ahead)

    def write(self, name: str, data: bytes | str) -> None:
        content = data.encode() if isinstance(data, str) else data
        self._put(name, lambda fs, key: fs.pipe_file(key, content, **(S3_PARTS if self.is_s3 else {})))

    def append_line(self, name: str, line: bytes, header: bytes) -> None:
        self._check()
        while True:
            head = self.head(name) if self.is_s3 else None
            there = self.read(name) if head or (not self.is_s3 and self.exists(name)) else b""
            content = there + ending(there, header) + line
            if not self.is_s3:
                return self.write(name, content)
            condition = {"IfMatch": head.etag} if head else {"IfNoneMatch": "*"}
            if patiently(self.path(name), partial(self.put_if, name, content, {}, **condition)):
                return None

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        self._check()
        with tempfile.NamedTemporaryFile(prefix="curation-") as spool:
            file = spool.file
            with named(spool.name):
                yield file
                if not file.closed:
                    file.flush()
            self._put(name, lambda fs, key: fs.put_file(spool.name, key, **(S3_PARTS if self.is_s3 else {})))

    def names(self, folder: str = "") -> dict[str, int]:
        found = {name: size for name, kind, size in self._listing(folder) if kind == "file" and not name.startswith(".")}
        return dict(sorted(found.items()))

    def folders(self, folder: str = "") -> list[str]:
        return sorted(name for name, kind, _ in self._listing(folder) if kind == "directory" and not name.startswith("."))

    def remove(self, *names: str) -> None:
        self._check()
        self._remove([self.key(name) for name in names])

    def remove_folder(self, folder: str) -> None:
        self._check()
        with suppress(FileNotFoundError):
            self._remove(self._ask(folder, "find"))
        if not self.is_s3:  # there a folder is only the names of its files
            with suppress(FileNotFoundError):
                patiently(self.path(folder), lambda: self.filesystem().rm(glob.escape(self.key(folder)), recursive=True))

    def sweep(self, folder: str = "") -> None:
        """Temporary names; on S3 uploads of which only some parts have come: they are not seen, but paid for."""
        if not self.is_s3:
            names = [name for name, *_ in self._listing(folder) if TEMPORARY.fullmatch(name)]
            self.remove(*(f"{folder}/{name}".lstrip("/") for name in names))
            return
        bucket, _, prefix = f"{self.key(folder)}/".partition("/")
        asked = {"Bucket": bucket, "Prefix": prefix, "Delimiter": "/"}
        while True:
            found = self._call(folder, "list_multipart_uploads", **asked)
            for upload in found.get("Uploads", []):
                if "/" not in upload["Key"].removeprefix(prefix):
                    with suppress(FileNotFoundError):
                        self._call(
                            folder, "abort_multipart_upload", Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                        )
            if not found.get("IsTruncated"):
                return
            asked |= {"KeyMarker": found["NextKeyMarker"], "UploadIdMarker": found["NextUploadIdMarker"]}

    def arrow(self) -> tuple[Any, str]:
        return PyFileSystem(Handler(self)), self.key()

    def put_if(self, name: str, content: bytes, metadata: dict[str, str], **condition: str) -> str:
        """One conditional put on S3: the new etag, "" when the condition does not hold."""
        try:
            return self.filesystem().pipe_file(self.key(name), content, Metadata=metadata, **condition)["ETag"]
        except OSError as error:
            if code(error) in ("PreconditionFailed", "412", "NoSuchKey", "404"):
                return ""
            raise

    def head(self, name: str) -> Head | None:
        """Facts of a file on S3, all of one moment."""
        bucket, _, key = self.key(name).partition("/")
        try:
            found = self.filesystem().call_s3("head_object", Bucket=bucket, Key=key)
        except FileNotFoundError:
            return None
        now = parsedate_to_datetime(found["ResponseMetadata"]["HTTPHeaders"]["date"])
        return Head(found["ETag"], found.get("Metadata", {}), (now - found["LastModified"]).total_seconds())

    @contextmanager
    def _claimed(self) -> Iterator[Claim]:
        lease = Lease(self)
        try:
            if self.is_s3:
                patiently(self.root, lease.take)
                holds = not patiently(self.root, lambda: self.put_if(LOCK, b"", {}, IfNoneMatch="*"))  # some pass conditions over
            else:
                self.write(LOCK, b"")
                holds = False
            if not holds:
                self.remove(LOCK)
        except (OSError, NotImplementedError, ValueError) as error:
            raise StorageError(f"--output {self.root}: {_reason(error)}") from error
        if holds:
            with lease.kept() as claim:
                yield claim
            return
        warnings.warn(f"{self.root} cannot be claimed: see to it that only one run is at work there", stacklevel=5)
        yield Claim(self.root, lambda: "")

    def _ask(self, name: str, method: str, **options: Any) -> Any:
        """A method of the filesystem, of one file or folder, as it is now: nothing that was listed before counts."""

        def ask() -> Any:
            fs = self.filesystem()
            fs.invalidate_cache()
            return getattr(fs, method)(self.key(name), **options)

        return patiently(self.path(name), ask)

    def _call(self, name: str, method: str, **options: Any) -> dict[str, Any]:
        """A request of S3's own."""
        return patiently(self.path(name), lambda: self.filesystem().call_s3(method, **options))

    def _listing(self, folder: str) -> list[tuple[str, str, int]]:
        """(name, type, size) of what stands directly in a folder."""
        with suppress(FileNotFoundError):
            entries = self._ask(folder, "ls", detail=True)
            inside = [e for e in entries if e["name"].strip("/") != self.key(folder).strip("/")]
            return [(e["name"].rstrip("/").rsplit("/", 1)[-1], e["type"], e["size"]) for e in inside]
        return []

    def _put(self, name: str, send: Callable[[Any, str], Any]) -> None:
        """Whole or not at all: by one put, or under a temporary name that is then moved."""
        self._check()
        url, key = self.path(name), self.key(name)
        if self.protocol in WHOLE or type(self.filesystem()).mv is AbstractFileSystem.mv:  # that one copies
            patiently(url, lambda: send(self.filesystem(), key))
            return
        folder, _, last = key.rpartition("/")
        temporary = f"{folder}/{temporary_name(last)}"
        try:
            patiently(url, lambda: self.filesystem().makedirs(folder, exist_ok=True))
            patiently(url, lambda: send(self.filesystem(), temporary))
            patiently(url, lambda: self.filesystem().mv(temporary, key))
        except BaseException:
            with suppress(Exception):
                self.filesystem().rm_file(temporary)
            raise

    def _remove(self, keys: list[str]) -> None:
        if not self.is_s3:
            for key in keys:
                with suppress(FileNotFoundError):
                    patiently(self.root, partial(self.filesystem().rm_file, key))
        for i in range(0, len(keys) if self.is_s3 else 0, BULK):
            patiently(self.root, partial(self._delete, keys[i : i + BULK]))

    def _delete(self, keys: list[str]) -> None:
        bucket = keys[0].partition("/")[0]
        objects = [{"Key": key.partition("/")[2]} for key in keys]
        out = self.filesystem().call_s3("delete_objects", Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
        for error in out.get("Errors", []):
            raise OSError(errno.EACCES if error["Code"] == "AccessDenied" else errno.EIO, f"{error['Code']} {error['Key']}")


def _reason(error: Exception) -> str:
    text = " ".join((getattr(error, "strerror", None) or str(error) or one_line(error)).split())
    return f"no permission ({text})" if isinstance(error, PermissionError) else text
