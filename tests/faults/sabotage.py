"""A stage that does to its worker what a test tells it, and leaves no trace in what it is given."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from curation.sample import Sample
from curation.stage import Resources, Stage

ORDERS = "SABOTAGE"
"""Environment variable: a JSON file {key: [what, path]}, or {"load": …}. With a path it is done once: the file is made then."""


@dataclass(kw_only=True)
class Sabotage(Stage):
    """Harmless unless it has orders."""

    model: str | None = None
    """A name in the store."""

    resources = Resources(batch=4)
    reads: ClassVar = ("frame?.jpg",)

    def models(self) -> tuple[str, ...]:
        return (self.model,) if self.model else ()

    def load(self) -> None:
        self.orders = json.loads(Path(os.environ[ORDERS]).read_text()) if ORDERS in os.environ else {}
        self.obey("load")

    def process(self, sample: Sample) -> Sample:
        self.obey(sample.key)
        return sample

    def obey(self, key: str) -> None:
        what, marker = self.orders.get(key, ("", ""))
        if not what or (marker and Path(marker).exists()):
            return
        if marker:
            Path(marker).touch()
        match what:
            case "segfault":
                ctypes.string_at(0)
            case "exit":
                os._exit(3)
            case "killed":  # as the kernel does when memory ends
                os.kill(os.getpid(), signal.SIGKILL)
            case "no_memory":
                limit = resource.getrlimit(resource.RLIMIT_AS)
                used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
                resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 26), limit[1]))
                try:
                    bytearray(1 << 30)
                finally:
                    resource.setrlimit(resource.RLIMIT_AS, limit)
            case "spin":
                while True:
                    time.sleep(0.01)
            case "sleep":
                time.sleep(3600)  # one call, in C
            case "wait":
                while not Path(os.environ[ORDERS]).with_suffix(".go").exists():
                    time.sleep(0.02)
            case "raise":
                raise RuntimeError("no weights here")
            case _:
                raise AssertionError(what)
