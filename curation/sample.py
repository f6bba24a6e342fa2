"""What flows through the pipeline: one clip with its files, its metadata and its verdict."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

KEPT: Literal["kept"] = "kept"
REJECTED: Literal["rejected"] = "rejected"
FAILED: Literal["failed"] = "failed"
STATUSES = (KEPT, REJECTED, FAILED)
SHOT = re.compile(r"_s\d{3,}$")
"""How the key of a shot ends, as `shot_key` makes it."""


def shot_key(key: str, number: int) -> str:
    """Of a shot of the clip `key`. A planned clip has such a key only if it is a shot of an earlier run."""
    return f"{key}_s{number:03d}"


@dataclass(frozen=True)
class Verdict:
    """What became of a clip.

    `rejected` is a property of the data, `failed` a fault of the file or an error nobody foresaw. `reason` is a short snake_case
    word that can be counted, `detail` what is particular to this clip, one line. `unforeseen`: the error was of no known kind; a
    worker whose clips all end so is taken for broken (see `run.breaker`).
    """

    status: Literal["kept", "rejected", "failed"] = KEPT
    stage: str = ""
    reason: str = ""
    detail: str = ""
    unforeseen: bool = False


@dataclass
class Sample:
    """One clip.

    `key` is stable, unique in a run and free of dots, because WebDataset splits a member's name at the first dot.
    `files` maps a tar member's suffix ("mp4", "frame0.jpg", "ref.0.1.webp") to its bytes; a suffix that starts with "_" is
    scratch between stages and never reaches a shard. `meta` has one namespace per stage, plus "source": where the clip comes
    from (`inputs.rows.planned` makes it). `seconds` is the time each stage spent on it.
    """

    key: str
    files: dict[str, bytes] = field(default_factory=dict)
    meta: dict[str, dict[str, Any]] = field(default_factory=dict)
    verdict: Verdict = Verdict()
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def alive(self) -> bool:
        """Whether later stages still work on it."""
        return self.verdict.status == KEPT

    @property
    def caption(self) -> str:
        return self.meta["source"]["caption"]

    def drop(self, verdict: Verdict) -> Sample:
        """End this clip: record why and let its bytes go. Its metadata stays, so that thresholds can be re-tuned from it."""
        self.verdict = verdict
        self.files = {}
        return self
