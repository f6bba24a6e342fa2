from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from curation.faults import DataError
from curation.inputs.open import open_input
from curation.inputs.rows import planned
from curation.ledger import Unit
from curation.recipe import Recipe, Units
from curation.run import captions, keys
from curation.run import plan as plans
from curation.run.plan import PlanError, append_retry, check, cut_units, make_plan
from curation.sample import Sample
from curation.shards.planned import Group, Plan, open_plan
from curation.stage import Stage
from curation.storage import Storage
from tests.conftest import ROOT
from tests.inputs import written


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


def first(plan: Plan, all_of_it: bool = False) -> list[Sample]:
    """The samples of the first unit, or of the first part."""
    units = [samples for _, samples in plan.units(0)]
    return [s for samples in units for s in samples] if all_of_it else units[0]


def test_units_are_bounded_by_clips_and_by_seconds():
    assert [len(u) for u in cut_units(clips(10), Units(clips=4))] == [4, 4, 2]
    assert [len(u) for u in cut_units(clips(10), Units(seconds=6.0))] == [3, 3, 3, 1]


def test_a_sources_clips_stay_together_up_to_twice_the_bound():
    units = list(cut_units(clips(20, per_video=3), Units(clips=4)))
    for unit, following in zip(units, units[1:], strict=False):
        assert unit[-1].meta["source"]["path"] != following[0].meta["source"]["path"]
    assert max(len(u) for u in cut_units(clips(100, per_video=100), Units(clips=4))) == 8


def test_dropped_clips_ride_along_but_not_without_bound():
    dropped = clips(200, reason="no_caption")
    assert [len(u) for u in cut_units([*dropped, *clips(1)], Units(clips=4))] == [64, 64, 64, 9]


def test_a_plan_is_read_back_as_it_was_made(tmp_path):
    rows = [*clips(5), planned("bad", None, error=DataError("bad_row", "it broke"))]
    plan = make_plan(Recipe(units=Units(clips=2)), rows, Storage.at(tmp_path), {"input": "x"}, videos="y")
    assert plan.info["videos"] == "y"
    assert (plan.clips, plan.groups) == (6, [Group(0, units=3, clips=6)])
    assert [s for _, samples in plan.units(0) for s in samples] == rows
    assert plan.unit(Unit(0, 1)) == rows[2:4] and open_plan(Storage.at(tmp_path)) == plan


def test_doubled_keys_get_a_name_and_a_reason(tmp_path):
    plan = make_plan(Recipe(), [*clips(3), *clips(3), *clips(1)], Storage.at(tmp_path), {})
    samples = first(plan)
    assert len({s.key for s in samples}) == 7 == len({s.meta["source"]["clip"] for s in samples})
    assert [s.verdict.reason for s in samples] == ["", "", "", *["duplicate_key"] * 4]


def test_keys_doubled_far_apart_are_found(tmp_path):
    plan = make_plan(Recipe(), [*clips(5000), *clips(1)], Storage.at(tmp_path), {})
    assert plan.info["verdicts"] == {"kept": 5000, "rejected": 1}


def test_an_empty_input_is_an_empty_plan(tmp_path):
    plan = make_plan(Recipe(), [], Storage.at(tmp_path), {})
    assert (plan.clips, plan.groups) == (0, []) and open_plan(Storage.at(tmp_path)) == plan


def test_more_clips_than_fit_one_part(tmp_path, monkeypatch):
    monkeypatch.setattr(plans, "PART", 100)
    plan = make_plan(Recipe(units=Units(clips=1)), clips(250), Storage.at(tmp_path), {})
    assert plan.groups == [Group(0, 100, 100), Group(1, 100, 100), Group(2, 50, 50)]
    assert plan.unit(Unit(2, 49))[0].key == "v249_00249"
    assert [u.number for u, _ in plan.units(2)] == list(range(50))


def test_each_shard_of_an_input_is_a_part(tmp_path):
    rows = [planned(f"k{i}", "A man.", path=f"/{i // 3}.tar", member=f"k{i}.mp4", offset=0, size=1) for i in range(7)]
    assert [g.clips for g in make_plan(Recipe(), rows, Storage.at(tmp_path), {}).groups] == [3, 3, 1]


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((folder / "plan").iterdir())}


def test_planning_goes_on_behind_the_parts_that_are_finished(tmp_path, monkeypatch):
    monkeypatch.setattr(plans, "PART", 30)
    monkeypatch.setattr(keys, "BATCH", 10)
    rows = [*clips(50), *clips(50)]  # the second fifty are doubles, over several parts
    whole = make_plan(Recipe(units=Units(clips=4)), deepcopy(rows), Storage.at(tmp_path / "whole"), {})

    def breaks(after):
        yield from deepcopy(rows[:after])
        raise KeyboardInterrupt

    for after in (10, 31, 65, 99):
        with pytest.raises(KeyboardInterrupt):
            make_plan(Recipe(units=Units(clips=4)), breaks(after), Storage.at(tmp_path), {})
        assert open_plan(Storage.at(tmp_path)) is None
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "plan").glob("*.parquet")}
    assert len(before) > 1
    again = make_plan(Recipe(units=Units(clips=4)), deepcopy(rows), Storage.at(tmp_path), {})
    assert again.info == whole.info and files(tmp_path) == files(tmp_path / "whole")
    assert {p: p.stat().st_mtime_ns for p in before} == before, "finished parts are not made again"


def test_unfinished_planning_from_something_else_is_refused(tmp_path):
    def breaks():
        yield from clips(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_plan(Recipe(), breaks(), Storage.at(tmp_path), {"input": "a"})
    with pytest.raises(PlanError, match="input: a → b"):
        make_plan(Recipe(), clips(3), Storage.at(tmp_path), {"input": "b"})


def test_names_of_doubles_do_not_depend_on_where_planning_began(tmp_path, monkeypatch):
    """Also where a clip's own key looks like a name that was given to a double, before it or after it."""
    monkeypatch.setattr(plans, "PART", 7)
    monkeypatch.setattr(keys, "BATCH", 5)
    names = [
        "a",
        "a_duplicate9",
        "b",
        "a",
        "b_duplicate6",
        "c",
        "b",
        "b",
        "a",
        "d",
        "a_duplicate8",
        "a_duplicate3",
        "e",
        "a",
        "b",
        "f",
        "a_duplicate3",
    ]
    rows = [planned(key, "A man.", path="/v.mp4") for key in names]
    rows[13] = planned("a", None, error=DataError("bad_row", "odd"))
    whole = make_plan(Recipe(), deepcopy(rows), Storage.at(tmp_path / "whole"), {})
    found = [s for g in whole.groups for _, samples in whole.units(g.group) for s in samples]
    assert len({s.key for s in found}) == len(rows) and found[13].verdict.reason == "bad_row"
    assert [s.key == key for s, key in zip(found, names, strict=True)].count(False) == whole.info["verdicts"]["rejected"] + 1

    def breaks(after):
        yield from deepcopy(rows[:after])
        raise KeyboardInterrupt

    for after in range(1, len(rows)):
        storage = Storage.at(tmp_path / str(after))
        with pytest.raises(KeyboardInterrupt):
            make_plan(Recipe(), breaks(after), storage, {})
        make_plan(Recipe(), deepcopy(rows), storage, {})
        assert files(tmp_path / str(after)) == files(tmp_path / "whole")


@pytest.mark.parametrize("rows", [clips(20)[1:], clips(12), [*clips(12), *clips(30)[20:]], []])
def test_an_input_that_has_changed_under_an_unfinished_plan_is_said(tmp_path, monkeypatch, rows):
    monkeypatch.setattr(plans, "PART", 15)
    monkeypatch.setattr(keys, "BATCH", 5)

    def breaks():
        yield from clips(20)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_plan(Recipe(), breaks(), Storage.at(tmp_path), {})
    with pytest.raises(
        PlanError, match="the input has changed since this plan was begun.*part-00000.parquet ends with v14_00014"
    ):
        make_plan(Recipe(), rows, Storage.at(tmp_path), {})


def test_a_tar_that_cannot_be_read_is_a_part_too(tmp_path):
    """So that what is made from shards lines up with them."""
    for name in "abcd":
        written.tar(tmp_path / f"{name}.tar", [*written.sample(f"{name}0"), *written.sample(f"{name}1")])
    for name in "bc":
        (tmp_path / f"{name}.tar").write_bytes(b"no tar")
    plan = make_plan(Recipe(), open_input(str(tmp_path)), Storage.at(tmp_path / "out"), {})
    assert [g.clips for g in plan.groups] == [2, 1, 1, 2] and plan.info["verdicts"] == {"failed": 2, "kept": 4}


def test_a_disk_that_breaks_while_the_input_is_listed_says_nothing_of_clips(tmp_path, monkeypatch):
    monkeypatch.setattr(plans, "PART", 2)
    monkeypatch.setattr(keys, "BATCH", 1)

    def breaks():
        yield from clips(5)
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        make_plan(Recipe(), breaks(), Storage.at(tmp_path), {})
    assert len(files(tmp_path)) == 3, "two parts are finished"
    again = make_plan(Recipe(), clips(5), Storage.at(tmp_path), {})
    assert again.info["verdicts"] == {"kept": 5} and len(again.groups) == 3


@dataclass(kw_only=True)
class Slow(Stage):
    """Takes its time, so that it can be killed."""

    def process(self, sample: Sample) -> Sample:
        time.sleep(0.002)
        sample.meta[self.name] = {"said": sample.caption.upper()}
        return sample


KILLED = """
from tests.run.test_plan import *
if __name__ == "__main__":
    plans.PART, keys.BATCH, captions.BATCH = 50, 20, 20
    rows = (time.sleep(0.002) or c for c in [*clips(200), *clips(100)])
    make_plan(Recipe(plan=[Slow()], units=Units(clips=4)), rows, Storage.at(sys.argv[1]), {}, workers=int(sys.argv[2]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_planning_killed_at_any_moment_goes_on_to_the_same_bytes(tmp_path, workers):
    """After so many parts, at once or in the midst of the next one; the stage in the driver or in processes of its own."""
    (tmp_path / "driver.py").write_text(KILLED)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, tmp_path / "driver.py"]
    subprocess.run([*command, tmp_path / "whole", str(workers)], env=environment, check=True)
    for parts, later in ((0, 0.05), (1, 0.0), (3, 0.08), (4, 0.03)):
        driver = subprocess.Popen([*command, tmp_path / "killed", str(workers)], env=environment)
        wait_for(lambda n=parts: (tmp_path / "killed/plan/plan.json").exists() and len(files(tmp_path / "killed")) > n)
        time.sleep(later)
        driver.send_signal(signal.SIGKILL)
        driver.wait(10)
        assert open_plan(Storage.at(tmp_path / "killed")) is None
    subprocess.run([*command, tmp_path / "killed", str(workers)], env=environment, check=True)
    assert files(tmp_path / "killed") == files(tmp_path / "whole") and len(files(tmp_path / "whole")) == 7


@dataclass(kw_only=True)
class Shout(Stage):
    """Fails the first time it sees a clip whose number ends in 7, for want of a file."""

    flag: str = ""

    def process(self, sample: Sample) -> Sample:
        if sample.key.endswith("7") and not Path(self.flag).exists():
            raise DataError("no_answer", "try again")
        sample.meta[self.name] = {"said": sample.caption.upper()}
        return sample


def test_a_retry_is_one_more_part_and_names_what_failed_while_planning(tmp_path):
    recipe = Recipe(plan=[Shout(flag=str(tmp_path / "flag"))], units=Units(clips=4))
    plan = make_plan(recipe, [*clips(20), planned("bad", None, error=DataError("bad_row", "it broke"))], Storage.at(tmp_path), {})
    assert [s.key for s in first(plan, all_of_it=True) if s.verdict.reason == "no_answer"] == ["v7_00007", "v17_00017"]
    (tmp_path / "flag").touch()
    again = append_retry(recipe, plan, pa.array(["v3_00003", "v7_00007", "v17_00017"]))
    assert again.groups == [*plan.groups, Group(1, 1, 3, attempt=1)] and again.clips == plan.clips
    (samples,) = [samples for _, samples in again.units(1)]
    assert [s.key for s in samples] == ["v3_00003", "v7_00007", "v17_00017"]
    assert all(s.alive and s.meta["shout"]["said"] == "A MAN TALKS." for s in samples)
    assert open_plan(Storage.at(tmp_path)) == again
    assert append_retry(recipe, again, pa.array([], pa.string())) is again


def test_a_retry_leaves_what_is_known_and_comes_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(plans, "PART", 4)
    recipe = Recipe(plan=[Shout(flag=str(tmp_path / "flag"))])
    rows = [*clips(18), planned("bad", None, error=DataError("bad_row", "it broke"))]
    plan = make_plan(recipe, rows, Storage.at(tmp_path), {})
    (tmp_path / "flag").touch()
    failed = pa.array([s.key for s in rows if s.key not in ("v1_00001", "v2_00002")])
    Storage.at(tmp_path).write("plan/part-00006.parquet", b"of an append that was killed")
    shouted = Shout.process
    asked = []
    monkeypatch.setattr(Shout, "process", lambda self, sample: asked.append(sample.key) or shouted(self, sample))
    again = append_retry(recipe, plan, failed)
    added = [g for g in again.groups if g.attempt]
    assert asked == ["v7_00007", "v17_00017"], "what the others were told stands"
    assert [g.clips for g in added] == [4, 4, 4, 4] and {g.attempt for g in added} == {1} and added[0].group == len(plan.groups)
    found = [s for g in added for _, samples in again.units(g.group) for s in samples]
    assert [s.key for s in found] == [k for k in failed.to_pylist() if k != "bad"] and all(s.meta["shout"] for s in found)
    assert {g.attempt for g in append_retry(recipe, again, failed).groups} == {0, 1, 2}
    assert append_retry(recipe, again, pa.array(["bad", "nobody"])) is again
    assert again.info["hash"] == plan.info["hash"] and again.info["verdicts"] == plan.info["verdicts"]


@dataclass(kw_only=True)
class Away(Stage):
    """An endpoint that does not answer, for so many calls."""

    calls: int = 0

    def process(self, sample: Sample) -> Sample:
        self.calls -= 1
        if self.calls >= 0:
            raise ConnectionError("nobody listens")
        return sample


def test_an_endpoint_that_is_away_for_a_moment_is_nobodys_verdict(tmp_path, monkeypatch):
    monkeypatch.setattr(captions, "PAUSES", (0.01, 0.01))
    plan = make_plan(Recipe(plan=[Away(calls=2)]), clips(3), Storage.at(tmp_path), {})
    assert plan.info["verdicts"] == {"kept": 3}
    with pytest.raises(PlanError, match="planning stopped: away: ConnectionError: nobody listens; the same command goes on"):
        make_plan(Recipe(plan=[Away(calls=100)]), clips(3), Storage.at(tmp_path / "other"), {})
    assert open_plan(Storage.at(tmp_path / "other")) is None


def test_only_the_clips_at_hand_are_asked_again(tmp_path, monkeypatch):
    """What was answered before the endpoint went stands."""
    monkeypatch.setattr(captions, "PAUSES", (0.01,))
    seen = []

    def process(self, sample):
        seen.append(sample.key)
        sample.meta.setdefault("away", {"asked": 0})["asked"] += 1
        if seen.count("v3_00003") == 1 and sample.key == "v3_00003":
            raise ConnectionError("nobody listens")
        return sample

    monkeypatch.setattr(Away, "process", process)
    plan = make_plan(Recipe(plan=[Away()]), clips(6), Storage.at(tmp_path), {})
    assert [s.meta["away"]["asked"] for s in first(plan)] == [1] * 6
    assert seen == [c.key for c in [*clips(4), clips(4)[3], *clips(6)[4:]]]


@dataclass(kw_only=True)
class Dies(Stage):
    """Ends its process, once or always, with the first clip that it sees."""

    flag: str = ""
    always: bool = False

    def process(self, sample: Sample) -> Sample:
        if self.always or not Path(self.flag).exists():
            Path(self.flag).touch()
            os._exit(1)
        return sample


def test_a_planning_process_that_dies_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(captions, "BATCH", 2)
    with pytest.raises(PlanError, match="planning stopped: a process of the caption stages has died"):
        make_plan(Recipe(plan=[Dies(flag=str(tmp_path / "flag"))]), clips(8), Storage.at(tmp_path), {}, workers=2)
    assert make_plan(Recipe(plan=[Dies(flag=str(tmp_path / "flag"))]), clips(8), Storage.at(tmp_path), {}).clips == 8


def test_an_actor_that_dies_is_replaced_and_one_that_always_does_is_one_line(tmp_path, monkeypatch, cluster):
    import ray.cloudpickle

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setattr(captions, "BATCH", 2)
    stage = Dies(flag=str(tmp_path / "flag"))
    plan = make_plan(Recipe(plan=[stage]), clips(8), Storage.at(tmp_path / "once"), {}, address=cluster.address)
    assert plan.info["verdicts"] == {"kept": 8}
    stage.always = True
    with pytest.raises(PlanError, match="planning stopped: a worker of the caption stages has gone"):
        make_plan(Recipe(plan=[stage]), clips(8), Storage.at(tmp_path / "always"), {}, address=cluster.address)


@pytest.mark.parametrize("error", ["load", "away"])
def test_what_breaks_on_a_cluster_says_the_same_as_here(tmp_path, monkeypatch, cluster, error):
    import ray.cloudpickle

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    ray.cloudpickle.register_pickle_by_value(captions)  # with the pauses as they are here
    monkeypatch.setattr(captions, "BATCH", 2)
    monkeypatch.setattr(captions, "PAUSES", (0.01,))
    stage = WhoIsIt(broken=True, log=str(tmp_path / "log")) if error == "load" else Away(calls=100)
    expected = (OSError, "no weights here") if error == "load" else (PlanError, "planning stopped: away: ConnectionError: nobody")
    try:
        with pytest.raises(expected[0], match=expected[1]):
            make_plan(Recipe(plan=[stage]), clips(8), Storage.at(tmp_path), {}, address=cluster.address)
    finally:
        ray.cloudpickle.unregister_pickle_by_value(captions)


def test_a_stage_that_answers_many_is_one_actor(tmp_path, monkeypatch, cluster):
    import ray.cloudpickle

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setattr(captions, "BATCH", 4)
    plan = make_plan(Recipe(plan=[WhoIsIt(at_once=2)]), clips(12), Storage.at(tmp_path), {}, address=cluster.address)
    assert len({s.meta["who_is_it"]["process"] for s in first(plan, all_of_it=True)}) == 1


def test_a_plan_in_an_object_store_is_the_same(tmp_path, monkeypatch, s3):
    monkeypatch.setattr(plans, "PART", 30)
    monkeypatch.setattr(keys, "BATCH", 10)
    here = make_plan(Recipe(units=Units(clips=4)), clips(70), Storage.at(tmp_path), {})

    def breaks():
        yield from clips(40)
        raise KeyboardInterrupt

    storage = Storage.at(f"{s3}/out")
    with pytest.raises(KeyboardInterrupt):
        make_plan(Recipe(units=Units(clips=4)), breaks(), storage, {})
    there = make_plan(Recipe(units=Units(clips=4)), clips(70), storage, {})
    assert there.info == here.info and {name: storage.read(f"plan/{name}") for name in storage.names("plan")} == files(tmp_path)
    assert [list(there.units(g)) for g in range(3)] == [list(here.units(g)) for g in range(3)]


def test_caption_stages_run_on_a_cluster(tmp_path, monkeypatch, cluster):
    import ray.cloudpickle

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setattr(captions, "BATCH", 8)
    recipe = Recipe(plan=[Shout(flag=str(tmp_path))])
    here = make_plan(recipe, clips(60), Storage.at(tmp_path / "here"), {})
    there = make_plan(recipe, clips(60), Storage.at(tmp_path / "there"), {}, address=cluster.address)
    assert here.info == there.info and files(tmp_path / "here") == files(tmp_path / "there")


def test_a_plan_made_from_something_else_is_refused(tmp_path):
    plan = make_plan(Recipe(), clips(1), Storage.at(tmp_path), {"input": "a", "plan": {"extract_entities": {"model": "rules"}}})
    check(plan.storage, plan.info, {"input": "a", "plan": {"extract_entities": {"model": "rules"}}})
    with pytest.raises(PlanError, match="plan.extract_entities.model: rules → llm"):
        check(plan.storage, plan.info, {"input": "a", "plan": {"extract_entities": {"model": "llm"}}})


def test_an_unfinished_plan_is_no_plan(tmp_path):
    def breaks():
        yield from clips(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_plan(Recipe(), breaks(), Storage.at(tmp_path), {})
    assert open_plan(Storage.at(tmp_path)) is None
    assert make_plan(Recipe(), clips(3), Storage.at(tmp_path), {}).clips == 3


def test_the_limit_is_planned(tmp_path):
    assert make_plan(Recipe(), iter(clips(10)), Storage.at(tmp_path), {}, limit=4).clips == 4


@pytest.mark.parametrize("gpus", [None, 0.5])
def test_a_caption_stage_on_a_gpu_has_a_process_of_its_own(tmp_path, gpus):
    """Its memory is free when the plan is made: the process has ended."""
    plan = make_plan(Recipe(plan=[WhoIsIt(gpus=gpus, log=str(tmp_path / "closed"))]), clips(3), Storage.at(tmp_path / "out"), {})
    processes = {s.meta["who_is_it"]["process"] for s in first(plan)}
    if gpus is None:
        assert processes == {os.getpid()} and (tmp_path / "closed").exists()
    else:
        assert len(processes) == 1 and os.getpid() not in processes
        with pytest.raises(ProcessLookupError):
            os.kill(processes.pop(), 0)


def test_a_stage_that_answers_many_has_one_process_with_several_callers(tmp_path, monkeypatch):
    """Three batches, and in each nobody goes on before two clips are at work."""
    monkeypatch.setattr(captions, "BATCH", 4)
    plan = make_plan(Recipe(plan=[WhoIsIt(at_once=2)]), clips(12), Storage.at(tmp_path), {})
    samples = first(plan)
    assert [s.key for s in samples] == [c.key for c in clips(12)] and all(s.alive for s in samples)
    processes = {s.meta["who_is_it"]["process"] for s in samples}
    assert len(processes) == 1 and os.getpid() not in processes


def test_more_processes_where_the_recipe_says_so(tmp_path, monkeypatch):
    """Nobody goes on before there are two of them."""
    monkeypatch.setattr(captions, "BATCH", 2)
    (tmp_path / "there").mkdir()
    plan = make_plan(
        Recipe(plan=[WhoIsIt(at_once=2, workers=2, meet=str(tmp_path / "there"))]), clips(8), Storage.at(tmp_path), {}
    )
    assert all(s.alive for s in first(plan)) and len({s.meta["who_is_it"]["process"] for s in first(plan)}) == 2


@pytest.mark.parametrize("at_once", [1, 2])
def test_what_does_not_load_is_said(tmp_path, at_once):
    with pytest.raises(OSError, match="no weights here"):
        make_plan(
            Recipe(plan=[WhoIsIt(at_once=at_once, broken=True, log=str(tmp_path / "closed"))]), clips(3), Storage.at(tmp_path), {}
        )


def test_a_planning_process_ends_with_its_driver(tmp_path):
    code = "from tests.run.test_plan import *; stage = WhoIsIt(gpus=0.5, linger=True, log=sys.argv[1])\n"
    code += "if __name__ == '__main__': make_plan(Recipe(plan=[stage]), clips(3), Storage.at(Path(sys.argv[1]).parent), {})"
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
