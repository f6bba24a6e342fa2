"""`curation benchmark build`: raw videos → MSRVTT-Personalization's folders, by the same stages and engine as everything else."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from curation import __version__, console, ledger
from curation import recipe as recipes
from curation.benchmark import folder, held_out
from curation.benchmark.case import Case
from curation.benchmark.errors import BenchmarkError
from curation.inputs.files import is_url
from curation.look import decisions, ledgers
from curation.look.export import msrvtt
from curation.look.export.chosen import Chosen
from curation.run import run as runs
from curation.sample import KEPT
from curation.shards.planned import open_plan
from curation.storage import Storage, publish, replacing, temporary_name

RUN, CLIPS, NOTE = "run", "clips.csv", "benchmark.json"
STAGE = "benchmark"
"""Who a clip was left out by that the run has kept."""
COLUMNS = ("key", "video", "start", "end", "caption", "fate", "stage", "reason")
PerVideo = Literal["1", "all"]


def build(
    input_name: str,
    output: str | Path,
    *,
    videos: str | None = None,
    recipe: str = "auto",
    per_video: PerVideo = "1",
    train: Sequence[str] = (),
    limit: int | None = None,
    local: bool = False,
    address: str | None = None,
) -> int:
    """Run the recipe into OUTPUT/run, as far as it is not done, and write the clips that it keeps anew into
    OUTPUT/msrvtt_personalization_data; gives the run's exit status, and writes nothing unless that is 0.

    Left out are, in this order, clips that `decisions.csv` of the run drops (`dropped_by_decision`), whose source a run of
    `train` has seen (`in_training`), that the layout cannot say (`two_equal_words`, …), and with `per_video` "1" all but one of
    each video (`another_of_the_video`). `clips.csv` has every clip's fate. Raises `BenchmarkError` when no clip is left.
    """
    if is_url(str(output)):
        raise BenchmarkError(f"--output {output}: a benchmark is folders on a disk; copy it from there")
    target = Path(output)
    out = str(target / RUN)
    chosen = _recipe(recipe)
    held_out.seen({}, train)  # what is no run is said at once
    if status := runs.run(chosen, input_name, out, videos=videos, limit=limit, local=local, address=address):
        return status
    storage = Storage.at(out)
    rows = [row for table in ledgers.tables(storage, ledger.files(storage), ROW) for row in table.to_pylist()]
    fates = {row["key"]: (STAGE, "dropped_by_decision") for row in rows if row["key"] in set(decisions.dropped(storage))}
    fates |= dict.fromkeys(held_out.seen(_sources(rows, storage), train), (STAGE, "in_training")) if train else {}
    cases, fates = _write(storage, target, rows, fates, per_video)
    _tell(target, rows, fates)
    if not cases:
        why = Counter(reason for row in rows for reason in [fates.get(row["key"], ("", row["reason"]))[1]])
        raise BenchmarkError(f"{target}: no clip is left: {', '.join(f'{n} {reason}' for reason, n in why.most_common(5))}")
    sizes = {mode: len(folder.subset(cases, mode)) for mode in ("subject", "face")}  # type: ignore[arg-type]
    note = {
        "version": __version__,
        "recipe": chosen,
        "per_video": per_video,
        "train": list(train),
        "clips": len(cases),
        **sizes,
        "with_background": sum((case.folder / "background.jpg").exists() for case in cases),
    }
    with replacing(target / NOTE) as path:
        path.write_text(json.dumps(note, indent=1))
    console.say(
        f"{target}: {len(cases)} clips; subject mode {sizes['subject']}, face mode {sizes['face']}; why not others: {CLIPS}"
    )
    console.say(f"look at them: curation view {out}; what you drop there is left out by the same command")
    return 0


ROW = ("key", "clip", "video", "start", "end", "caption", "verdict", "stage", "reason", "source", "group", "unit")


def _recipe(name: str) -> str:
    """`auto`: the papers' models where `run auto` takes them."""
    if name != "auto":
        return name
    return "paper-benchmark" if recipes.find("auto").path.stem == "paper" else "benchmark"


def _sources(rows: Sequence[Mapping[str, Any]], storage: Storage) -> dict[str, held_out.Source]:
    """Of the kept clips."""
    plan = open_plan(storage)
    kept = [row for row in rows if row["verdict"] == KEPT]
    wanted = {row["clip"] for row in kept}
    units = (plan.units(group.group) for group in plan.groups) if plan else ()
    samples = (sample for some in units for _, found in some for sample in found)
    planned = {sample.key: sample.meta["source"] for sample in samples if sample.key in wanted}

    def source(row: Mapping[str, Any]) -> held_out.Source:
        told = planned.get(row["clip"], {})
        path = "" if told.get("member") else str(told.get("path") or "")
        return held_out.Source(row["video"], json.loads(row["source"]).get("url", ""), path)

    return {row["key"]: source(row) for row in kept}


class _Chosen(Chosen):
    """Remembers why each was left out, not only how many were."""

    def __init__(self, storage: Storage, drop: Sequence[str]):
        super().__init__(storage, None, drop)
        self.why: dict[str, str] = {}

    def _leave(self, key: str, why: str) -> None:
        super()._leave(key, why)
        self.why[key] = why


Fates = dict[str, tuple[str, str]]


def _write(
    storage: Storage, target: Path, rows: Sequence[Mapping[str, Any]], fates: Fates, per_video: PerVideo
) -> tuple[list[Case], Fates]:
    """Replace the clips' folder; the cases in it, and the fates of those that are not."""
    for left in target.glob(f".{msrvtt.FOLDER}.*.tmp"):
        shutil.rmtree(left, ignore_errors=True)
    temporary = target / temporary_name(msrvtt.FOLDER)
    try:
        (temporary / msrvtt.FOLDER).mkdir(parents=True)
        chosen = _Chosen(storage, list(fates))
        if len(chosen):
            msrvtt.write(chosen, temporary)
        fates = fates | {key: (STAGE, why) for key, why in chosen.why.items()}
        found, broken = _read(temporary)
        fates |= dict.fromkeys(broken, (STAGE, "not_in_the_layout"))
        kept = {row["key"]: row for row in rows if row["verdict"] == KEPT}
        best = _one_each(found, kept, decisions.read(storage)) if per_video == "1" else {case.key for case in found}
        fates |= {case.key: (STAGE, "another_of_the_video") for case in found if case.key not in best}
        for place in (temporary / msrvtt.FOLDER).iterdir():
            if place.name not in best:
                shutil.rmtree(place)
        final = target / msrvtt.FOLDER
        if final.exists():
            final.rename(target / temporary_name(msrvtt.FOLDER))
        os.sync()
        publish(temporary / msrvtt.FOLDER, final, durable=False)
        return (_read(target)[0] if best else []), fates
    finally:
        for left in target.glob(f".{msrvtt.FOLDER}.*.tmp"):
            shutil.rmtree(left, ignore_errors=True)


def _read(place: Path) -> tuple[list[Case], dict[str, str]]:
    with suppress(BenchmarkError):
        return folder.read(place)
    return [], {}


def _one_each(cases: Sequence[Case], rows: Mapping[str, Mapping[str, Any]], said: Mapping[str, Any]) -> set[str]:
    """Of each video the key of one clip: one that a person keeps (`curation view`), else one that is for subject mode, for face
    mode, whose words have most pictures, the longest, the first. Not stated by the paper."""

    def rank(case: Case) -> tuple[Any, ...]:
        row = rows[case.key]
        pictures = sum(len(files) for files in (*case.cutouts.values(), *case.face_files.values()))
        length = (row["end"] or 0.0) - (row["start"] or 0.0)
        is_said = case.key in said and said[case.key].decision == decisions.KEEP
        is_lone = len(case.subjects) == 1
        return not is_said, not is_lone, len(case.with_face) != 1, -pictures, -round(length, 3), row["start"] or 0.0, case.key

    best: dict[str, Case] = {}
    for case in sorted(cases, key=rank):
        best.setdefault(rows[case.key]["video"], case)
    return {case.key for case in best.values()}


def _tell(target: Path, rows: Sequence[Mapping[str, Any]], fates: Fates) -> None:
    """`clips.csv`."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for row in sorted(rows, key=lambda row: (row["group"], row["unit"], row["video"], row["start"] or 0.0, row["key"])):
        stage, reason = fates.get(row["key"], ("", "")) if row["verdict"] == KEPT else (row["stage"], row["reason"])
        fate = "rejected" if stage == STAGE else row["verdict"]
        table.writerow([*(row[name] for name in COLUMNS[:5]), fate, stage, reason])
    with replacing(target / CLIPS) as path:
        path.write_text(text.getvalue(), encoding="utf-8")
