"""The command, and what a run directory holds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import IO

from curation import ledger as ledgers
from curation.storage import Storage
from tests.conftest import ROOT

# A recipe that needs no model, in small units and small shards.
FAST = """
clips:
  - split_shots: {detector: none, min_seconds: 0.1}
  - sample_frames: {}
units: {clips: 2}
limits: {max_failed: 0.9}
shards: {megabytes: 0.05}
"""


def curation(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "curation.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=600, env={**os.environ, **environment})


def begin(*words: object, said: IO[str] | int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """The command in a process of its own, of which nothing is waited for. `said`: where it prints."""
    command = [sys.executable, "-m", "curation.cli", *map(str, words)]
    return subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=said)


def tars(out: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((out / "shards").glob("*.tar"))}


def rows(out: Path | str) -> list[dict]:
    """Every ledger row of a run."""
    return list(ledgers.rows(Storage.at(out)))


def ledger(out: Path | str) -> dict[str, str]:
    return {r["key"]: f"{r['verdict']} {r['stage']} {r['reason']}".strip() for r in rows(out)}


def finished(out: Path) -> list[Path]:
    """Ledgers of shards and of units that are not packed yet."""
    return [*(out / "shards").glob("*.parquet"), *(out / "units").glob("*/*.parquet")]


def leftovers(out: Path) -> list[str]:
    """Files that a finished run should not hold: unit files, and what was begun and not finished."""
    files = [p for p in out.rglob("*") if p.is_file()]
    return [str(p.relative_to(out)) for p in files if "units" in p.parts or (p.name.startswith(".") and p.name != ".lock")]
