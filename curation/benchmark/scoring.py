"""What a worker of `evaluate` does: score a video by every metric, once, and keep the ground truth's embeddings for the next."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curation.benchmark import videos
from curation.benchmark.case import Case, Mode, References
from curation.benchmark.errors import BenchmarkError
from curation.benchmark.metrics import Metric, Score, Truth
from curation.benchmark.scores import SCHEMA
from curation.faults import DataError
from curation.storage import replacing
from curation.store import store

Load = Callable[[str, References], Sequence[Metric]]
"""A device, and what the videos were made from → the metrics, with their networks loaded."""


@dataclass(frozen=True)
class Job:
    """What every worker is told. `identity`: of the metrics, what decides their numbers; `parts`, `truth`: folders of one file a
    video and one a clip and metric, which all workers see; `mode`, `references`: what the videos were made from; `frames`: how
    many of a video count, None for all."""

    load: Load
    identity: str
    parts: Path
    truth: Path
    mode: Mode
    references: References
    frames: int | None


class Scorer:
    """Loads the metrics when the first video is not yet scored."""

    def __init__(self, job: Job, device: str):
        self.job, self.device = job, device

    @cached_property
    def metrics(self) -> Sequence[Metric]:
        return self.job.load(self.device, self.job.references)

    def __call__(self, case: Case, file: Path) -> Path:
        """The part that holds the video's scores. What is wrong with a video or a clip's folder stands there as a reason."""
        digest = file_digest(file)
        own = case_digest(case)
        part = self.job.parts / f"{self.name(digest, own)}.parquet"
        if not part.exists():
            rows = [
                {"key": case.key, "metric": metric, "score": score, "reason": reason}
                for metric, (score, reason) in self._scores(case, own, file).items()
            ]
            with replacing(part) as path:
                pq.write_table(pa.Table.from_pylist(rows, SCHEMA), path)
        return part

    def name(self, video: str, case: str) -> str:
        """Of the part, by what decides what is in it."""
        told = "\n".join((self.job.identity, self.job.mode, self.job.references, str(self.job.frames), video, case))
        return hashlib.sha256(told.encode()).hexdigest()[:32]

    def _scores(self, case: Case, own: str, file: Path) -> dict[str, tuple[float | None, str]]:
        columns = [column for metric in self.metrics for column in metric.columns]
        try:
            video = videos.read(file, self.job.frames)
        except DataError as error:
            return dict.fromkeys(columns, (None, f"unreadable: {error.reason}"))
        found: dict[str, tuple[float | None, str]] = {}
        for metric in self.metrics:
            try:
                told: dict[str, Score] = metric.score(video, case, self._truth(metric, case, own))
            except BenchmarkError as error:
                told = dict.fromkeys(metric.columns, f"broken_clip: {error}")
            found |= {column: _settled(told[column]) for column in metric.columns}
        return found

    def _truth(self, metric: Metric, case: Case, own: str) -> Truth:
        kind = type(metric)
        models = sorted(store.hashes(metric.models).items())
        told = "\n".join((self.job.identity, kind.__module__, kind.__qualname__, *metric.columns, str(models), own))
        path = self.job.truth / f"{hashlib.sha256(told.encode()).hexdigest()[:32]}.npz"
        try:
            return load_arrays(path)
        except (OSError, ValueError, KeyError, EOFError):  # it is not there yet, or damaged
            found = {name: np.asarray(array) for name, array in metric.truth(case).items()}
            save_arrays(path, found)
            return found


def _settled(score: Score) -> tuple[float | None, str]:
    if isinstance(score, str):
        return None, score
    return (float(score), "") if math.isfinite(score) else (None, "not_a_number")


def save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """As npz; names may be anything, and so stand in an array of their own."""
    stored: dict[str, Any] = {f"array{number}": array for number, array in enumerate(arrays.values())}
    with replacing(path, durable=False) as temporary, temporary.open("wb") as file:
        np.savez(file, names=np.array(list(arrays), dtype=np.str_), **stored)


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Raises `ValueError`, `KeyError` or `OSError` for what is none of ours; nothing pickled is opened."""
    import zipfile

    try:
        with np.load(path, allow_pickle=False) as found:
            return {str(name): found[f"array{number}"] for number, name in enumerate(found["names"].tolist())}
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path}: {error}") from error


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def case_digest(case: Case) -> str:
    """Of all files in a clip's folder, by name."""
    files = sorted(path for path in case.folder.iterdir() if path.is_file())
    told = "\n".join(f"{path.name} {file_digest(path)}" for path in files)
    return hashlib.sha256(f"{case.key}\n{told}".encode()).hexdigest()
