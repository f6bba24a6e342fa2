from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from curation.benchmark import build as building
from curation.benchmark import folder
from curation.benchmark.errors import BenchmarkError
from curation.look import decisions
from curation.look.export.export import export
from curation.storage import Storage

SAYS = {"carphone_pristine_00000", "carphone_pristine_00001"}
"""Two clips of one video that the run over the sample clips keeps, beside one of another."""


@pytest.fixture
def target(sample_run: Path, tmp_path: Path) -> Path:
    """A benchmark whose run is done: what is left is to choose."""
    shutil.copytree(sample_run, tmp_path / "bench" / "run")
    return tmp_path / "bench"


def build(target: Path, per_video: str = "all", **how: Any) -> list[str]:
    """The keys that are in it."""
    assert building.build("sample", target, recipe="embedded", local=True, per_video=per_video, **how) == 0  # type: ignore[arg-type]
    return [case.key for case in folder.cases(target)]


def fates(target: Path) -> dict[str, tuple[str, str, str]]:
    with (target / "clips.csv").open(newline="") as file:
        return {row["key"]: (row["fate"], row["stage"], row["reason"]) for row in csv.DictReader(file)}


def content(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file()}


def test_it_is_what_export_writes(target, tmp_path):
    keys = build(target)
    assert len(keys) == 3 and set(keys) > SAYS
    export(str(target / "run"), "msrvtt", tmp_path / "exported")
    name = "msrvtt_personalization_data"
    assert content(target / name) == content(tmp_path / "exported" / name)
    before = content(target)
    assert build(target) == keys and content(target).keys() == before.keys()
    assert {n: d for n, d in content(target).items() if not n.startswith("run/")} == {
        n: d for n, d in before.items() if not n.startswith("run/")
    }
    note = json.loads((target / "benchmark.json").read_text())
    assert (note["clips"], note["subject"], note["face"]) == (3, 3, 2)


def test_every_clip_has_its_fate(target):
    build(target)
    found = fates(target)
    counted = Counter(fate for fate, _, _ in found.values())
    assert counted == {"kept": 3, "rejected": 11, "failed": 1}
    assert found["carphone_pristine_00002"] == ("rejected", "inputs", "no_caption")
    assert all(reason and stage for fate, stage, reason in found.values() if fate != "kept")


def test_one_clip_of_each_video(target):
    """The carphone man has as many pictures in both of his clips, and they are as long: the first."""
    keys = build(target, "1")
    assert len(keys) == 2 and len(SAYS & set(keys)) == 1
    (left,) = SAYS - set(keys)
    assert fates(target)[left] == ("rejected", "benchmark", "another_of_the_video")
    decisions.add(Storage.at(target / "run"), left, decisions.KEEP)
    assert left in build(target, "1"), "a person's word goes before the rule"


def test_decisions_of_the_viewer_are_obeyed(target):
    dropped = "carphone_pristine_00000"
    decisions.add(Storage.at(target / "run"), dropped, decisions.DROP)
    assert dropped not in build(target) and not (target / "msrvtt_personalization_data" / dropped).exists()
    assert fates(target)[dropped] == ("rejected", "benchmark", "dropped_by_decision")
    decisions.add(Storage.at(target / "run"), dropped, decisions.NONE)
    assert dropped in build(target)


def test_sources_of_training_are_refused(target, sample_run):
    with pytest.raises(BenchmarkError, match="no clip is left: .*in_training"):
        build(target, train=[str(sample_run)])
    assert {fates(target)[key] for key in SAYS} == {("rejected", "benchmark", "in_training")}
    with pytest.raises(BenchmarkError, match="no clip's folder"):
        folder.cases(target)


def test_what_stood_there_is_replaced_and_leftovers_are_swept(target):
    data = target / "msrvtt_personalization_data"
    (data / "old").mkdir(parents=True)
    (target / f".{data.name}.0123456789abcdef.tmp" / data.name).mkdir(parents=True)
    assert "old" not in build(target) and not (data / "old").exists()
    assert not [path.name for path in target.iterdir() if path.name.startswith(".")]


def test_an_output_must_be_on_a_disk():
    with pytest.raises(BenchmarkError, match="folders on a disk"):
        building.build("sample", "s3://bucket/x", recipe="embedded", local=True)
