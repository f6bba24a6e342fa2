from __future__ import annotations

import pyarrow.compute as pc
import pytest

from curation import ledger
from curation.ledger import Unit
from tests.shards import made
from tests.shards.made import rejected, sample


def test_a_unit_says_its_name_and_is_found_by_it():
    unit = Unit(3, 17)
    assert (unit.name, unit.ledger, unit.tar) == ("00003-000017", "units/00003/000017.parquet", "units/00003/000017.tar")
    assert Unit.of(unit.name) == unit and Unit.of(Unit(123456, 12345678).name) == Unit(123456, 12345678)
    assert ledger.group_of(unit.ledger) == 3 == ledger.group_of(f"shards/{ledger.shard(3, 2)}.parquet")


def test_the_newest_shard_also_past_ten_thousand():
    names = [f"{ledger.shard(1, n)}.parquet" for n in (9999, 10_000, 2)] + [f"{ledger.shard(0, 0)}.tar"]
    assert ledger.newest(made.Storage("/nowhere"), names) == {1: "shard-00001-10000"}


def test_the_files_of_a_run_are_those_of_shards_and_of_units_behind_them(tmp_path):
    storage = made.run(tmp_path, [[sample("a")], [rejected("b")]], megabytes=0.001)
    made.write(storage, 1, [rejected("b")])  # a late worker: unit 1 is packed
    made.write(storage, 7, [sample("c")], group=2)
    assert list(ledger.files(storage)) == [
        "shards/shard-00000-0000.parquet",
        "shards/shard-00000-0001.parquet",
        "units/00002/000007.parquet",
    ]
    assert [(r["shard"], r["key"]) for r in ledger.rows(storage)] == [
        ("shard-00000-0000", "a"),
        ("shard-00000-0001", "b"),
        ("", "c"),
    ]


def test_rows_by_column_and_filter(tmp_path):
    storage = made.run(tmp_path, [[sample("a"), rejected("b")], [sample("c")]])
    assert list(ledger.rows(storage, ["key"], pc.field("verdict") == "kept")) == [{"key": "a"}, {"key": "c"}]
    assert list(ledger.rows(storage, ["key"], names=[])) == []


def test_a_sample_is_read_before_and_after_packing(tmp_path):
    storage = made.Storage.at(tmp_path)
    made.write(storage, 0, [sample("a"), sample("b")])
    before = [ledger.read_sample(storage, row) for row in ledger.rows(storage)]
    packed = made.run(tmp_path / "packed", [[sample("x")], [sample("a"), sample("b")]], megabytes=1)
    assert [ledger.read_sample(packed, row) for row in ledger.rows(packed)][1:] == before
    assert [name for name, _ in before[1]] == ["b.mp4", "b.json", "b.frame0.jpg"]


def test_json_that_no_reader_would_take_is_refused():
    for value in (float("nan"), float("inf"), object()):
        with pytest.raises((ValueError, TypeError)):
            ledger.compact({"score": value})
