"""The engine: the real first stage on synthesised videos, then one that does as the caption says."""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from curation import engine, shards
from curation.engine import EngineError, Job
from curation.inputs.folder import read_folder
from curation.plan import make_plan
from curation.recipe import Recipe, Shards
from curation.sample import Sample
from curation.stage import Reject, Resources, Stage, StageBug
from curation.stages.crop_faces import CropFaces
from curation.stages.sample_frames import SampleFrames
from curation.stages.split_shots import SplitShots
from curation.verify import verify
from curation.weights import weights_digest
from tests import videos


@dataclass(kw_only=True)
class Obey(Stage):
    """Does what the caption says."""

    resources = Resources(batch=4)
    reads: ClassVar = ("mp4",)
    writes: ClassVar = ()

    at_once: int = 1
    broken: bool = False
    farewell: str | None = None

    def units(self) -> int:
        return self.at_once

    def load(self) -> None:
        if self.broken:
            raise RuntimeError("no weights here")

    def close(self) -> None:
        if self.farewell:
            Path(self.farewell, str(os.getpid())).touch()

    def process(self, sample: Sample) -> Sample:
        word, _, argument = sample.caption.partition(" ")
        sample.meta["obey"] = {"order": word}
        match word:
            case "reject":
                raise Reject(argument)
            case "fail":
                raise OSError(argument)
            case "fail_once" if not Path(argument).exists():
                Path(argument).touch()
                raise OSError("the disk was away")
            case "die":
                os._exit(9)
            case "meet" if not meets(Path(argument)):
                raise OSError("nobody else was here")
            case "die_in_company":
                meets(Path(argument))
                os._exit(9)
            case "bug":
                sample.files["undeclared"] = b""
            case "linger":
                meets(Path(argument))
            case "sleep":
                time.sleep(float(argument))
        return sample


def meets(place: Path) -> bool:
    """Whether somebody else is there within two seconds, in this process on another thread."""
    mine = f"{os.getpid()}.{threading.get_ident()}"
    (place / mine).touch()
    deadline, others = time.monotonic() + 2, False
    while not others and time.monotonic() < deadline:
        others = any(p.name != mine and p.name.startswith(f"{os.getpid()}.") for p in place.iterdir())
        time.sleep(0.02)
    time.sleep(0.5)
    (place / mine).unlink()
    return others


def recipe(clips_per_unit: int = 4, **knobs: Any) -> Recipe:
    stages = [SplitShots(detector="none", min_seconds=0.1), SampleFrames(window=2), Obey(**knobs)]
    return Recipe(clips=stages, shards=Shards(clips_per_unit=clips_per_unit))


@pytest.fixture
def job(tmp_path):
    """A planned run over one small video per caption."""

    def make(*captions: str, out: str = "out", local: bool = True, retry: bool = False, clips_per_unit: int = 4) -> Job:
        folder = tmp_path / "videos"
        folder.mkdir(exist_ok=True)
        for i, caption in enumerate(captions):
            if not (folder / f"v{i:02d}.mp4").exists():
                videos.write([videos.picture(10 * i + n) for n in range(8)], folder / f"v{i:02d}.mp4")
                (folder / f"v{i:02d}.txt").write_text(caption)
        plan = make_plan(Recipe(shards=Shards(clips_per_unit=clips_per_unit)), read_folder(str(folder)), tmp_path / out, {})
        return Job(tmp_path / out, plan, {"version": "1", "recipe": "r", "models": {}}, local, retry)

    return make


def run_local(made: Recipe, job: Job) -> list[dict[str, int]]:
    found: list[dict[str, int]] = []
    engine.run_local(made, job, job.todo(), found.append, lambda *_: None)
    return found


def run_ray(made: Recipe, job: Job, address: str) -> list[dict[str, int]]:
    import ray.cloudpickle

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    found: list[dict[str, int]] = []
    engine.run_ray(made, job, job.todo(), found.append, address=address, bars=False)
    return found


def verdicts(job: Job) -> dict[str, str]:
    rows = [r for unit in shards.units(job.shards) for r in shards.ledger(job.shards, unit)]
    return {r["key"]: f"{r['status']} {r['reason']}".strip() for r in rows}


def tars(job: Job) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(job.shards.glob("*.tar"))}


CAPTIONS = ["keep", "reject dull", "fail a disk", "keep", "keep", "keep", "reject dull", "keep", "keep", ""]
EXPECTED = [
    "kept",
    "rejected dull",
    "failed OSError: a disk",
    *["kept"] * 3,
    "rejected dull",
    "kept",
    "kept",
    "rejected no_caption",
]


def test_every_planned_clip_is_in_the_ledger(job):
    made = job(*CAPTIONS)
    found = run_local(recipe(), made)
    assert verdicts(made) == {f"v{i:02d}": text for i, text in enumerate(EXPECTED)}
    assert sum(f["planned"] for f in found) == 10 == sum(f[k] for f in found for k in ("kept", "rejected", "failed"))
    total = engine.tally(made.out, made.plan)
    assert (total.planned, total.kept, total.rejected, total.failed) == (10, 6, 3, 1) and total.accounted
    assert total.reasons["rejected", "obey", "dull"] == 2


def test_ray_gives_the_bytes_of_a_local_run(job, cluster):
    here, there = job(*CAPTIONS), job(*CAPTIONS, out="ray", local=False)
    run_local(recipe(), here)
    run_ray(recipe(workers=2), there, cluster.address)
    assert tars(here) == tars(there) and len(tars(here)) == 3
    assert verdicts(here) == verdicts(there)


def test_every_worker_is_closed(job, cluster, tmp_path):
    (tmp_path / "closed").mkdir()
    run_local(recipe(farewell=str(tmp_path / "closed")), job("keep"))
    assert [p.name for p in (tmp_path / "closed").iterdir()] == [str(os.getpid())]
    run_ray(recipe(farewell=str(tmp_path / "closed"), workers=2), job("keep", out="ray", local=False), cluster.address)
    deadline = time.monotonic() + 20
    while len(found := list((tmp_path / "closed").iterdir())) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(found) == 3


def test_what_is_done_is_not_done_again(job):
    made = job(*CAPTIONS)
    run_local(recipe(), made)
    before = {p: p.stat().st_mtime_ns for p in made.shards.iterdir()}
    (made.shards / "shard-000001.parquet").unlink()
    assert made.todo() == [1]
    run_local(recipe(), made)
    again = {p.name for p in made.shards.iterdir() if p.stat().st_mtime_ns != before[p]}
    assert again == {"shard-000001.tar", "shard-000001.parquet"}


def test_a_sample_that_kills_its_worker_fails_and_its_neighbours_survive(job, cluster):
    made = job("keep", "keep", "die", "keep", "keep", "keep", local=False)
    run_ray(recipe(), made, cluster.address)
    expected = {f"v{i:02d}": "kept" for i in range(6)} | {"v02": "failed worker died"}
    assert verdicts(made) == expected
    assert not list((made.out / ".journal").iterdir())


def test_a_worker_takes_several_units_at_once(job, cluster, tmp_path):
    """One clip a unit and one worker: who meets somebody meets another unit."""
    (tmp_path / "inn").mkdir()
    captions = [f"meet {tmp_path / 'inn'}"] * 3
    alone = job(*captions, local=False, clips_per_unit=1)
    run_ray(recipe(workers=1), alone, cluster.address)
    assert set(verdicts(alone).values()) == {"failed OSError: nobody else was here"}
    together = job(*captions, out="together", local=False, clips_per_unit=1)
    run_ray(recipe(workers=1, at_once=3), together, cluster.address)
    assert set(verdicts(together).values()) == {"kept"}


def test_several_units_at_once_give_the_bytes_of_a_local_run(job, cluster):
    here, there = job(*CAPTIONS, clips_per_unit=2), job(*CAPTIONS, out="ray", local=False, clips_per_unit=2)
    run_local(recipe(at_once=3), here)
    run_ray(recipe(workers=1, at_once=3), there, cluster.address)
    assert tars(here) == tars(there) and len(tars(here)) == 5
    assert verdicts(here) == verdicts(there)


def test_a_death_is_not_blamed_on_other_units(job, cluster, tmp_path):
    """Two killers in two units, each dies beside the other units' clips: those are tried again, alone, and come through."""
    (tmp_path / "inn").mkdir()
    captions = [f"{word} {tmp_path / 'inn'}" for word in ("keep", "die_in_company", "linger", "linger", "keep", "die_in_company")]
    made = job(*captions, local=False, clips_per_unit=2)
    run_ray(recipe(workers=1, at_once=3), made, cluster.address)
    found = verdicts(made)
    assert [key for key, verdict in found.items() if verdict == "failed worker died"] == ["v01", "v05"]
    assert [found[key] for key in ("v02", "v03", "v04")] == ["kept"] * 3
    assert not list((made.out / ".journal").iterdir())


def test_retry_runs_the_failed_clips_and_nothing_else(job, tmp_path):
    flag = tmp_path / "flag"
    captions = ["keep", f"fail_once {flag}", "reject dull", "keep", "keep"]
    made = job(*captions)
    run_local(recipe(), made)
    assert verdicts(made)["v01"] == "failed OSError: the disk was away"
    first = shards.ledger(made.shards, 0)
    again = job(*captions, retry=True)
    assert again.todo() == [0] and [s.key for s in again.read(0)] == ["v01"]
    run_local(recipe(), again)
    assert verdicts(again)["v01"] == "kept" and again.todo() == []
    whole = job(*captions, out="whole")
    run_local(recipe(), whole)
    assert tars(again) == tars(whole), "as if it had never failed"
    assert [r["key"] for r in first] == [r["key"] for r in shards.ledger(again.shards, 0)]


def test_a_bug_in_a_stage_stops_the_run(job, cluster):
    with pytest.raises(StageBug, match="undeclared"):
        run_local(recipe(), job("keep", "bug"))
    with pytest.raises(StageBug, match="undeclared"):
        run_ray(recipe(), job("keep", "bug", out="ray", local=False), cluster.address)


def test_a_stage_that_cannot_load_stops_the_run_with_its_reason(job, cluster):
    with pytest.raises(EngineError, match="no weights here"):
        run_ray(recipe(broken=True), job("keep", local=False), cluster.address)


def test_a_shard_with_a_hole_in_it_is_not_published(job):
    made = job("keep", "keep")
    samples = [s.drop("rejected", "obey", "dull") for s in made.read(0)]
    with pytest.raises(StageBug, match="2 clips were planned"):
        made.write(0, samples[:1])
    assert not list(made.shards.glob("*")) if made.shards.exists() else True


def test_a_changed_recipe_is_refused_by_name(job, tmp_path):
    made = job("keep")
    old, new = recipe(), recipe()
    for each in (old, new):
        each.path = tmp_path / "r.yaml"
    old.path.write_text("clips: []")
    engine.prepare(made.out, old, made.plan)
    engine.prepare(made.out, old, made.plan)
    new.clips[0].crf = 30
    with pytest.raises(EngineError, match="clips.split_shots.crf: 18 → 30"):
        engine.prepare(made.out, new, made.plan)


def test_another_checkpoint_under_the_same_path_is_refused_by_name(job, tmp_path):
    made, weights = job("keep"), tmp_path / "face.pt"
    own = Recipe(clips=[*recipe().clips, CropFaces(model="yolo", weights=str(weights))], path=tmp_path / "r.yaml")
    own.path.write_text("clips: []")
    weights.write_bytes(b"one")
    provenance = engine.prepare(made.out, own, made.plan)
    assert provenance["models"]["crop_faces.weights"] == weights_digest(weights)
    weights.write_bytes(b"two")
    with pytest.raises(EngineError, match=f"models.crop_faces.weights: {provenance['models']['crop_faces.weights']} → "):
        engine.prepare(made.out, own, made.plan)


def test_an_address_where_nothing_listens(job):
    with pytest.raises(EngineError, match="no Ray cluster at 127.0.0.1:1"):
        run_ray(recipe(), job("keep", local=False), "127.0.0.1:1")


def test_verify_is_content(job):
    made = job(*CAPTIONS)
    run_local(recipe(), made)
    (made.out / "run.json").write_text('{"recipe": {}}')
    assert [p for p in verify(made.out) if "made by recipe" not in p] == []
