"""Every kind of damage to a run that verify promises to find, done to a small one."""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray.cloudpickle

from curation import ledger
from curation.ledger import Unit
from curation.media.members import to_jpeg
from curation.run.check import OnCluster
from curation.run.engine import EngineError
from curation.sample import Sample
from curation.shards import tally
from curation.shards import verify as verifying
from curation.shards.planned import SCHEMA
from curation.shards.verify import verify
from curation.storage import Storage
from tests import videos
from tests.shards import made
from tests.shards.made import failed, rejected, sample


@cache
def video() -> bytes:
    return videos.numbered(8, rate=25)


def clip(key: str, clip: str | None = None, **meta: Any) -> Sample:
    """A kept one whose members decode and are what its metadata says."""
    one = sample(key, clip=clip, **meta)
    one.meta["split_shots"] |= {"width": 208, "height": 112, "frames": 8}
    one.files = {"mp4": video(), "frame0.jpg": to_jpeg(videos.picture(0), 95)}
    return one


def plan(storage: Storage, groups: Sequence[Sequence[Sequence[str]]], attempts: Sequence[int] = (0, 0, 0)) -> None:
    """A finished plan of groups of units of keys; and the notes of a run."""
    infos = []
    for group, units in enumerate(groups):
        rows = [planned(number, key) for number, keys in enumerate(units) for key in keys]
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), buffer)
        storage.write(f"plan/part-{group:05d}.parquet", buffer.getvalue())
        infos.append({"group": group, "units": len(units), "clips": len(rows), "attempt": attempts[group]})
    storage.write("plan/plan.json", json.dumps({"complete": True, "clips": sum(i["clips"] for i in infos), "groups": infos}))
    storage.write("run.json", json.dumps({"recipe": made.RECIPE}))


def planned(unit: int, key: str) -> dict[str, Any]:
    source = json.dumps({"clip": key, "url": "https://x/v", "path": None})
    verdict = {"verdict": "kept", "stage": "", "reason": "", "detail": ""}
    return {
        "unit": unit,
        "key": key,
        "video": "v",
        "start": 1.0,
        "end": 3.0,
        "caption": "c",
        **verdict,
        "source": source,
        "meta": "{}",
    }


@pytest.fixture
def run(tmp_path) -> Storage:
    """Group 0: two shards of two units each; group 1: a shard that keeps nothing, and a unit that is not packed."""
    aesthetic = clip("b", score_aesthetic={"score": 0.5})
    aesthetic.files["thumb.jpg"] = to_jpeg(np.zeros((8, 8, 3), np.uint8), 95)
    shots = [clip("c_s000", clip="c"), rejected("c_s001", clip="c")]
    made.run(tmp_path, [[clip("a"), rejected("r")], [aesthetic], shots, [clip("d"), failed("f")]], megabytes=0.008)
    storage = made.run(tmp_path, [[rejected("g")]], group=1)
    made.write(storage, 1, [clip("h")], group=1)
    plan(storage, [[["a", "r"], ["b"], ["c"], ["d", "f"]], [["g"], ["h"]]])
    return storage


def test_a_sound_run_with_a_stage_nobody_has_heard_of(run):
    assert list(run.names("shards")) == [
        f"shard-0000{g}-000{n}.{e}"
        for g, n, e in [(0, 0, "parquet"), (0, 0, "tar"), (0, 1, "parquet"), (0, 1, "tar"), (1, 0, "parquet")]
    ]
    seen: list[int] = []
    assert list(verify(run, seen.append, workers=1)) == []
    assert sum(seen) == 9


def test_ledgers_of_before_there_were_columns_are_sound(run):
    for name in ledger.files(run):
        made.age(run, name)
    assert list(verify(run, workers=1)) == []


def test_over_all_cores_it_finds_the_same(run):
    run.remove("shards/shard-00000-0001.tar")
    alone = list(verify(run, workers=1))
    assert len(alone) == 1 and list(verify(run, workers=2)) == alone


SECOND = "shards/shard-00000-0001"


def rewrite(storage: Storage, change, name: str = SECOND) -> None:
    """A shard's ledger, edited."""
    table, facts = ledger.read(storage, f"{name}.parquet")
    rows = table.to_pylist()
    change(rows)
    storage.write(f"{name}.parquet", ledger.encoded(pa.Table.from_pylist(rows, schema=ledger.SCHEMA), **facts))


DROPPED = {"verdict": "rejected", "stage": "x", "reason": "y"}


@pytest.mark.parametrize(
    "change, complaint",
    [
        (lambda rows: rows.pop(), "shard-00000-0001: clip f is planned but in no ledger row"),
        (lambda rows: rows.append({**rows[-1], "clip": "new", "key": "new"}), "clip new is in the ledger but not planned"),
        (lambda rows: rows.append(rows[1]), "shard-00000-0001: key c_s001 stands twice"),
        (lambda rows: rows[0].update(verdict="lost"), "c_s000: verdict 'lost'"),
        (lambda rows: rows[1].update(reason=""), "c_s001: verdict 'rejected' with stage 'split_shots' and reason ''"),
        (lambda rows: rows[0].update(DROPPED), "c_s000 is in the tar, not kept in the ledger"),
        (lambda rows: rows[3].update(verdict="kept", stage="", reason="", offset=0, size=512), "f is kept, but not in the tar"),
        (lambda rows: rows[0].update(duration=9.0), "c_s000: duration is not what its scores say"),
        (lambda rows: rows[0].update(size=512), "c_s000: offset and size in the ledger do not cover the sample"),
        (
            lambda rows: rows[1].update(key="a", verdict="kept", stage="", reason=""),
            "key a stands twice: in shard-00000-0000 and in shard-00000-0001",
        ),
    ],
)
def test_a_ledger_that_does_not_fit(run, change, complaint):
    rewrite(run, change)
    found = list(verify(run, workers=1))
    assert any(complaint in problem for problem in found), found


def retar(storage: Storage, change, name: str = SECOND) -> None:
    """A shard's tar, edited: a list of (name, bytes)."""
    members = change(list(ledger.read_tar(io.BytesIO(storage.read(f"{name}.tar")))))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for member, data in members:
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    storage.write(f"{name}.tar", buffer.getvalue())


@pytest.mark.parametrize(
    "change, complaints",
    [
        (lambda m: m[:-1], ["d: frame0.jpg is in the metadata, but not in the tar"]),
        (lambda m: [("stranger.mp4", b"x"), *m], ["stranger is in the tar, not kept", "c_s000: offset and size in the ledger"]),
        (lambda m: [*m, ("d.extra.txt", b"x")], ["d: extra.txt is in the tar, but not in the metadata"]),
        (lambda m: [*m, m[0]], ["c_s000 stands twice in the tar"]),
        (lambda m: m[:3], ["d is kept, but not in the tar"]),
        (lambda m: [(n, d if n != "d.frame0.jpg" else b"no picture") for n, d in m], ["d: frame0.jpg does not decode"]),
        (lambda m: [(n, d if n != "d.mp4" else d[:900]) for n, d in m], ["d: mp4: "]),
        (lambda m: [(n, d if n != "d.json" else b"{}") for n, d in m], ["d: json: key: Field required"]),
        (lambda m: [(n, d.replace(b'"frames":8', b'"frames":9')) for n, d in m], ["c_s000: mp4 has 8 frames, the metadata"]),
    ],
)  # fmt: skip
def test_a_tar_that_does_not_fit(run, change, complaints):
    retar(run, change)
    found = list(verify(run, workers=1))
    for complaint in complaints:
        assert any(f"shard-00000-0001: {complaint}" in problem for problem in found), found


def test_damage_to_whole_files(run):
    tar = run.read(f"{SECOND}.tar")
    run.write(f"{SECOND}.tar", tar[:-600])
    assert list(verify(run, workers=1)) == [f"shard-00000-0001: the tar has {len(tar) - 600} bytes, {len(tar)} were written"]
    run.write(f"{SECOND}.tar", tar[:3300])
    assert any("shard-00000-0001: cannot be read: ReadError" in p for p in verify(run, workers=1))
    run.remove(f"{SECOND}.tar")
    assert list(verify(run, workers=1)) == [
        f"shard-00000-0001: cannot be read: FileNotFoundError: [Errno 2] No such file or directory: '{run.path(SECOND)}.tar'"
    ]
    ledger_bytes = run.read(f"{SECOND}.parquet")
    run.write(f"{SECOND}.parquet", ledger_bytes[:-9])
    assert [p.partition(": ")[2].partition(": ")[0] for p in verify(run, workers=1)] == ["cannot be read"]
    run.remove(f"{SECOND}.parquet")
    assert list(verify(run, workers=1)) == ["unit 00000-000002 to 00000-000003: not run yet"]
    run.write(f"{SECOND}.tar", tar)
    assert list(verify(run, workers=1))[1:] == [f"{SECOND}.tar has no ledger"]
    run.remove_folder("plan")
    assert list(verify(run)) == [f"{run.path()}: no finished plan"]


def test_units_that_the_plan_does_not_know_or_has_twice(run):
    plan(run, [[["a", "r"], ["b"], ["c"]]])
    found = list(verify(run, workers=1))
    for complaint in (
        "shard-00000-0001: the plan has no unit 00000-000003",
        "unit 00001-000001: the plan has no unit 00001-000001",
    ):
        assert complaint in found
    made.write(run, 4, [clip("z")])  # with the facts of another unit: one that was run twice under two names
    table, facts = ledger.read(run, Unit(0, 4).ledger)
    run.write(Unit(0, 4).ledger, ledger.encoded(table, **{**facts, "first": 3, "last": 3}))
    assert any("stands in another ledger, too" in p for p in verify(run, workers=1))


def test_another_recipes_shard(run):
    run.write("run.json", json.dumps({"recipe": {**made.RECIPE, "clips": {"split_shots": {"crf": 40}}}}))
    found = list(verify(run, workers=1))
    assert any("shard-00000-0000: a: made by recipe" in p for p in found)
    assert any("b: thumb.jpg is said to be of score_aesthetic, which is no stage of the run's recipe" in p for p in found)
    run.remove("run.json")
    assert list(verify(run, workers=1)) == [f"{run.path()}: no run.json, nothing has been run here"]


def test_a_retry_may_have_a_key_again_and_not_keep_it_twice(run):
    made.write(run, 0, [clip("f")], group=2, attempt=1)
    groups = [[["a", "r"], ["b"], ["c"], ["d", "f"]], [["g"], ["h"]], [["f"]]]
    plan(run, groups, [0, 0, 1])
    assert list(verify(run, workers=1)) == []
    made.write(run, 0, [clip("f"), clip("a")], group=2, attempt=1)
    plan(run, [*groups[:2], [["f", "a"]]], [0, 0, 1])
    assert list(verify(run, workers=1)) == ["key a stands twice: in shard-00000-0000 and in unit 00002-000000"]


def test_a_sample_of_the_shards_is_always_the_same(run):
    run.remove("shards/shard-00000-0000.tar", f"{SECOND}.tar", Unit(1, 1).tar)
    whole = list(verify(run, workers=1))
    assert len(whole) == 3
    for count in (1, 2, 3):
        seen: list[int] = []
        some = list(verify(run, seen.append, sample=count, workers=1))
        assert len(seen) == count and set(some) <= set(whole) and list(verify(run, sample=count, workers=1)) == some
    assert list(verify(run, sample=99, workers=1)) == whole


@dataclass(frozen=True)
class Deadly(Storage):
    """A storage one of whose files ends the process that reads it, as a decoder may that trips over it."""

    parent: int

    def open(self, name, ahead=0):
        if name == f"{SECOND}.tar" and os.getpid() != self.parent:
            os._exit(1)
        return super().open(name)


@pytest.mark.slow
def test_a_file_that_ends_its_reader_is_named_and_the_rest_is_read(run):
    run.remove("shards/shard-00000-0000.tar")
    found = list(verify(Deadly(run.root, os.getpid()), workers=2))
    assert [p.partition(": ")[0] for p in found] == ["shard-00000-0000", "shard-00000-0001"]
    assert found[1].endswith("it ends the process that reads it")


@pytest.mark.slow
def test_on_a_cluster_the_same_is_found(run, cluster):
    run.remove("shards/shard-00000-0000.tar", Unit(1, 1).tar)
    here = list(verify(run, workers=1))
    assert len(here) == 2 and list(verify(run, check=OnCluster(cluster.address))) == here
    with pytest.raises(EngineError, match="no Ray cluster at 127.0.0.1:1"):
        list(verify(run, check=OnCluster("127.0.0.1:1")))


def test_a_file_that_ends_its_reader_on_a_cluster_is_named_and_the_rest_is_read(run, cluster):
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    run.remove("shards/shard-00000-0000.tar")
    found = list(verify(Deadly(run.root, os.getpid()), check=OnCluster(cluster.address)))
    assert [p.partition(": ")[0] for p in found] == ["shard-00000-0000", "shard-00000-0001"]
    assert found[1].endswith("it ends the process that reads it")


def test_samples_without_members_need_no_tar(tmp_path):
    bare = sample("a", score_aesthetic={"score": 0.5})
    bare.files = {}
    storage = made.run(tmp_path, [[bare]])
    plan(storage, [[["a"]]])
    assert list(verify(storage, workers=1)) == []


def test_in_an_object_store_all_is_the_same(run, s3):
    units = [[clip("a"), rejected("r")], [clip("b")], [clip("c"), failed("f")]]
    there, here = made.run(f"{s3}/run", units, megabytes=0.008), made.run(run.local("again"), units, megabytes=0.008)
    assert there.folders("units") == [] and there.names("shards") == here.names("shards")
    for name in there.names("shards"):
        assert there.read(f"shards/{name}") == here.read(f"shards/{name}")
    assert tally.tally(there) == tally.tally(here) and tally.failed_clips(there).to_pylist() == ["f"]
    rows = list(ledger.rows(there))
    assert [ledger.read_sample(there, r) for r in rows if r["size"]] == [ledger.read_sample(here, r) for r in rows if r["size"]]
    plan(there, [[["a", "r"], ["b"], ["c", "f"]]])
    assert list(verify(there, workers=1)) == []
    retar(there, lambda members: members[:-1], "shards/shard-00000-0001")
    assert any("shard-00000-0001: c: frame0.jpg is in the metadata, but not" in p for p in verify(there, workers=2))


def test_labels():
    names = ("shards/shard-00003-0002.parquet", Unit(3, 17).ledger)
    assert [verifying.label(name) for name in names] == ["shard-00003-0002", "unit 00003-000017"]


def test_the_sample_run_is_sound(sample_run):
    assert list(verify(Storage.at(sample_run))) == []
