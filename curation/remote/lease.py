"""The claim of an output in S3: a small object, put on conditions, and put again as long as its holder lives."""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from curation.storage import Claim, StorageError

if TYPE_CHECKING:
    from curation.remote.objects import ObjectStore

LOCK = ".lock"
RENEW = 10.0
"""Seconds between two renewals."""
STALE = 60.0
"""Seconds without renewal, by the store's clock, after which another may take the claim."""
CERTAIN = 0.9
"""Share of them after which its holder no longer counts on it: the store tells whole seconds."""


@dataclass(frozen=True)
class Head:
    """`age`: seconds since the object was put, by the store's clock."""

    etag: str
    metadata: dict[str, str]
    age: float


class Lease:
    """`take` it, then keep it with `kept`. A holder that was cut off has it again when it hears that nobody took it meanwhile."""

    def __init__(self, store: ObjectStore):
        self.store, self.token = store, secrets.token_hex(16)
        self.holder = f"process {os.getpid()} on {socket.gethostname()}"
        self.etag, self.renewed, self.taken = "", 0.0, ""
        self._over = threading.Event()

    def take(self) -> None:
        """Raises `StorageError` when another holds it."""
        age, holder = 0.0, "it began this moment"
        for _ in range(3):
            if self._put(IfNoneMatch="*"):
                return
            if (found := self.store.head(LOCK)) is None:
                continue  # given back this moment
            if found.age > STALE and self._put(IfMatch=found.etag):
                return
            age, holder = found.age, found.metadata.get("holder", "whose is unknown")
            if age <= STALE:
                break
        raise StorageError(
            f"another run is at work in {self.store.root}: {holder}, last heard of {age:.0f} s ago "
            f"(if it was killed, this is free {STALE:.0f} s after its last word)"
        )

    @contextmanager
    def kept(self) -> Iterator[Claim]:
        """Renewed in the background, given back at the end."""
        threading.Thread(target=self._renew, name="claim", daemon=True).start()
        try:
            yield Claim(self.store.root, self.lost)
        finally:
            self._over.set()
            with suppress(Exception):  # it is free by itself in a minute
                found = self.store.head(LOCK)
                if found and found.metadata.get("token") == self.token:
                    self.store.filesystem().rm_file(self.store.key(LOCK))

    def lost(self) -> str:
        """Why the claim is not held; "" while it is."""
        silent = time.monotonic() - self.renewed
        return self.taken or (f"it could not be renewed for {silent:.0f} s" if silent > CERTAIN * STALE else "")

    def _renew(self) -> None:
        pause = RENEW
        while not self._over.wait(pause):
            with suppress(Exception):  # tried again; `lost` counts the seconds
                pause = RENEW / 5
                if not self._put(IfMatch=self.etag):
                    self.taken = "another run took it"
                    return
                pause = RENEW

    def _put(self, **condition: str) -> bool:
        sent = time.monotonic()
        said = {"token": self.token, "holder": self.holder}
        content = json.dumps({**said, "time": datetime.now(UTC).isoformat()}).encode()
        etag = self.store.put_if(LOCK, content, said, **condition)
        if not etag:  # or it was put, and only the answer to it was lost
            found = self.store.head(LOCK)
            if found is None or found.metadata.get("token") != self.token:
                return False
            etag = found.etag
        self.etag, self.renewed = etag, sent
        return True
