"""From scores of videos to rows of a table: means, intervals, ties, cells as the papers print them."""

from __future__ import annotations

import csv
import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa

from curation.benchmark.errors import BenchmarkError

SCHEMA = pa.schema([("key", pa.string()), ("metric", pa.string()), ("score", pa.float64()), ("reason", pa.string())])
"""`scores.parquet`, one row a video and metric. `score` is null where there is none, and `reason` says why, else it is ""."""
RESAMPLES = 2000
"""Of the bootstrap: an end of an interval moves by about a thirtieth of its width if they are others."""
LEVEL = 0.95
DIGITS = 3
"""The papers'."""


@dataclass(frozen=True)
class Column:
    """One metric over all videos. `mean` and the interval's ends are None where no video has a score, the ends also where only
    one has; `zeros`: of the scores, those that are exactly 0, as misses are; `undefined`: reason → videos."""

    metric: str
    mean: float | None
    low: float | None
    high: float | None
    count: int
    zeros: int
    undefined: Mapping[str, int]


def columns(rows: Iterable[Mapping[str, object]]) -> list[Column]:
    """Rows of `SCHEMA` → a column of each metric, in the order in which they come."""
    found: dict[str, dict[str, float]] = {}
    reasons: dict[str, Counter[str]] = {}
    for row in rows:
        metric, key, score = str(row["metric"]), str(row["key"]), row["score"]
        scores, why = found.setdefault(metric, {}), reasons.setdefault(metric, Counter())
        if score is None:
            why[str(row["reason"]).partition(":")[0]] += 1
        elif key in scores:
            raise BenchmarkError(f"{metric} of {key} stands twice in the scores")
        else:
            scores[key] = float(score)  # type: ignore[arg-type]
    return [column(metric, scores, reasons[metric]) for metric, scores in found.items()]


def column(metric: str, scores: Mapping[str, float], undefined: Mapping[str, int] | None = None) -> Column:
    low, high = interval(scores) if len(scores) > 1 else (None, None)
    mean = math.fsum(scores.values()) / len(scores) if scores else None
    return Column(metric, mean, low, high, len(scores), sum(s == 0 for s in scores.values()), dict(undefined or {}))


def interval(scores: Mapping[str, float], level: float = LEVEL) -> tuple[float, float]:
    """Percentile bootstrap of the mean over videos. The draws follow from the keys alone, so the same videos give the same
    interval in any order, and of two methods on the same videos the same are drawn."""
    keys = sorted(scores)
    values = np.array([scores[key] for key in keys])
    seed = int.from_bytes(hashlib.sha256("\n".join(keys).encode()).digest()[:8], "big")
    generator = np.random.default_rng(seed)
    means = np.array([values[generator.integers(len(keys), size=len(keys))].mean() for _ in range(RESAMPLES)])
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def rounded(value: float, digits: int = DIGITS) -> Decimal:
    """Half away from zero, as papers round; what sums leave behind the twelfth digit decides nothing."""
    return Decimal(repr(round(value, 12))).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)


def cell(value: float | None, digits: int = DIGITS) -> str:
    """`.617`, `1.000`, `–` where there is none."""
    if value is None:
        return "–"
    text = f"{rounded(value, digits):f}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def best(values: Sequence[float | None], digits: int = DIGITS) -> list[bool]:
    """Which of a column are the highest as printed: several when they tie, none when there is no other to compare with."""
    shown = [None if value is None else rounded(value, digits) for value in values]
    there = [value for value in shown if value is not None]
    return [value is not None and len(there) > 1 and value == max(there) for value in shown]


def read_csv(path: Path) -> dict[str, list[dict[str, object]]]:
    """Scores of several methods, columns `method`, `key`, `metric`, `score`, `reason`: method → rows as in `SCHEMA`. Raises
    `BenchmarkError`."""
    needed = ("method", "key", "metric", "score")
    with path.open(encoding="utf-8", newline="") as file:
        table = csv.DictReader(file)
        if missing := [name for name in needed if name not in (table.fieldnames or ())]:
            raise BenchmarkError(f"{path}: its first line must name {', '.join(missing)}")
        found: dict[str, list[dict[str, object]]] = {}
        for row in table:
            try:
                score = float(row["score"]) if row["score"] else None
            except ValueError as error:
                raise BenchmarkError(f"{path}, line {table.line_num}: {row['score']!r} is no score") from error
            if score is not None and not math.isfinite(score):
                raise BenchmarkError(f"{path}, line {table.line_num}: {row['score']!r} is no score")
            kept = {"key": row["key"], "metric": row["metric"], "score": score, "reason": row.get("reason") or ""}
            found.setdefault(row["method"], []).append(kept)
    return found


def table(methods: Mapping[str, Sequence[Column]], digits: int = DIGITS) -> list[list[str]]:
    """A header and a row for each method; the best of a column has `*`, all of them where they tie."""
    metrics = list(dict.fromkeys(column.metric for found in methods.values() for column in found))
    means = {name: {column.metric: column.mean for column in found} for name, found in methods.items()}
    marks = {metric: best([means[name].get(metric) for name in methods], digits) for metric in metrics}
    lines = [["", *metrics]]
    for number, name in enumerate(methods):
        cells = [cell(means[name].get(metric), digits) + "*" * marks[metric][number] for metric in metrics]
        lines.append([name, *cells])
    return lines
