from __future__ import annotations

import pytest

from curation.run.breaker import ENOUGH, Breaker, Tripped
from curation.sample import FAILED, Sample, Verdict


def clip(source: str, verdict: Verdict | None = None) -> Sample:
    return Sample(source, meta={"source": {"path": f"/{source}.mp4"}}, verdict=verdict or Verdict())


def broken(source: str, stage: str = "s") -> Sample:
    return clip(source, Verdict(FAILED, stage, "value_error", "ValueError: no", unforeseen=True))


def test_many_sources_in_a_row_trip_it():
    breaker = Breaker()
    breaker.watch("s", [broken(str(i)) for i in range(ENOUGH - 1)])
    assert breaker.is_open
    with pytest.raises(Tripped, match=f"s failed on {ENOUGH} sources in a row, the last time with ValueError: no"):
        breaker.watch("s", [broken("last")])


def test_one_that_comes_through_ends_the_row():
    breaker = Breaker()
    for _ in range(3):
        breaker.watch("s", [*(broken(str(i)) for i in range(ENOUGH - 1)), clip("good")])
        assert not breaker.is_open


def test_a_source_with_many_bad_clips_is_one_source():
    breaker = Breaker()
    breaker.watch("s", [broken("same")] * 100)
    assert breaker.is_open


@pytest.mark.parametrize("verdict", [Verdict("rejected", "s", "dull"), Verdict("failed", "s", "truncated", "decoded 3 of 9")])
def test_what_is_known_to_be_wrong_with_a_clip_is_no_fault_of_the_worker(verdict):
    breaker = Breaker()
    breaker.watch("s", [clip(str(i), verdict) for i in range(100)])
    assert not breaker.is_open


def test_stages_are_watched_apart():
    breaker = Breaker()
    breaker.watch("s", [broken(str(i)) for i in range(ENOUGH - 1)])
    breaker.watch("t", [clip("good")])
    with pytest.raises(Tripped):
        breaker.watch("s", [broken("last")])
