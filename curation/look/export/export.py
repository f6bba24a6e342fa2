"""`curation export`: kept samples in the layouts of others."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from curation import __version__
from curation.columns import COLUMNS
from curation.inputs.files import InputError, is_url
from curation.look import decisions
from curation.look.export import diffsynth, energon, huggingface, msrvtt, opens2v, parquet
from curation.look.export.chosen import Chosen
from curation.storage import Storage, publish, temporary_name

FORMATS: dict[str, Callable[[Chosen, Path], dict[str, Any]]] = {
    "msrvtt": msrvtt.write,
    "opens2v": opens2v.write,
    "diffsynth": diffsynth.write,
    "energon": energon.write,
    "parquet": parquet.write,
    "huggingface": huggingface.write,
}
"""Each fills a folder, leaves out what it cannot say, and tells of itself."""
NOTE = "export.json"
"""What was exported, from where and how, beside the export."""


def export(out: str, format: str, output: str | Path, where: str | None = None, decided: bool = False) -> str:
    """Write the kept samples of a run into a folder that is not there yet or empty; whole, or not at all. Gives a line to show.

    `where`: of which this is true (SQL, as `inspect --where`); `decided`: less what `decisions.csv` drops. Raises `InputError`
    when nothing is to be exported, or when something stands in the way.
    """
    storage, target = Storage.at(out), _target(str(output))
    if storage.is_local and target.is_relative_to(Path(storage.root).resolve()):
        raise InputError(f"--output {target}: inside of the run; an export stands elsewhere")
    drop = decisions.dropped(storage) if decided else []
    chosen = Chosen(storage, where, drop, tuple(COLUMNS) if format == "parquet" else ())
    if not len(chosen):
        raise InputError(
            f"{storage.path()}: no kept clip " + ("is left by --where and the decisions" if where or decided else "there")
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(temporary_name(target.name))
    try:
        temporary.mkdir()
        facts = FORMATS[format](chosen, temporary)
        count = len(chosen) - chosen.left_out.total()
        if not count:
            raise InputError(f"{storage.path()}: nothing of it can be had as {format}: {_told(chosen)}")
        (temporary / NOTE).write_text(json.dumps(_note(chosen, format, where, count, facts), indent=1, ensure_ascii=False))
        os.sync()  # once, where a file at a time would take longer than the rest
        publish(temporary, target, durable=False)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return f"{target}: {count:,} samples as {format}" + (f"; left out: {_told(chosen)}" if chosen.left_out else "")


def _target(output: str) -> Path:
    if is_url(output):
        raise InputError(f"--output {output}: an export is written to a folder on a disk; copy it from there")
    target = Path(output).resolve()
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise InputError(f"--output {target}: is there already; take another name, or remove it")
    return target


def _note(chosen: Chosen, format: str, where: str | None, count: int, facts: dict[str, Any]) -> dict[str, Any]:
    recipe = chosen.made.get("recipe", {})
    return {
        "version": __version__,
        "run": chosen.storage.path(),
        "made_by": {name: recipe.get(name) for name in ("version", "models", "libraries")},
        "format": format,
        "where": where,
        "dropped_by_decision": chosen.dropped,
        "samples": count,
        "left_out": {why: {"count": n, "example": chosen.examples[why]} for why, n in chosen.left_out.most_common()},
        **facts,
    }


def _told(chosen: Chosen) -> str:
    return ", ".join(f"{n:,} {why} (as {chosen.examples[why]})" for why, n in chosen.left_out.most_common())
