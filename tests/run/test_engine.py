"""The engine: the real first stages on synthesised videos, then one that does as the caption says."""

from __future__ import annotations

import os
import time

import pytest

from curation import ledger as ledgers
from curation.faults import StageBug
from curation.run import engine, worker
from curation.run.engine import BrokenError, EngineError, Stopped
from curation.run.plan import append_retry
from curation.shards.tally import failed_clips, tally
from tests.run.obey import Run, planned

CAPTIONS = ["keep", "reject dull", "fail a disk", "keep", "keep", "keep", "reject dull", "keep", "keep", ""]
EXPECTED = ["kept", "rejected dull", "failed bad", *["kept"] * 3, "rejected dull", "kept", "kept", "rejected no_caption"]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(worker, "PAUSES", (0.01, 0.01))


@pytest.fixture(params=["local", "ray"])
def where(request):
    """The address of a cluster, or None for this process."""
    return request.getfixturevalue("cluster").address if request.param == "ray" else None


def failed(run: Run) -> dict[str, str]:
    return {key: verdict for key, verdict in run.verdicts.items() if verdict.startswith("failed")}


def test_every_planned_clip_is_in_the_ledger(tmp_path):
    run = planned(tmp_path, *CAPTIONS).execute()
    assert run.verdicts == {f"v{i:02d}": text for i, text in enumerate(EXPECTED)}
    assert run.done == {"clips": 10, "kept": 6, "rejected": 3, "failed": 1}
    total = tally(run.storage)
    assert (total.planned, total.kept, total.rejected, total.failed) == (10, 6, 3, 1) and total.accounted
    assert total.reasons["rejected", "obey", "dull"] == 2
    assert not (run.out / "units").exists() or not list((run.out / "units").rglob("*.*")), "units are packed"


def test_ray_gives_the_bytes_of_a_local_run(tmp_path, cluster):
    here = planned(tmp_path, *CAPTIONS).execute()
    for workers in (None, 1, 4):
        there = planned(tmp_path, *CAPTIONS, out=f"ray{workers}").execute(cluster.address, workers=workers)
        assert here.files == there.files and len(here.files) > 1
        assert here.verdicts == there.verdicts


@pytest.mark.slow
def test_every_worker_is_closed(tmp_path, cluster):
    (tmp_path / "closed").mkdir()
    planned(tmp_path, "keep").execute(farewell=str(tmp_path / "closed"))
    assert [p.name for p in (tmp_path / "closed").iterdir()] == [str(os.getpid())]
    planned(tmp_path, "keep", out="ray").execute(cluster.address, farewell=str(tmp_path / "closed"), workers=2)
    deadline = time.monotonic() + 20
    while len(found := list((tmp_path / "closed").iterdir())) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(found) == 3


def test_what_is_done_is_not_done_again(tmp_path):
    run = planned(tmp_path, *CAPTIONS, clips=2).execute()
    before = {p: p.stat().st_mtime_ns for p in (run.out / "shards").iterdir()}
    last = max(p for p in before if p.suffix == ".parquet")
    last.unlink()
    run.execute()
    again = {p.stem for p in (run.out / "shards").iterdir() if p.stat().st_mtime_ns != before[p]}
    assert again == {last.stem} and run.verdicts == {f"v{i:02d}": text for i, text in enumerate(EXPECTED)}


@pytest.mark.slow
def test_a_clip_that_kills_its_worker_fails_and_its_neighbours_survive(tmp_path, cluster):
    run = planned(tmp_path, "keep", "keep", "die", "keep", "keep", "keep").execute(cluster.address)
    assert run.verdicts == {f"v{i:02d}": "kept" for i in range(6)} | {"v02": "failed worker_died"}


@pytest.mark.slow
def test_a_worker_takes_several_units_at_once(tmp_path, cluster):
    """One clip a unit and one worker: who meets somebody meets another unit."""
    (tmp_path / "inn").mkdir()
    captions = [f"meet {tmp_path / 'inn'}"] * 3
    alone = planned(tmp_path, *captions, clips=1).execute(cluster.address, workers=1)
    assert set(alone.verdicts.values()) == {"failed alone"}
    together = planned(tmp_path, *captions, clips=1, out="together").execute(cluster.address, workers=1, at_once=3)
    assert set(together.verdicts.values()) == {"kept"}


@pytest.mark.slow
def test_no_unit_waits_at_a_busy_worker_while_another_is_idle(tmp_path, cluster):
    (tmp_path / "inn").mkdir()
    captions = [f"sign {tmp_path / 'inn'} {10 if i == 0 else 0}" for i in range(6)]
    run = planned(tmp_path, *captions, clips=1).execute(cluster.address, workers=2)
    assert set(run.verdicts.values()) == {"kept"}
    by = dict(path.name.split(".") for path in (tmp_path / "inn").iterdir())
    assert len(by) == 6 and len({by[f"v{i:02d}"] for i in range(1, 6)}) == 1 and by["v00"] != by["v01"]


def test_several_units_at_once_give_the_bytes_of_a_local_run(tmp_path, cluster):
    here = planned(tmp_path, *CAPTIONS, clips=2).execute(at_once=3)
    there = planned(tmp_path, *CAPTIONS, clips=2, out="ray").execute(cluster.address, workers=1, at_once=3)
    assert here.files == there.files and here.verdicts == there.verdicts


@pytest.mark.slow
def test_a_death_is_not_blamed_on_other_units(tmp_path, cluster):
    """Two killers in two units, each dies beside the other units' clips: those are tried again, alone, and come through."""
    (tmp_path / "inn").mkdir()
    captions = [f"{word} {tmp_path / 'inn'}" for word in ("keep", "die_in_company", "linger", "linger", "keep", "die_in_company")]
    run = planned(tmp_path, *captions, clips=2).execute(cluster.address, workers=1, at_once=3)
    assert failed(run) == {"v01": "failed worker_died", "v05": "failed worker_died"}


def test_retry_runs_the_failed_clips_and_nothing_else(tmp_path):
    flag = tmp_path / "flag"
    captions = ["keep", f"fail_once {flag}", "reject dull", "keep", "fail always", "keep"]
    run = planned(tmp_path, *captions).execute()
    first = run.files
    assert failed(run) == {"v01": "failed bad", "v04": "failed bad"}
    run.plan = append_retry(run.recipe, run.plan, failed_clips(run.storage))
    run.done.clear()
    run.execute()
    assert run.done == {"clips": 2, "kept": 1, "rejected": 0, "failed": 1}
    assert {name: data for name, data in run.files.items() if name in first} == first, "nothing finished is rewritten"
    total = tally(run.storage)
    assert (total.planned, total.kept, total.rejected, total.failed) == (6, 4, 1, 1) and total.accounted
    assert failed_clips(run.storage).to_pylist() == ["v04"]


def test_a_bug_in_a_stage_stops_the_run(tmp_path, where):
    with pytest.raises(StageBug, match="undeclared"):
        planned(tmp_path, "keep", "bug").execute(where)


def test_a_stage_that_cannot_load_stops_the_run_with_its_reason(tmp_path, cluster):
    with pytest.raises(EngineError, match="no weights here"):
        planned(tmp_path, "keep").execute(cluster.address, unloadable=True)


def test_an_address_where_nothing_listens(tmp_path):
    with pytest.raises(EngineError, match="no Ray cluster at 127.0.0.1:1"):
        planned(tmp_path, "keep").execute("127.0.0.1:1")


def test_a_disk_that_was_full_for_a_moment_is_nobodys_verdict(tmp_path, where):
    run = planned(tmp_path, "keep", f"disk_once {tmp_path / 'flag'}", "keep").execute(where)
    assert set(run.verdicts.values()) == {"kept"} and run.driver.aside == {}


@pytest.mark.slow
def test_a_unit_that_our_side_breaks_under_is_set_aside_and_waits(tmp_path, where):
    run = planned(tmp_path, "keep", "keep", "disk full", "keep", "keep", "keep", clips=2).execute(where)
    (error,) = run.driver.aside.values()
    assert "No space left on device" in error and "v02" not in run.verdicts and len(run.verdicts) == 4
    (run.out.parent / "videos" / "v02.txt").write_text("keep")
    whole = planned(tmp_path, *["keep"] * 6, clips=2, out="whole").execute()
    for group in run.plan.groups:
        assert group.units == 3
    run.recipe.clips[-1] = None
    assert [p for p in whole.files if p not in run.files], "what stands behind the hole is not packed"


def test_nothing_works_any_more(tmp_path):
    run = planned(tmp_path, *["disk full"] * 12, clips=1)
    with pytest.raises(Stopped, match="4 units in a row could not be run: OSError.*No space left"):
        run.execute()
    assert run.verdicts == {}


@pytest.mark.slow
def test_a_broken_worker_condemns_nobody(tmp_path, where):
    """It breaks for good on its sixth clip, and calls it an error of the clip."""
    (tmp_path / "broken").mkdir()
    run = planned(tmp_path, *["keep"] * 24, clips=2).execute(where, breaks=str(tmp_path / "broken"), workers=1)
    assert set(run.verdicts.values()) == {"kept"} and len(run.verdicts) == 24


@pytest.mark.slow
def test_clips_that_fail_oddly_for_everybody_fail(tmp_path, where):
    captions = ["odd no", "keep", "odd no", "odd no", "odd no", "keep", "keep", "odd no"]
    run = planned(tmp_path, *captions, clips=2).execute(where)
    assert [v == "failed value_error" for v in run.verdicts.values()] == [c.startswith("odd") for c in captions]


def test_what_is_broken_for_everybody_ends_the_run(tmp_path, where):
    with pytest.raises(BrokenError, match="a worker and its successor are broken: obey failed on 8 sources in a row"):
        planned(tmp_path, *["odd no"] * 20, clips=2).execute(where, workers=1)


def test_too_many_failures_do_not_wait_for_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "EARLY", 4)
    run = planned(tmp_path, *["fail no"] * 8, *["keep"] * 8, clips=2, max_failed=0.2)
    with pytest.raises(Stopped, match="4 of 4 clips failed, more than max_failed: 0.2 bears"):
        run.execute()
    assert len(run.verdicts) == 4 and run.driver.too_many_failed


def test_what_failed_while_planning_is_no_fault_of_the_run(tmp_path):
    run = planned(tmp_path, "keep", "keep", max_failed=0.2)
    run.execute()
    assert not run.driver.too_many_failed


def test_work_that_does_not_end_fails_its_clip_alone(tmp_path, where):
    """In Python it is interrupted; in a library its worker ends, and the next one knows of which clip that was."""
    orders = ["keep", "spin 60", "keep"] if where is None else ["keep", "spin 60", "keep", "sleep 300", "keep", "keep"]
    begun = time.monotonic()
    run = planned(tmp_path, *orders, seconds_per_clip=2.0).execute(where)
    slow = {f"v{i:02d}": "failed too_slow" for i, order in enumerate(orders) if order != "keep"}
    assert run.verdicts == {f"v{i:02d}": "kept" for i in range(len(orders))} | slow
    assert {row["stage"] for row in ledgers.rows(run.storage) if row["verdict"] == "failed"} == {"obey"}
    assert time.monotonic() - begun < 50
