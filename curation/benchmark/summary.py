"""What an evaluation comes to: the papers' own rows beside it, a page that needs no network, and a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from curation.benchmark.case import Mode
from curation.benchmark.scores import best, cell
from curation.look.pages import templates

ROWS = Path(__file__).with_name("rows.yaml")
SHOWN = 200
"""Videos whose scores stand on the page one by one."""


def quoted(mode: Mode) -> list[dict[str, Any]]:
    """The papers' tables of a mode, as `rows.yaml` has them, each with the clips that they are of."""
    told = yaml.safe_load(ROWS.read_text(encoding="utf-8"))
    return [table | {"clips": told["clips"][mode]} for table in told["tables"] if table["mode"] == mode]


def name(metric: str) -> str:
    """`subj_s` and `Subj-S` are one."""
    return metric.lower().replace("-", "_")


def page(told: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """All that comes from strangers is escaped; it asks nothing of a network, and a policy says so."""
    environment = templates("curation.benchmark")
    environment.filters["cell"] = cell
    template = environment.get_template("summary.html.j2")
    return template.render(told=told, tables=[_beside(told, table) for table in told["quoted"]], videos=_videos(told, rows))


def _beside(told: Mapping[str, Any], table: Mapping[str, Any]) -> dict[str, Any]:
    """A quoted table with our row below, and which cells are the best of their column as printed; digits as it prints them. Ours
    is compared where it is of as many clips."""
    means = {name(column["metric"]): column["mean"] for column in told["metrics"]}
    own = [means.get(name(column)) for column in table["columns"]]
    lines = [_line(row["method"], row.get("references"), row.get("background"), row["scores"], True) for row in table["rows"]]
    if not table.get("other_metrics"):
        lines.append(_line(told["videos"], told["references"], told["background"], own, False))
    digits = max(len(str(score).partition(".")[2]) for row in table["rows"] for score in row["scores"] if score is not None)
    is_of_them = told["clips"] == table["clips"]
    compared = [line["scores"] if line["is_quoted"] or is_of_them else [None] * len(own) for line in lines]
    marks = [best([scores[place] for scores in compared], digits) for place in range(len(table["columns"]))]
    for number, line in enumerate(lines):
        line["cells"] = [(cell(score, digits), marks[place][number]) for place, score in enumerate(line["scores"])]
    return {**table, "lines": lines, "is_of_them": is_of_them}


def _line(method: str, references: str | None, background: bool | None, scores: Sequence[float | None], is_quoted: bool) -> Any:
    given = " + ".join([*([references] if references else []), *(["background"] if background else [])])
    return {"method": method, "given": given, "scores": list(scores), "is_quoted": is_quoted}


def _videos(told: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Key and a cell for each metric, of the first videos."""
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        found.setdefault(row["key"], {})[row["metric"]] = row["reason"] or cell(row["score"])
    metrics = [column["metric"] for column in told["metrics"]]
    return [(key, [own.get(metric, "") for metric in metrics]) for key, own in list(found.items())[:SHOWN]]


def line(told: Mapping[str, Any], html: Path) -> str:
    """For a terminal."""
    means = ", ".join(f"{c['metric']} {cell(c['mean'])}" + _range(c) + f" of {c['count']}" for c in told["metrics"])
    wrong = [("missing", told["missing"]), ("unreadable", told["unreadable"]), ("left without scores", told["worker_died"])]
    wrong += [("broken clips", told["broken_clips"])]
    counts = "".join(f"; {len(found)} {what}, as {next(iter(found))}" for what, found in wrong if found)
    return f"{told['videos_found']} of {told['clips']} videos: {means}{counts}\n{html}"


def _range(column: Mapping[str, Any]) -> str:
    return "" if column["low"] is None else f" [{cell(column['low'])}, {cell(column['high'])}]"
