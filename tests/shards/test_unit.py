from __future__ import annotations

import io
import json
import os
import tarfile

import pytest

from curation import ledger
from curation.faults import StageBug
from curation.ledger import Unit
from curation.sample import FAILED, Sample, Verdict
from curation.shards import unit
from curation.shards.clip import Clip
from curation.storage import Storage
from tests.shards.made import FACTS, OWNERS, PROVENANCE, failed, rejected, sample, write


@pytest.fixture
def storage(tmp_path) -> Storage:
    return Storage.at(tmp_path / "run")


def rows(storage: Storage, number: int = 0) -> dict[str, dict]:
    return {row["key"]: row for row in ledger.read(storage, Unit(0, number).ledger)[0].to_pylist()}


def by_tarfile(samples: list[Sample]) -> bytes:
    """The samples' members in a tar that Python's own module writes, up to its end mark."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for one in samples:
            for name, data in unit.members(one, OWNERS, PROVENANCE):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        end = tar.offset
    return buffer.getvalue()[:end]


def test_the_bytes_are_those_of_tarfile_and_of_nobody_else(storage, monkeypatch):
    samples = [sample("a"), rejected("b"), sample("c", 511), sample("d" * 96 + "_s000", 512)]
    samples[0].files[f"thumb.{'n' * 120}.jpg"] = b"a name longer than a header holds"
    wanted = by_tarfile([s for s in samples if s.alive])
    monkeypatch.setattr("time.time", lambda: 4e9)
    mask = os.umask(0o077)
    counts = write(storage, 0, samples)
    os.umask(mask)
    assert storage.read(Unit(0, 0).tar) == wanted
    assert counts == {"clips": 4, "kept": 3, "rejected": 1, "failed": 0, "bytes": len(wanted)}


def test_members_come_video_first_and_scratch_stays_out():
    one = sample("a")
    one.files |= {"_window.00.jpg": b"w", "thumb.jpg": b"t"}
    assert [name for name, _ in unit.members(one, OWNERS, PROVENANCE)] == ["a.mp4", "a.json", "a.frame0.jpg", "a.thumb.jpg"]
    del one.files["mp4"]
    found = dict(unit.members(one, OWNERS, PROVENANCE))
    assert list(found) == ["a.json", "a.frame0.jpg", "a.thumb.jpg"] and json.loads(found["a.json"])["video"] is None


def test_a_sample_is_read_by_its_place(storage):
    samples = [sample("a"), rejected("b"), sample("c", 513)]
    wanted = unit.members(samples[2], OWNERS, PROVENANCE)
    write(storage, 0, samples)
    found = rows(storage)
    assert ledger.read_sample(storage, found["c"]) == wanted
    assert (found["b"]["offset"], found["b"]["size"]) == (None, None)


def test_what_a_row_says(storage):
    one = sample("a_s001", clip="a", score_aesthetic={"score": 0.5, "mask": "long", "none": None})
    one.meta["source"] |= {
        "origin": [3.0, 5.0],
        "matching_score": 0.4,
        "path": "/here/v.mp4",
        "member": "v.mp4",
        "offset": 7,
        "size": 9,
    }
    write(storage, 3, [one, rejected("b")])
    row = rows(storage, 3)["a_s001"]
    assert [row[c] for c in ("shard", "unit", "group", "attempt", "clip", "start", "end")] == ["", 3, 0, 0, "a", 1.0, 3.0]
    assert [row[c] for c in ("width", "height", "fps", "frames")] == [64, 32, 25.0, 50]
    assert json.loads(row["scores"]) == {"split_shots": FACTS, "score_aesthetic": {"score": 0.5}}
    assert json.loads(row["source"]) == {"url": "https://x/v", "origin": [3.0, 5.0], "matching_score": 0.4}
    assert dict(row["seconds"]) == {"split_shots": 0.5}
    dropped = rows(storage, 3)["b"]
    assert [dropped[c] for c in ("verdict", "stage", "reason", "detail")] == ["rejected", "split_shots", "too_short", "0.3 s"]
    assert ledger.facts(storage, Unit(0, 3).ledger)["bytes"] == row["size"]


def circle() -> dict:
    found: dict = {}
    found["itself"] = found
    return found


CAPTION = "A man talks."
MAN = {"word": "man", "kind": "subject", "span": [2, 5]}


@pytest.mark.parametrize(
    "spoil, reason",
    [
        (lambda s: s.meta["source"].update(url="https://x/\ud83d"), "not_utf8"),
        (lambda s: s.meta["source"].update(label={"title": "half a \ud83d"}), "not_utf8"),
        (lambda s: s.meta["source"].update(caption="\ud83d"), "not_utf8"),
        (lambda s: s.meta.update(score_aesthetic={"score": float("nan")}), "not_json"),
        (lambda s: s.meta.update(score_aesthetic={"score": object()}), "not_json"),
        (lambda s: s.meta.update(score_aesthetic=circle()), "not_json"),
        (lambda s: s.meta.update(score_aesthetic=0.5), "not_in_schema"),
        (lambda s: s.meta.update(extract_entities={"entities": [{**MAN, "kind": "thing"}]}), "not_in_schema"),
        (lambda s: s.meta.update(extract_entities={"entities": [MAN]}, segment_entities={"entities": []}), "not_in_schema"),
        (lambda s: s.meta.update(extract_entities={"entities": [MAN]}, segment_entities={"entities": [{}]}), "not_in_schema"),
        (lambda s: s.meta["split_shots"].pop("seconds"), "not_in_schema"),
        (lambda s: s.meta["split_shots"].update(width="wide"), "not_in_schema"),
        (lambda s: s.meta["split_shots"].update(frames=1 << 40), "not_in_schema"),
        (lambda s: s.files.update(mp4=None), "no_bytes"),
    ],
)
def test_what_cannot_be_written_fails_alone(storage, spoil, reason):
    odd = sample("odd")
    spoil(odd)
    counts = write(storage, 0, [sample("a"), odd, sample("z")])
    found = rows(storage)
    assert [found[k]["verdict"] for k in ("a", "odd", "z")] == ["kept", "failed", "kept"]
    assert (found["odd"]["stage"], found["odd"]["reason"]) == ("write", reason) and found["odd"]["detail"]
    assert (counts["kept"], counts["failed"]) == (2, 1)
    names = [name for key in ("a", "z") for name, _ in ledger.read_sample(storage, found[key])]
    assert names == ["a.mp4", "a.json", "a.frame0.jpg", "z.mp4", "z.json", "z.frame0.jpg"]


def test_one_that_had_failed_keeps_its_reason(storage):
    bad = sample("a").drop(Verdict(FAILED, "inputs", "bad_row", "a \ud83d"))
    odd = rejected("b")
    odd.meta["score_aesthetic"] = {"score": float("inf")}
    write(storage, 0, [bad, odd])
    found = rows(storage)
    assert [found["a"][c] for c in ("verdict", "stage", "reason", "detail")] == ["failed", "inputs", "bad_row", "a ?"]
    assert (found["b"]["verdict"], found["b"]["stage"]) == ("failed", "write")


def test_no_memory_is_no_verdict(storage):
    class Huge(dict):
        def items(self):
            raise MemoryError

    with pytest.raises(MemoryError):
        write(storage, 0, [sample("a", score_aesthetic=Huge(score=1))])
    assert ledger.files(storage) == {}


def test_shots_stay_in_order_and_clips_in_the_planned_one(storage):
    out = [sample("b"), sample("a_s001", clip="a"), sample("a_s000", clip="a")]
    unit.write(storage, Unit(0, 0), 0, out, OWNERS, PROVENANCE, ["a", "b"])
    assert list(rows(storage)) == ["a_s001", "a_s000", "b"]


def test_a_clip_that_is_lost_and_one_that_was_not_planned(storage):
    for planned, complaint in ((["a", "b"], "clip b is gone"), ([], "clip a was not planned")):
        with pytest.raises(StageBug, match=complaint):
            unit.write(storage, Unit(0, 0), 0, [sample("a")], OWNERS, PROVENANCE, planned)
    assert ledger.files(storage) == {}


def test_a_member_that_nobody_owns_and_a_name_that_is_taken(storage):
    one = sample("a")
    one.files["stray.txt"] = b"x"
    with pytest.raises(StageBug, match="no stage says that it writes 'stray.txt'"):
        write(storage, 0, [one])
    with pytest.raises(StageBug, match="may not be called 'video'"):
        write(storage, 0, [sample("a", video={"score": 1})])


def test_one_key_is_written_once(storage):
    write(storage, 0, [sample("a_s000"), sample("a_s000", clip="a"), sample("b")])
    verdicts = [(r["clip"], r["verdict"], r["reason"]) for r in ledger.read(storage, Unit(0, 0).ledger)[0].to_pylist()]
    assert verdicts == [("a_s000", "kept", ""), ("a", "failed", "key_twice"), ("b", "kept", "")]


def test_a_retry_writes_no_sample_again(storage):
    shots = [sample("a_s000", clip="a"), sample("a_s001", clip="a"), failed("b")]
    counts = write(storage, 0, shots, attempt=1, skip_keys={"a_s000"})
    assert counts == {"clips": 2, "kept": 1, "rejected": 0, "failed": 1, "bytes": rows(storage)["a_s001"]["size"]}
    assert rows(storage)["a_s000"]["reason"] == ledger.TAKEN


def test_a_unit_without_members_has_no_tar(storage):
    bare = sample("a", score_aesthetic={"score": 0.5})
    write(storage, 0, [sample("a")])
    bare.files = {"_window.00.jpg": b"w"}
    assert write(storage, 0, [bare]) == {"clips": 1, "kept": 1, "rejected": 0, "failed": 0, "bytes": 0}
    assert list(storage.names("units/00000")) == ["000000.parquet"], "the tar of an attempt before is gone"
    assert rows(storage)["a"]["verdict"] == "kept" and rows(storage)["a"]["offset"] is None


def test_a_new_stage_publishes_itself(storage):
    one = sample("a", score_aesthetic={"score": 0.7, "model": "toy"})
    one.files["thumb.jpg"] = b"t"
    write(storage, 0, [one])
    members = dict(ledger.read_sample(storage, rows(storage)["a"]))
    clip = json.loads(members["a.json"])
    assert clip["score_aesthetic"] == {"score": 0.7, "model": "toy"}
    assert clip["members"] == {"mp4": "split_shots", "frame0.jpg": "sample_frames", "thumb.jpg": "score_aesthetic"}
    assert Clip.model_validate(clip).model_dump() == clip
