from __future__ import annotations

import pickle
import tracemalloc

import pyarrow.parquet as pq
import pytest

from curation.faults import DataError
from curation.inputs.rows import planned
from curation.ledger import Unit
from curation.recipe import Recipe, Units
from curation.run import plan as plans
from curation.sample import Sample
from curation.shards.planned import SCHEMA, Group, Plan, info_of, open_plan, part, row_of, sample_of
from curation.storage import Storage


def clips(count: int) -> list[Sample]:
    return [planned(f"k{i:06d}", f"A man, {i}.", path=f"/v{i}.mp4", start=0.0, end=2.0) for i in range(count)]


@pytest.fixture
def plan(tmp_path) -> Plan:
    """Row groups of about sixteen rows, so that units lie in several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plans, "PART", 100)
        patch.setattr(plans, "ROWS", 16)
        return plans.make_plan(Recipe(units=Units(clips=5)), clips(230), Storage.at(tmp_path), {"input": "x"})


def test_units_come_in_order_and_each_can_be_had_alone(plan):
    found = {unit: samples for group in plan.groups for unit, samples in plan.units(group.group)}
    assert list(found) == [Unit(g.group, n) for g in plan.groups for n in range(g.units)] == sorted(found)
    assert [s for samples in found.values() for s in samples] == clips(230)
    assert all(plan.unit(unit) == samples for unit, samples in found.items())
    assert plan.groups == [Group(0, 20, 100), Group(1, 20, 100), Group(2, 6, 30)] and plan.clips == 230


def test_a_unit_never_ends_with_a_row_group(plan):
    with plan.storage.open(part(0)) as file:
        table = pq.ParquetFile(file)
        units = [set(table.read_row_group(i)["unit"].to_pylist()) for i in range(table.num_row_groups)]
    assert len(units) > 3 and not any(a & b for a, b in zip(units, units[1:], strict=False))


def test_a_part_is_streamed(tmp_path, monkeypatch):
    """The first unit of many comes without the others; none is held after it was given."""
    monkeypatch.setattr(plans, "ROWS", 256)
    rows = [planned(f"k{i}", f"{i:05d} " * 1000, path="/v.mp4") for i in range(5000)]
    plan = plans.make_plan(Recipe(units=Units(clips=4)), rows, Storage.at(tmp_path), {})
    tracemalloc.start()
    try:
        for _ in plan.units(0):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20e6, "of 30 MB of captions in the plan"


def test_a_row_holds_all_of_a_planned_clip():
    samples = [
        planned(
            "a",
            "A \ud83d cat — \x00.",
            path="/a.tar",
            member="a.mp4",
            offset=5,
            size=6,
            shots=[[0.0, 1.0]],
            scores={"x": {"y": 1}},
        ),
        planned("b", None, error=DataError("bad_row", "row 7: odd")),
    ]
    samples[0].meta["extract_entities"] = {"entities": [{"word": "cat", "span": [4, 7]}]}
    rows = [row_of(3, sample) for sample in samples]
    assert [sample_of(row) for row in rows] == samples and all(row.keys() == set(SCHEMA.names) for row in rows)


def test_what_is_not_complete_is_no_plan(tmp_path):
    storage = Storage.at(tmp_path)
    assert open_plan(storage) is None and info_of(storage) is None
    storage.write("plan/plan.json", '{"made_from": {}, "complete": false}')
    assert open_plan(storage) is None and info_of(storage) == {"made_from": {}, "complete": False}


def test_a_plan_travels(plan):
    assert pickle.loads(pickle.dumps(plan)).unit(Unit(2, 5)) == plan.unit(Unit(2, 5))
