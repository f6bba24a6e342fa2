"""`curation evaluate`: score made videos against a benchmark, and say what it comes to."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from curation import __version__, console
from curation.benchmark import folder, scores, summary, videos
from curation.benchmark.case import Case, Mode, References
from curation.benchmark.errors import BenchmarkError
from curation.benchmark.scoring import Job, Load, Scorer
from curation.fingerprint import libraries
from curation.inputs.files import as_utf8
from curation.storage import replacing
from curation.store import store

Profile = Literal["papers", "cpu", "open"]
SCORES, JSON, HTML = "scores.parquet", "summary.json", "summary.html"
MISSING, DIED = "missing", "worker_died"


def evaluate(
    made: str | Path,
    benchmark: str | Path,
    mode: Mode,
    *,
    references: References = "single",
    background: bool = False,
    profile: Profile = "papers",
    output: str | Path | None = None,
    frames: int | None = None,
    local: bool = False,
    address: str | None = None,
    load: Load | None = None,
) -> dict[str, Any]:
    """Score `made`/KEY.mp4 for each clip of the mode, as far as that is not done, and write `scores.parquet`, `summary.json` and
    `summary.html` into the output; gives what the JSON holds.

    `references` and `background`: what the videos were made from; it is told, and with all references copy-paste is undefined
    (a metric's own word).
    `frames`: only so many of each video count, as MP's `--num_frames`. `load`: metrics of one's own instead of the profile's.
    Raises `BenchmarkError` where there is no video.
    """
    made, benchmark = Path(made).absolute(), Path(benchmark).absolute()  # workers have folders of their own
    all_cases, broken = folder.read(benchmark)
    cases = folder.subset(all_cases, mode)
    found, others = videos.find(made, (case.key for case in cases))
    if not found:
        raise BenchmarkError(f"{made}: no file there is called after one of the {len(cases)} clips of {mode} mode, as KEY.mp4")
    target = Path(output or f"{made}-scores/{mode}-{references}{'-background' * background}").absolute()
    models = () if load else _models(profile)
    job = Job(
        load or functools.partial(_profile, profile, mode),
        _identity("own" if load else profile, models),
        target / "parts",
        _truth(benchmark, target),
        mode,
        references,
        frames,
    )
    items = [(case, found[case.key]) for case in cases if case.key in found]
    parts = _scored(job, items, local, address)
    rows = _rows(cases, parts, set(found))
    with replacing(target / SCORES) as path:
        pq.write_table(pa.Table.from_pylist(rows, scores.SCHEMA), path)
    unreadable = {row["key"]: row["reason"] for row in rows if str(row["reason"]).startswith("unreadable")}
    told = {
        "version": __version__,
        "videos": as_utf8(str(made)),
        "benchmark": as_utf8(str(benchmark)),
        "mode": mode,
        "references": references,
        "background": background,
        "profile": "own" if load else profile,
        "frames": frames,
        "clips": len(cases),
        "videos_found": len(found),
        "missing": [case.key for case in cases if case.key not in found],
        "unreadable": unreadable,
        "worker_died": sorted({row["key"] for row in rows if row["reason"] == DIED}),
        "broken_clips": broken,
        "other_files": others,
        "metrics": [asdict(column) for column in scores.columns(row for row in rows if row["reason"] != MISSING)],
        "interval": {"level": scores.LEVEL, "resamples": scores.RESAMPLES, "kind": "percentile bootstrap over videos"},
        "quoted": summary.quoted(mode) if profile == "papers" and not load else [],
        "models": store.hashes(models),
    }
    with replacing(target / JSON) as path:
        path.write_text(json.dumps(told, indent=1, ensure_ascii=False), encoding="utf-8")
    with replacing(target / HTML) as path:
        path.write_text(summary.page(told, rows), encoding="utf-8")
    console.say(summary.line(told, target / HTML))
    return told


def _profile(name: Profile, mode: Mode, device: str, references: References) -> Any:
    from curation.benchmark import profiles

    return profiles.profile(name, device, references, mode)


def _models(name: Profile) -> Sequence[str]:
    from curation.benchmark import profiles

    names = tuple(profiles.models(name))
    store.fetch(names, console.say)
    return names


def _identity(name: str, models: Sequence[str]) -> str:
    """What decides the numbers: the metrics' code, their models, the libraries."""
    own = sorted((*Path(__file__).parent.glob("metrics/*.py"), *Path(__file__).parent.glob("profiles.py")))
    code = hashlib.sha256(b"".join(path.read_bytes() for path in own)).hexdigest()
    return json.dumps([name, __version__, code, sorted(store.hashes(models).items()), libraries()])


def _truth(benchmark: str | Path, target: Path) -> Path:
    """Beside the clips' folder, for all who are measured by it; where nothing may be written, in the output."""
    beside = folder.top(benchmark).resolve().parent
    return beside / "truth" if os.access(beside, os.W_OK) else target / "truth"


def _scored(job: Job, items: Sequence[tuple[Case, Path]], local: bool, address: str | None) -> list[Path]:
    for place in (job.parts, job.truth):
        place.mkdir(parents=True, exist_ok=True)
    found = []
    with console.counting("evaluate", len(items)) as count:
        for part in _here(job, items) if local else _there(job, items, address):
            found += [part] if part else []
            count.add(1)
    return found


def _here(job: Job, items: Sequence[tuple[Case, Path]]) -> Iterator[Path | None]:
    from curation.models import device

    scorer = Scorer(job, device.pick(1.0))
    return (scorer(case, file) for case, file in items)


def _there(job: Job, items: Sequence[tuple[Case, Path]], address: str | None) -> Iterator[Path | None]:
    from curation.benchmark import on_ray

    return on_ray.score(job, items, address)


def _rows(cases: Sequence[Case], parts: Sequence[Path], found: set[str]) -> list[dict[str, Any]]:
    """Of every clip of the mode a row for each metric, in order of the keys; of a clip without a video, too."""
    own: dict[str, list[dict[str, Any]]] = {}
    for part in parts:
        for row in pq.read_table(part).to_pylist():
            own.setdefault(row["key"], []).append(row)
    metrics = list(dict.fromkeys(row["metric"] for rows in own.values() for row in rows))

    def none(case: Case) -> list[dict[str, Any]]:
        reason = DIED if case.key in found else MISSING
        return [{"key": case.key, "metric": metric, "score": None, "reason": reason} for metric in metrics]

    return [row for case in cases for row in own.get(case.key) or none(case)]
