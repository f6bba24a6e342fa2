from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

import pytest

from curation.faults import DataError, StageBug
from curation.sample import Sample, Verdict
from curation.stage import Reject, Resources, Stage, apply


def samples(*keys: str) -> list[Sample]:
    return [Sample(key, meta={"source": {"caption": key}}) for key in keys]


@dataclass(kw_only=True)
class Judge(Stage):
    """Does what the caption says."""

    resources = Resources(batch=3)
    writes: ClassVar = ("note.*.txt",)
    seen: ClassVar[list[int]] = []

    def process_batch(self, batch):
        self.seen.append(len(batch))
        if len(batch) > 1 and any(s.caption == "poison" for s in batch):
            raise RuntimeError("the batch as a whole broke")
        return super().process_batch(batch)

    def process(self, sample):
        sample.meta["judge"] = {"score": len(sample.caption)}
        match sample.caption:
            case "dull":
                raise Reject("slight_motion")
            case "poison" | "broken":
                raise ValueError("two\nlines")
            case "damaged":
                raise DataError("truncated", "decoded 3 of 9 frames")
            case "disk":
                raise OSError(28, "No space left on device")
            case "gpu":
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            case "twice":
                return [Sample(f"twice_{i}", meta=dict(sample.meta)) for i in range(2)]
            case "undeclared":
                sample.files["other.txt"] = b""
            case "thief":
                sample.meta["segment_entities"] = {}
            case "lost":
                return []
        sample.files["note.0.txt"] = sample.caption.encode()
        return sample


def test_name_is_snake_case():
    assert Judge().name == "judge"


def test_verdicts_stay_with_their_sample_and_order_is_kept():
    out = apply(Judge(), samples("a", "dull", "broken", "twice", "b"))
    assert [s.key for s in out] == ["a", "dull", "broken", "twice_0", "twice_1", "b"]
    assert [s.verdict.status for s in out] == ["kept", "rejected", "failed", "kept", "kept", "kept"]
    assert out[1].verdict == Verdict("rejected", "judge", "slight_motion")
    assert out[2].verdict == Verdict("failed", "judge", "value_error", "ValueError: two lines", unforeseen=True)
    assert out[1].meta["judge"] == {"score": 4}, "scores of rejected clips are kept"
    assert all("judge" in s.seconds for s in out)


def test_dropped_samples_pass_by_untouched_and_lose_their_files():
    gone = samples("gone")[0]
    gone.files["mp4"] = b"x"
    gone.drop(Verdict("rejected", "earlier", "why"))
    out = apply(Judge(), [gone, *samples("a")])
    assert out[0].files == {} and out[0].seconds == {} and out[0].verdict.stage == "earlier"


def test_a_batch_that_breaks_is_run_again_one_by_one():
    Judge.seen.clear()
    out = apply(Judge(), samples("a", "poison", "b", "c"))
    assert [s.verdict.status for s in out] == ["kept", "failed", "kept", "kept"]
    assert Judge.seen == [3, 1, 1, 1, 1]


@pytest.mark.parametrize("caption, complaint", [("undeclared", "other.txt"), ("thief", "segment_entities"), ("lost", "lost")])
def test_a_stage_that_breaks_its_declaration_stops_the_run(caption, complaint):
    with pytest.raises(StageBug, match=complaint):
        apply(Judge(), samples("a", caption))


def test_before_sees_every_sample_that_is_touched():
    touched: list[str] = []
    apply(Judge(), samples(*"abcd"), before=lambda batch: touched.extend(s.key for s in batch))
    assert touched == list("abcd")


def test_an_error_of_the_data_has_a_reason_that_can_be_counted():
    out = apply(Judge(), samples("a", "damaged"))
    assert out[1].verdict == Verdict("failed", "judge", "truncated", "decoded 3 of 9 frames") and out[0].alive


@pytest.mark.parametrize("caption", ["disk", "gpu"])
def test_what_is_our_sides_fault_is_no_verdict(caption):
    given = samples("a", caption, "b")
    with pytest.raises((OSError, RuntimeError)):
        apply(Judge(), given)
    assert all(s.alive for s in given)


@dataclass(kw_only=True)
class Promises(Stage):
    """Says that there will be an mp4, and makes it when asked."""

    writes: ClassVar = ("mp4",)
    promises: ClassVar = ("mp4",)

    def process(self, sample):
        return sample

    def redeem_batch(self, batch):
        for sample in batch:
            sample.files["mp4"] = sample.caption.encode()
        return batch


def test_what_was_promised_is_made_when_asked():
    out = apply(Promises(), samples("a"))
    assert out[0].files == {}
    assert apply(Promises(), out, redeem=True)[0].files == {"mp4": b"a"}


def test_seconds_are_each_samples_own():
    class Slow(Stage):
        resources = Resources(batch=2)

        def process(self, sample):
            time.sleep(float(sample.caption))
            return sample

    out = apply(Slow(), samples("0.2", "0.0"))
    assert 0.2 <= out[0].seconds["slow"] < 0.3 and out[1].seconds["slow"] < 0.1
