"""Planned clips, and those that split_shots has promised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from curation.sample import Sample
from curation.stage import apply
from curation.stages.split_shots import SplitShots


def planned(key: str, path: Path | str, start: float | None = None, end: float | None = None, **more: Any) -> Sample:
    return Sample(key, meta={"source": {"video": "v", "path": str(path), "start": start, "end": end, "caption": "", **more}})


def promised(key: str, path: Path | str, start: float | None = None, end: float | None = None, **knobs: Any) -> Sample:
    """One shot, whatever it shows."""
    return apply(SplitShots(detector="none", min_seconds=0.0, **knobs), [planned(key, path, start, end)])[0]
