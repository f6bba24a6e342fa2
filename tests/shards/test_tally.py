from __future__ import annotations

import random
from collections import Counter

import pyarrow as pa
import pytest

from curation import ledger
from curation.shards import tally
from curation.shards.tally import Tally, failed_clips, kept_keys
from curation.storage import Storage
from tests.shards import made
from tests.shards.made import failed, rejected, sample

WHY = {
    "kept": [("", "")],
    "rejected": [("split_shots", "too_short"), ("split_shots", "shot_boundary"), ("score_quality", "still")],
    "failed": [("inputs", "bad_row"), ("split_shots", "no_frames"), ("write", "not_json")],
}


def row(rng: random.Random, key: str, clip: str, attempt: int) -> dict:
    verdict = rng.choice(list(WHY))
    stage, reason = rng.choice(WHY[verdict])
    start = rng.choice([None, rng.random()])
    return {
        **{"shard": "", "unit": 0, "group": 0, "attempt": attempt, "clip": clip, "key": key, "video": "v", "caption": "c"},
        **{"verdict": verdict, "stage": stage, "reason": reason, "detail": f"{rng.random()}", "scores": "{}", "source": "{}"},
        **{"start": start, "end": None if start is None else start + rng.random()},
        "seconds": [(name, rng.random()) for name in ("split_shots", "score_quality") if rng.random() < 0.8] or None,
    }


def clips(rng: random.Random, names: list[str], attempt: int, kept: set[str]) -> list[dict]:
    """Rows of clips with up to three shots, some of which fail or divide otherwise the next time."""
    found = []
    for clip in names:
        keys = [clip] if rng.random() < 0.6 else [f"{clip}_s{n:03d}" for n in range(rng.randint(1, 3))]
        for key in keys:
            made_row = row(rng, key, clip, attempt)
            if key in kept:
                made_row |= {"verdict": "rejected", "stage": "write", "reason": ledger.TAKEN}
            found.append(made_row)
    return found


def put(storage: Storage, group: int, number: int, rows: list[dict], attempt: int) -> None:
    table = pa.Table.from_pylist([{**r, "group": group} for r in rows], schema=ledger.SCHEMA)
    facts = {"group": group, "number": number, "first": number, "last": number, "attempt": attempt, "bytes": 0}
    storage.write(f"shards/{ledger.shard(group, number)}.parquet", ledger.encoded(table, **facts))


def again(rows: list[dict]) -> list[str]:
    """Clips that a retry takes: one of their rows that count has failed at a stage."""
    return sorted({r["clip"] for r in counted(rows) if r["verdict"] == "failed" and r["stage"] != "inputs"})


def counted(rows: list[dict]) -> list[dict]:
    newest: dict[str, int] = {}
    for r in rows:
        newest[r["clip"]] = max(newest.get(r["clip"], 0), r["attempt"])
    return [r for r in rows if r["verdict"] == "kept" or (r["attempt"] == newest[r["clip"]] and r["reason"] != ledger.TAKEN)]


def count(rows: list[dict]) -> Tally:
    """The same in plain Python."""
    total = Tally()
    verdicts: dict[str, set[str]] = {}
    for r in counted(rows):
        verdicts.setdefault(r["clip"], set()).add(r["verdict"])
        total.samples += r["verdict"] == "kept"
        if r["verdict"] != "kept":
            total.reasons[r["verdict"], r["stage"], r["reason"]] += 1
        if r["start"] is not None:
            total.video_seconds += r["end"] - r["start"]
        for stage, seconds in r["seconds"] or ():
            total.stage_seconds[stage] += seconds
    best = Counter(next(v for v in ("kept", "failed", "rejected") if v in found) for found in verdicts.values())
    total.planned, total.kept, total.rejected, total.failed = len(verdicts), best["kept"], best["rejected"], best["failed"]
    return total


@pytest.mark.parametrize("seed", range(12))
def test_it_is_what_counting_by_hand_gives(tmp_path, monkeypatch, seed):
    monkeypatch.setattr(tally, "CHUNK", 10_000)  # several reads
    rng = random.Random(seed)
    storage, everything = Storage.at(tmp_path), []
    for group in range(3):
        for number in range(rng.randint(1, 4)):
            rows = clips(rng, [f"c{group}_{number}_{i}" for i in range(rng.randrange(60))], 0, set())
            put(storage, group, number, rows, 0)
            everything += rows
    for attempt in range(1, seed % 4 + 1):
        names = again(everything)
        assert sorted(failed_clips(storage).to_pylist()) == names
        kept = {r["key"] for r in everything if r["verdict"] == "kept" and r["clip"] in names}
        assert kept_keys(storage, names) == kept
        rows = clips(rng, names, attempt, kept)
        put(storage, 2 + attempt, 0, rows, attempt)
        everything += rows
    found, wanted = tally.tally(storage), count(everything)
    assert found.accounted and found.planned == len({r["clip"] for r in everything})
    for name in ("planned", "kept", "rejected", "failed", "samples", "reasons"):
        assert getattr(found, name) == getattr(wanted, name), name
    assert found.video_seconds == pytest.approx(wanted.video_seconds)
    assert dict(found.stage_seconds) == pytest.approx(dict(wanted.stage_seconds), rel=1e-5)


def test_an_empty_run_counts_nothing(tmp_path):
    storage = Storage.at(tmp_path)
    assert tally.tally(storage) == Tally() and len(failed_clips(storage)) == 0 and kept_keys(storage, ["a"]) == frozenset()


def test_units_count_before_they_are_packed_and_after(tmp_path):
    storage = made.run(tmp_path, [[sample("a")], [rejected("b"), sample("c_s000", clip="c"), rejected("c_s001", clip="c")]])
    made.write(storage, 5, [failed("d"), failed("e", stage="inputs")], group=1)
    found = tally.tally(storage)
    assert (found.planned, found.kept, found.rejected, found.failed, found.samples) == (5, 2, 1, 2, 2)
    assert failed_clips(storage).to_pylist() == ["d"]
    assert found.stage_seconds == {"split_shots": 3.0} and found.video_seconds == 12.0


def test_a_retry_replaces_what_failed_and_keeps_what_was_kept(tmp_path):
    made.run(tmp_path, [[sample("a_s000", clip="a"), failed("a_s001", clip="a"), failed("b"), rejected("c")]])
    storage = Storage.at(tmp_path)
    assert failed_clips(storage).to_pylist() == ["a", "b"]
    kept = kept_keys(storage, ["a", "b"])
    made.write(
        storage,
        0,
        [sample("a_s000", clip="a"), sample("a_s001", clip="a"), sample("b_s000", clip="b"), rejected("b_s001", clip="b")],
        group=1,
        attempt=1,
        skip_keys=kept,
    )
    found = tally.tally(storage)
    assert (found.planned, found.kept, found.rejected, found.failed, found.samples) == (3, 2, 1, 0, 3)
    assert found.reasons == {("rejected", "split_shots", "too_short"): 2}
    assert len(failed_clips(storage)) == 0


def test_free_text_is_no_reason(tmp_path):
    units = [[rejected(f"k{i}") for i in range(50)]]
    for i, one in enumerate(units[0]):
        one.meta["split_shots"]["frames"] = i
    found = tally.tally(made.run(tmp_path, units))
    assert found.reasons == {("rejected", "split_shots", "too_short"): 50}


def test_a_count_that_was_noted_stands_while_the_ledgers_do(tmp_path, monkeypatch):
    storage = made.run(tmp_path, [[sample("a"), rejected("b")]])
    assert tally.tally(storage, keep=True) == tally.tally(storage) == tally.count(storage, ledger.files(storage))
    noted = storage.read(tally.NOTE)
    storage.write(tally.NOTE, noted.replace(b'"planned": 2', b'"planned": 77'))
    assert tally.tally(storage).planned == 77, "it is not counted again"
    made.write(storage, 0, [failed("c")], group=1)
    assert tally.tally(storage, keep=True).planned == 78, "what is not packed is counted beside it"
    made.run(tmp_path, [[rejected("d")]], group=2)
    assert tally.tally(storage, keep=True).planned == 79 and tally.count(storage, ledger.files(storage)).planned == 4
    monkeypatch.setattr(tally, "count", None)
    storage.remove(ledger.Unit(1, 0).ledger)
    assert tally.tally(storage).planned == 78, "so is what has come since, once"


def test_a_note_does_not_outlive_its_ledgers_nor_a_retry(tmp_path):
    storage = made.run(tmp_path, [[sample("a"), failed("b")]])
    tally.tally(storage, keep=True)
    storage.write(tally.NOTE, storage.read(tally.NOTE).replace(b'"planned": 2', b'"planned": 77'))
    made.run(tmp_path, [[sample("b")]], group=1, attempt=1)
    assert tally.tally(storage) == tally.count(storage, ledger.files(storage)) and tally.tally(storage).kept == 2
    tally.tally(storage, keep=True)
    made.age(storage, "shards/shard-00000-0000.parquet")  # another size
    assert tally.tally(storage).planned == 2
