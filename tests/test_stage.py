from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest

from curation.sample import Sample, Verdict
from curation.stage import Reject, Resources, Stage, StageBug, apply


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
    assert out[2].verdict.reason == "ValueError: two lines"
    assert out[1].meta["judge"] == {"score": 4}, "scores of rejected clips are kept"
    assert all("judge" in s.seconds for s in out)


def test_dropped_samples_pass_by_untouched_and_lose_their_files():
    gone = samples("gone")[0]
    gone.files["mp4"] = b"x"
    gone.drop("rejected", "earlier", "why")
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
