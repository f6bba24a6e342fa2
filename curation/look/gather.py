"""What a report says of a run's rows, gathered in one pass over the ledgers; memory does not grow with the rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.columns import COLUMNS
from curation.look.bounds import Bound
from curation.sample import FAILED, KEPT, REJECTED

STEPS = {"duration": 0.01, "sharpness": 0.01, "smallest_side": 1.0, "brightness": 0.05, "face_distance": 0.0002}
"""How finely a value is counted; shares are counted by 0.0001, as stages round them, so that counts at a bound are exact."""
SHARE = 1e-4
CELLS = 10_001
DRAWN = (
    *("desirable", "residual_motion", "static_border", "text_share", "boundary", "duration", "smallest_mask", "mean_mask"),
    *("face_share", "smallest_side", "truncation", "covered", "sharpness", "likeness", "face_distance"),
    *("brightness", "overlaid", "clipped", "mask_score", "background_coverage", "background_invented"),
)
"""Columns that are drawn as histograms."""
SUMMED = (
    *("subjects", "objects", "backgrounds", "subjects_found", "objects_found"),
    *("found1", "found2", "found3", "refs", "refused", "persons", "faces"),
)
NEEDED = (
    *("key", "verdict", "stage", "reason", "detail", "width", "height", "fps", "subject_words", "object_words"),
    *("background_method", "background_reason", "quality"),
    *DRAWN,
    *SUMMED,
)
BARS = 40
TAIL = 0.001
"""Share of the values that may lie beyond a histogram's end; its last bar has them."""
FACTORS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
"""Of a bound: what would be if it were so."""
WORDS = 200
MOST = 200_000
"""Distinct words that are counted at once; beyond that the rare half is let go."""


@dataclass
class Histogram:
    """Counts of one column: of kept rows, of those that the bounds' stages rejected, of the others."""

    step: float
    cells: np.ndarray = field(default_factory=lambda: np.zeros((3, CELLS), np.int64))
    total: float = 0.0

    def add(self, values: np.ndarray, series: np.ndarray) -> None:
        there = ~np.isnan(values)
        values, series = values[there], series[there]
        self.total += float(values.sum())
        places = np.clip(np.rint(values / self.step), 0, CELLS - 1).astype(np.int64) + series * CELLS
        self.cells += np.bincount(places, minlength=3 * CELLS).reshape(3, CELLS)

    def as_dict(self, bounds: Sequence[Bound]) -> dict[str, Any]:
        """Bars from 0 on, equally wide, and what would be at other bounds."""
        count = int(self.cells.sum())
        below = self.cells.sum(axis=0).cumsum()
        last = int(np.searchsorted(below, (1 - TAIL) * count))
        per = _nice(max(last + 1, *(math.ceil(b.value / self.step) + 1 for b in bounds), 1) / BARS)
        bars = min(BARS, -(-CELLS // per), max(1, -(-(last + 1) // per), *(int(b.value / self.step / per) + 2 for b in bounds)))
        shown = np.zeros((3, bars), np.int64)
        for i in range(bars):
            shown[:, i] = self.cells[:, i * per : (i + 1) * per if i < bars - 1 else CELLS].sum(axis=1)
        return {
            "count": count,
            "mean": round(self.total / count, 4) if count else None,
            "median": round(int(np.searchsorted(below, count / 2)) * self.step, 4) if count else None,
            "width": round(per * self.step, 6),
            "beyond": int(self.cells[:, bars * per + 1 :].sum()),
            "kept": shown[0].tolist(),
            "rejected_here": shown[1].tolist(),
            "other": shown[2].tolist(),
            "bounds": [self._bound(bound) for bound in bounds],
        }

    def _bound(self, bound: Bound) -> dict[str, Any]:
        top = 1.0 if self.step == SHARE else math.inf
        values = sorted({round(min(top, bound.value * factor), 4) for factor in FACTORS} | {bound.value})
        return {"stage": bound.stage, "knob": bound.knob, "kind": bound.kind, "value": bound.value} | {
            "what_if": [{"value": value, **self._at(bound.kind, value)} for value in values]
        }

    def _at(self, kind: str, value: float) -> dict[str, int]:
        cell = min(CELLS, round(value / self.step))
        passing = self.cells[:, cell:] if kind == "least" else self.cells[:, : cell + 1]
        kept, here, _ = (int(row.sum()) for row in passing)
        return {"kept": kept, "rejected_here": here}


def _nice(least: float) -> int:
    """The first of 1, 2, 5, 10, 20, … that is no less."""
    scale = 10 ** max(0, math.floor(math.log10(max(least, 1))))
    return next(int(n * scale) for n in (1, 2, 5, 10) if n * scale >= least)


class Gathered:
    """`bounds`: column → what the recipe asks of it."""

    def __init__(self, bounds: Mapping[str, Sequence[Bound]]):
        self.bounds = bounds
        self.histograms = {name: Histogram(STEPS.get(name, SHARE)) for name in DRAWN}
        self.sums: Counter[str] = Counter()
        self.words: dict[str, Counter[str]] = {"subject": Counter(), "object": Counter()}
        self.counts: dict[str, Counter[str]] = {name: Counter() for name in ("sizes", "fps", "methods", "reasons", "quality")}
        self.failures: dict[tuple[str, str], dict[str, Any]] = {}
        self.rows = 0

    def add(self, table: pa.Table) -> None:
        """Count rows, with the columns `NEEDED`."""
        self.rows += len(table)
        verdict = table["verdict"]
        is_kept = pc.equal(verdict, KEPT)
        for name, histogram in self.histograms.items():
            stages = pa.array([bound.stage for bound in self.bounds.get(name, ())], pa.string())
            here = pc.and_(pc.equal(verdict, REJECTED), pc.is_in(table["stage"], value_set=stages))
            series = np.where(is_kept.to_numpy(), 0, np.where(here.to_numpy(), 1, 2))
            histogram.add(table[name].cast(pa.float64()).to_numpy(), series)
        kept = table.filter(is_kept)
        self.sums.update({name: pc.sum(kept[name]).as_py() or 0 for name in SUMMED})
        self.sums["with_face"] += pc.sum(pc.greater(kept["faces"], 0)).as_py() or 0
        for kind, counter in self.words.items():
            _count(counter, pc.list_flatten(kept[f"{kind}_words"]))
            if len(counter) > MOST:
                self.words[kind] = Counter(dict(counter.most_common(MOST // 2)))
        sizes = pc.binary_join_element_wise(kept["width"].cast(pa.string()), kept["height"].cast(pa.string()), "×")
        _count(self.counts["sizes"], sizes)
        _count(self.counts["fps"], pc.round(kept["fps"].cast(pa.float64()), 2))
        _count(self.counts["methods"], kept["background_method"])
        _count(self.counts["reasons"], kept["background_reason"])
        _count(self.counts["quality"], table["quality"])
        self._fail(table.filter(pc.equal(verdict, FAILED)))

    def _fail(self, failed: pa.Table) -> None:
        wanted = [([], "count_all"), ("key", "first"), ("detail", "first")]
        for row in failed.group_by(["stage", "reason"], use_threads=False).aggregate(wanted).to_pylist():
            new = {"count": 0, "key": row["key_first"], "detail": row["detail_first"]}
            self.failures.setdefault((row["stage"], row["reason"]), new)["count"] += row["count_all"]

    def as_dict(self) -> dict[str, Any]:
        failures = [{"stage": stage, "reason": reason, **facts} for (stage, reason), facts in self.failures.items()]
        drawn = {name: histogram.as_dict(self.bounds.get(name, ())) for name, histogram in self.histograms.items()}
        return {
            "rows": self.rows,
            "scores": {name: {"says": COLUMNS[name].says, **found} for name, found in drawn.items() if found["count"]},
            "words": {kind: _most(counter, WORDS) for kind, counter in self.words.items()},
            "entities": dict(self.sums),
            **{name: _most(counter, 20) for name, counter in self.counts.items()},
            "failures": sorted(failures, key=lambda fact: -fact["count"]),
        }


def _count(counter: Counter[str], values: pa.ChunkedArray) -> None:
    for found in pc.value_counts(values.drop_null()).to_pylist():
        counter[str(found["values"])] += found["counts"]


def _most(counter: Counter[str], count: int) -> list[list[Any]]:
    """The most frequent, of equal ones the first by name."""
    return [[name, found] for name, found in sorted(counter.items(), key=lambda item: (-item[1], item[0]))[:count]]
