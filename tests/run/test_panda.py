"""Real Panda-70M data in both of its forms, to the end: every planned clip in the ledger, none failed, the output sound."""

from __future__ import annotations

import pytest

from curation.inputs.panda70m import read_csv
from curation.run import run
from curation.shards.planned import open_plan
from curation.shards.verify import verify
from curation.storage import Storage
from tests.runs import rows

RECIPE = """
plan: [extract_entities]
clips:
  - split_shots: {detector: DETECTOR, on_boundary: split, min_seconds: 0.5}
  - sample_frames
units: {clips: 8}
limits: {max_failed: 0}
"""


def curated(folder, source):
    (folder / "r.yaml").write_text(RECIPE.replace("DETECTOR", "none"))
    assert run.run(str(folder / "r.yaml"), str(source), folder / "out", local=True) == 0
    return folder / "out"


@pytest.fixture(scope="module")
def csv(panda, tmp_path_factory):
    """The output of a run over the CSV and its long videos."""
    return curated(tmp_path_factory.mktemp("csv"), panda / "panda70m_mini.csv")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["csv", "download"])
def test_both_forms_run_to_the_end(panda, tmp_path, form, request):
    out = request.getfixturevalue("csv") if form == "csv" else curated(tmp_path, panda / "clips")
    found, plan = rows(out), open_plan(Storage.at(out))
    assert {r["clip"] for r in found} == {
        s.key for group in plan.groups for _, samples in plan.units(group.group) for s in samples
    }
    assert len(found) == (45 if form == "csv" else 60) and not [r for r in found if r["verdict"] == "failed"]
    assert list(verify(Storage.at(out))) == []


@pytest.mark.slow
def test_clips_of_a_long_source_have_the_planned_times(panda, csv):
    planned = {s.key: s.meta["source"] for s in read_csv(str(panda / "panda70m_mini.csv"), str(panda / "videos"))}
    kept = [r for r in rows(csv) if r["verdict"] == "kept"]
    assert len(kept) > 10
    for row in kept:
        assert row["start"] == pytest.approx(planned[row["clip"]]["start"], abs=1 / 60)
        assert row["end"] == pytest.approx(planned[row["clip"]]["end"], abs=1 / 60)
