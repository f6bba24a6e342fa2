from __future__ import annotations

import os
import tarfile

import pytest
import webdataset

from curation import shards
from curation.sample import Sample
from curation.shards import Record, Tally


def row(key: str, status: str = "kept", clip: str | None = None, **more) -> dict:
    columns = {
        "unit": 0,
        "clip": clip or key,
        "key": key,
        "video": "v",
        "start": 0.0,
        "end": 2.0,
        "caption": "c",
        "status": status,
    }
    dropped = {"stage": "", "reason": ""} if status == "kept" else {"stage": "split_shots", "reason": "too_short"}
    return {**columns, **dropped, "scores": "{}", "seconds": [("split_shots", 0.5)], **more}


def kept(key: str, size: int = 3000) -> Record:
    return Record(row(key), [(f"{key}.mp4", b"v" * size), (f"{key}.ref.0.1.webp", key.encode() * 100)])


def test_bytes_do_not_depend_on_when_or_who(tmp_path, monkeypatch):
    records = [kept("a"), Record(row("b", "rejected"), []), kept("c", 511)]
    shards.write(tmp_path / "one", 7, records)
    monkeypatch.setattr("time.time", lambda: 4e9)
    os.umask(0o077)
    shards.write(tmp_path / "two", 7, records)
    os.umask(0o022)
    one, two = ((tmp_path / name / "shard-000007.tar").read_bytes() for name in ("one", "two"))
    assert one == two
    with tarfile.open(tmp_path / "one" / "shard-000007.tar") as tar:
        assert {(m.mtime, m.uid, m.uname, m.mode) for m in tar} == {(0, 0, "", 0o644)}


def test_a_sample_is_read_by_its_place_in_the_ledger(tmp_path):
    shards.write(tmp_path, 0, [kept("a"), kept("b", 513), Record(row("c", "failed"), [])])
    rows = shards.ledger(tmp_path, 0)
    assert shards.read_sample(tmp_path, rows[1]) == kept("b", 513).members
    assert (rows[2]["offset"], rows[2]["size"]) == (None, None)


def test_webdataset_reads_them_with_their_suffixes(tmp_path):
    shards.write(tmp_path, 0, [kept("a"), kept("b")])
    read = list(webdataset.WebDataset(str(tmp_path / "shard-000000.tar"), shardshuffle=False))
    assert [s["__key__"] for s in read] == ["a", "b"]
    assert read[1]["ref.0.1.webp"] == b"b" * 100


def test_a_write_that_breaks_publishes_nothing_and_leaves_nothing(tmp_path):
    broken = Record(row("b"), [("b.mp4", None)])  # type: ignore[list-item]
    with pytest.raises(TypeError):
        shards.write(tmp_path, 0, [kept("a"), broken])
    assert not shards.is_done(tmp_path, 0) and list(tmp_path.iterdir()) == []


def test_a_shard_is_there_when_its_ledger_is(tmp_path):
    shards.write(tmp_path, 3, [kept("a")])
    assert shards.is_done(tmp_path, 3) and list(shards.units(tmp_path)) == [3]
    (tmp_path / "shard-000003.parquet").unlink()
    assert not shards.is_done(tmp_path, 3)


def test_scratch_members_never_reach_a_shard():
    sample = Sample("a", {"mp4": b"v", "frame0.jpg": b"f", "_window.00.jpg": b"w"})
    source = {"clip": "a", "video": "v", "url": "", "start": None, "end": None, "caption": "c"}
    sample.meta = {"source": source, "sample_frames": {"width": 4, "height": 2, "fps": 25.0, "frames": 9}}
    names = [name for name, _ in shards.members(sample, {"version": "0", "recipe": "0", "models": {}})]
    assert names == ["a.mp4", "a.json", "a.frame0.jpg"]


def test_masks_stay_out_of_the_ledger():
    sample = Sample("a", meta={"source": {"clip": "a", "video": "v", "url": "", "start": 0.0, "end": 1.0, "caption": "c"}})
    sample.meta["segment_entities"] = {"entities": [{"refs": [{"score": 0.5, "mask": {"size": [1, 1], "counts": "0"}}]}]}
    scores = shards.record(0, sample.drop("rejected", "segment_entities", "why"), {}).row["scores"]
    assert '"score": 0.5' in scores and "mask" not in scores


def test_a_clip_is_what_the_best_of_its_shots_is():
    tally = Tally()
    tally.add([row("a_s0", "rejected", "a"), row("a_s1", "kept", "a"), row("a_s2", "kept", "a")])
    tally.add([row("b_s0", "rejected", "b"), row("b_s1", "failed", "b"), row("c", "rejected")])
    assert (tally.planned, tally.kept, tally.rejected, tally.failed, tally.samples) == (3, 1, 1, 1, 2)
    assert tally.accounted and tally.video_seconds == 12.0 and tally.stage_seconds["split_shots"] == 3.0
