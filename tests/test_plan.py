from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from curation import captions
from curation.inputs.rows import planned
from curation.plan import PlanError, check, cut_units, make_plan, open_plan
from curation.recipe import Recipe, Shards
from curation.sample import Sample
from curation.stage import Stage
from tests.conftest import ROOT


@dataclass(kw_only=True)
class WhoIsIt(Stage):
    """Notes the process it runs in."""

    log: str = ""
    at_once: int = 1
    broken: bool = False
    linger: bool = False
    meet: str = ""

    def units(self) -> int:
        return self.at_once

    def load(self) -> None:
        if self.broken:
            raise OSError("no weights here")
        self.table = threading.Barrier(self.at_once)

    def process(self, sample: Sample) -> Sample:
        sample.meta[self.name] = {"process": os.getpid()}
        self.table.wait(20)
        if self.meet:
            Path(self.meet, str(os.getpid())).touch()
            wait_for(lambda: len(list(Path(self.meet).iterdir())) > 1)
        while self.linger:
            Path(self.log).write_text(str(os.getpid()))
            time.sleep(0.1)
        return sample

    def close(self) -> None:
        Path(self.log).touch()


def clips(count, per_video=1, **extra):
    return [
        planned(f"v{i // per_video}_{i:05d}", "A man talks.", path=f"/v{i // per_video}.mp4", start=0.0, end=2.0, **extra)
        for i in range(count)
    ]


def test_units_are_bounded_by_clips_and_by_seconds():
    assert [len(u) for u in cut_units(clips(10), Shards(clips_per_unit=4))] == [4, 4, 2]
    assert [len(u) for u in cut_units(clips(10), Shards(seconds_per_unit=6.0))] == [3, 3, 3, 1]


def test_a_sources_clips_stay_together_up_to_twice_the_bound():
    units = list(cut_units(clips(20, per_video=3), Shards(clips_per_unit=4)))
    for unit, following in zip(units, units[1:], strict=False):
        assert unit[-1].meta["source"]["path"] != following[0].meta["source"]["path"]
    assert max(len(u) for u in cut_units(clips(100, per_video=100), Shards(clips_per_unit=4))) == 8


def test_dropped_clips_ride_along_but_not_without_bound():
    dropped = clips(200, reason="no_caption")
    assert [len(u) for u in cut_units([*dropped, *clips(1)], Shards(clips_per_unit=4))] == [64, 64, 64, 9]


def test_a_plan_is_read_back_as_it_was_made(tmp_path):
    rows = [*clips(5), planned("bad", None, error="it broke")]
    plan = make_plan(Recipe(shards=Shards(clips_per_unit=2)), rows, tmp_path, {"input": "x"})
    assert (plan.clips, plan.units) == (6, 3)
    assert [s for u in range(plan.units) for s in plan.unit(u)] == rows
    assert open_plan(tmp_path) == plan


def test_doubled_keys_get_a_name_and_a_reason(tmp_path):
    plan = make_plan(Recipe(), [*clips(3), *clips(3), *clips(1)], tmp_path, {})
    samples = plan.unit(0)
    assert len({s.key for s in samples}) == 7 == len({s.meta["source"]["clip"] for s in samples})
    assert [s.verdict.reason for s in samples] == ["", "", "", *["duplicate_key"] * 4]


def test_keys_doubled_far_apart_are_found(tmp_path):
    plan = make_plan(Recipe(), [*clips(5000), *clips(1)], tmp_path, {})
    assert plan.info["verdicts"] == {"kept": 5000, "rejected": 1}


def test_an_empty_input_is_an_empty_plan(tmp_path):
    plan = make_plan(Recipe(), [], tmp_path, {})
    assert (plan.clips, plan.units) == (0, 0) and open_plan(tmp_path) == plan


def test_more_units_than_fit_one_part(tmp_path):
    plan = make_plan(Recipe(shards=Shards(clips_per_unit=1)), clips(300), tmp_path, {})
    assert plan.units == 300 and len(list((tmp_path / "plan").glob("*.parquet"))) == 2
    assert plan.unit(299)[0].key == "v299_00299"


def test_a_plan_made_from_something_else_is_refused(tmp_path):
    plan = make_plan(Recipe(), clips(1), tmp_path, {"input": "a", "plan": {"extract_entities": {"model": "rules"}}})
    check(plan, {"input": "a", "plan": {"extract_entities": {"model": "rules"}}})
    with pytest.raises(PlanError, match="plan.extract_entities.model: rules → llm"):
        check(plan, {"input": "a", "plan": {"extract_entities": {"model": "llm"}}})


def test_an_unfinished_plan_is_no_plan(tmp_path):
    def breaks():
        yield from clips(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_plan(Recipe(), breaks(), tmp_path, {})
    assert open_plan(tmp_path) is None
    assert make_plan(Recipe(), clips(3), tmp_path, {}).clips == 3


def test_the_limit_is_planned(tmp_path):
    assert make_plan(Recipe(), iter(clips(10)), tmp_path, {}, limit=4).clips == 4


@pytest.mark.parametrize("gpus", [None, 0.5])
def test_a_caption_stage_on_a_gpu_has_a_process_of_its_own(tmp_path, gpus):
    """Its memory is free when the plan is made: the process has ended."""
    plan = make_plan(Recipe(plan=[WhoIsIt(gpus=gpus, log=str(tmp_path / "closed"))]), clips(3), tmp_path / "out", {})
    processes = {s.meta["who_is_it"]["process"] for s in plan.unit(0)}
    if gpus is None:
        assert processes == {os.getpid()} and (tmp_path / "closed").exists()
    else:
        assert len(processes) == 1 and os.getpid() not in processes
        with pytest.raises(ProcessLookupError):
            os.kill(processes.pop(), 0)


def test_a_stage_that_answers_many_has_one_process_with_several_callers(tmp_path, monkeypatch):
    """Three batches, and in each nobody goes on before two clips are at work."""
    monkeypatch.setattr(captions, "BATCH", 4)
    plan = make_plan(Recipe(plan=[WhoIsIt(at_once=2)]), clips(12), tmp_path, {})
    samples = plan.unit(0)
    assert [s.key for s in samples] == [c.key for c in clips(12)] and all(s.alive for s in samples)
    processes = {s.meta["who_is_it"]["process"] for s in samples}
    assert len(processes) == 1 and os.getpid() not in processes


def test_more_processes_where_the_recipe_says_so(tmp_path, monkeypatch):
    """Nobody goes on before there are two of them."""
    monkeypatch.setattr(captions, "BATCH", 2)
    (tmp_path / "there").mkdir()
    plan = make_plan(Recipe(plan=[WhoIsIt(at_once=2, workers=2, meet=str(tmp_path / "there"))]), clips(8), tmp_path, {})
    assert all(s.alive for s in plan.unit(0)) and len({s.meta["who_is_it"]["process"] for s in plan.unit(0)}) == 2


@pytest.mark.parametrize("at_once", [1, 2])
def test_what_does_not_load_is_said(tmp_path, at_once):
    with pytest.raises(OSError, match="no weights here"):
        make_plan(Recipe(plan=[WhoIsIt(at_once=at_once, broken=True, log=str(tmp_path / "closed"))]), clips(3), tmp_path, {})


def test_a_planning_process_ends_with_its_driver(tmp_path):
    code = "from tests.test_plan import *; stage = WhoIsIt(gpus=0.5, linger=True, log=sys.argv[1])\n"
    code += "if __name__ == '__main__': make_plan(Recipe(plan=[stage]), clips(3), Path(sys.argv[1]).parent, {})"
    (tmp_path / "driver.py").write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    driver = subprocess.Popen([sys.executable, tmp_path / "driver.py", tmp_path / "process"], env=environment)
    wait_for((tmp_path / "process").exists)
    process = int((tmp_path / "process").read_text())
    driver.send_signal(signal.SIGKILL)
    driver.wait(10)
    wait_for(lambda: not Path(f"/proc/{process}").exists())


def wait_for(condition, seconds=40.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
