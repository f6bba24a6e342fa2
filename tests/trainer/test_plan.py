"""What a step holds: by arithmetic alone, so made of numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from curation.buckets import TABLES, Bucket
from curation.storage import Storage
from curation.trainer.clips import Clips, Group, Run
from curation.trainer.data import parts
from curation.trainer.errors import TrainerError
from curation.trainer.plan import BLOCK, Plan, permuted

pytestmark = pytest.mark.trainer
SHORT = Bucket(frames=17, width=64, height=32, batch=6, weight=3)
LONG = Bucket(frames=49, width=64, height=32, batch=4, weight=1)


def clips(*groups: tuple[int, int, int], weights: tuple[float, ...] = (1.0,)) -> Clips:
    """Groups of (run, mask, clips)."""
    ends = np.cumsum([count for *_, count in groups]).tolist()
    made = [Group(run, mask, end - count, end) for (run, mask, count), end in zip(groups, ends, strict=True)]
    column = np.arange(ends[-1])
    runs = [Run(f"run{number}", weight) for number, weight in enumerate(weights)]
    facts = {name: column.astype(np.int32) for name in ("tar", "frames")} | dict.fromkeys(("offset", "size"), column)
    return Clips(
        runs=runs, tars=[(Storage("/"), "a")], groups=made, passed_over=Counter(), fps=column.astype(np.float32), **facts
    )


def plan(*groups: tuple[int, int, int], seed: int = 0, **knobs: object) -> Plan:
    return Plan(clips(*groups, **knobs), [SHORT, LONG], seed)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 1000, 70_001])
def test_a_permutation_gives_everything_once(size):
    places = np.arange(size).astype(np.uint64)
    first, second = (permuted(places, size, np.full(size, salt, np.uint64)) for salt in (1, 2))
    assert sorted(first.tolist()) == list(range(size)) == sorted(second.tolist())
    assert size < 5 or (first.tolist() != second.tolist() and first.tolist() != list(range(size)))
    assert permuted(places[-1:], size, np.ones(1, np.uint64))[0] == first[-1]


def test_it_is_shuffled_well():
    """Neighbours land as far apart as by chance, and every place is reached from everywhere."""
    size = 4096
    found = permuted(np.arange(size).astype(np.uint64), size, np.full(size, 7, np.uint64)).astype(int)
    assert abs(np.corrcoef(np.arange(size), found)[0, 1]) < 0.05
    assert np.abs(np.diff(found)).mean() == pytest.approx(size / 3, rel=0.05)
    ends = [permuted(np.zeros(400, np.uint64), 10, np.arange(400).astype(np.uint64)).tolist().count(place) for place in range(10)]
    assert min(ends) > 20 and max(ends) < 65, ends  # 40 each


def test_every_clip_of_a_bucket_comes_once_before_any_comes_again():
    one = plan((0, 0b01, 100), (0, 0b11, 31))
    assert (one.count(SHORT), one.count(LONG)) == (131, 31)
    seen: dict[Bucket, list[int]] = {SHORT: [], LONG: []}
    for step in range(400):
        rows = one.rows(step)
        assert len(rows) == one.bucket(step).batch
        seen[one.bucket(step)].extend(rows.tolist())
    for bucket, there in ((SHORT, set(range(131))), (LONG, set(range(100, 131)))):
        rounds = [seen[bucket][i : i + len(there)] for i in range(0, len(seen[bucket]) - len(there), len(there))]
        assert len(rounds) > 8 and all(set(found) == there for found in rounds)
        assert all(a != b for a, b in pairwise(rounds))


def test_buckets_are_drawn_by_their_weights():
    one = plan((0, 0b11, 50))
    shares = Counter(one.bucket(step) for step in range(4000))
    assert shares[SHORT] / 4000 == pytest.approx(0.75, abs=0.03) == one.share(SHORT)


def test_any_step_can_be_asked_for_first():
    one, other = plan((0, 0b01, 100), (0, 0b11, 31)), plan((0, 0b01, 100), (0, 0b11, 31))
    late = [other.rows(step).tolist() for step in (5000, 3, 1025)]
    assert late == [one.rows(step).tolist() for step in (5000, 3, 1025)]
    assert [one.bucket(s) for s in range(3000)] == [other.bucket(s) for s in range(3000)]


def test_another_seed_is_another_plan():
    one, other = plan((0, 0b11, 99)), plan((0, 0b11, 99), seed=1)
    assert [one.bucket(s) for s in range(50)] != [other.bucket(s) for s in range(50)]
    assert one.rows(0).tolist() != other.rows(0).tolist()


def test_several_runs_come_by_their_weights():
    """Whatever their sizes: a small run comes more often."""
    one = plan((0, 0b01, 5000), (1, 0b01, 10), (1, 0b10, 7), weights=(3.0, 1.0))
    rows = np.concatenate([one.rows(step) for step in range(3000) if one.bucket(step) is SHORT])
    assert (rows[: 4 * BLOCK] >= 5000).sum() == BLOCK  # exactly a quarter
    assert set(range(5000, 5010)) == set(rows[rows >= 5000].tolist())
    counts = Counter(rows[rows >= 5000].tolist())
    assert max(counts.values()) - min(counts.values()) <= 1
    assert all(row >= 5010 for step in range(200) if one.bucket(step) is LONG for row in one.rows(step).tolist())


def test_a_run_of_hardly_any_weight_still_comes():
    one = plan((0, 0b01, 5000), (1, 0b01, 10), weights=(1e6, 1.0))
    rows = np.concatenate([one.rows(step) for step in range(BLOCK // SHORT.batch + 1)])
    assert (rows >= 5000).sum() >= 1


def test_what_cannot_be_read_gives_way_to_the_next_of_the_list():
    one = plan((0, 0b01, 100))
    steps = [step for step in range(100) if one.bucket(step) is SHORT]
    assert one.rows(steps[0], [4], 1) == one.rows(steps[1])[4] and one.rows(steps[0], [4], 2) == one.rows(steps[2])[4]


def test_a_bucket_without_clips_is_left_out_and_none_at_all_refused():
    one = plan((0, 0b01, 9))
    assert one.buckets == [SHORT] and one.empty == [LONG] and {one.bucket(step) for step in range(50)} == {SHORT}
    none = replace(clips((0, 0b01, 9)), passed_over=Counter(too_short=210))
    with pytest.raises(TrainerError, match=r"no clip suits any bucket \(210 too_short\)") as error:
        Plan(none, [], 0)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("clips_", "world", "most"), [(16, 1, 16), (16, 4, 4), (16, 3, 2), (10, 4, 1), (7, 2, 3), (1216, 64, 5)])
def test_processes_share_a_step(clips_, world, most):
    shares = [parts(3, clips_, rank, world, most) for rank in range(world)]
    assert len({len(share) for share in shares}) == 1, "all compute as often"
    counted = [slot for share in shares for _, slots in share for slot in slots]
    assert sorted(counted) == list(range(clips_)), "every clip once"
    assert all(len(slots) <= most for share in shares for _, slots in share)
    sizes = [sum(len(slots) for _, slots in share) for share in shares]
    assert max(sizes) - min(sizes) <= 1


def test_fewer_clips_than_processes_are_refused_with_the_way_out():
    with pytest.raises(TrainerError, match="16 clips does not suit 64 processes: let 4 or more share a clip"):
        parts(0, 16, 0, 64, 1)


@pytest.mark.parametrize("table", ["v1", "v2"])
def test_the_papers_tables_are_planned(table):
    buckets = TABLES[table]
    one = Plan(clips((0, (1 << len(buckets)) - 1, 10_000)), buckets, 0)
    mean = np.mean([one.bucket(step).batch for step in range(20_000)])
    weights = sum(b.weight for b in buckets)
    assert mean == pytest.approx(sum(b.batch * b.weight for b in buckets) / weights, rel=0.03)
