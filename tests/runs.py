"""The command, and what a run directory holds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from curation import shards
from tests.conftest import ROOT


def curation(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "curation.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, env={**os.environ, **environment})


def tars(out: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((out / "shards").glob("*.tar"))}


def ledger(out: Path) -> dict[str, str]:
    rows = [r for unit in shards.units(out / "shards") for r in shards.ledger(out / "shards", unit)]
    return {r["key"]: f"{r['status']} {r['stage']} {r['reason']}".strip() for r in rows}
