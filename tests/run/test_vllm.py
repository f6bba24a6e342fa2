"""vLLM's engine in the workers of a run: several units in it at once, and nothing left of it when its worker is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from curation.inputs.folder import read_folder
from curation.recipe import Recipe, Shards, Units
from curation.run import run
from curation.run.engine import Driver
from curation.run.local import Local
from curation.run.plan import make_plan
from curation.stages.extract_entities import UNITS, ExtractEntities
from curation.stages.sample_frames import SampleFrames
from curation.stages.split_shots import SplitShots
from curation.storage import Storage
from curation.store import store
from tests import tiny, videos
from tests.conftest import ROOT
from tests.runs import ledger, tars

pytestmark = pytest.mark.paper
pytest.importorskip("vllm", reason="vLLM has an environment of its own: make test builds it")

CAPTIONS = [f"A {who} with a {what} is {doing} near a {where}." for who, what, doing, where in (
    ("man", "red cup", "talking", "car"),
    ("woman", "green bottle", "running", "house"),
    ("dog", "ball", "jumping", "river"),
    ("cat", "long tail", "sleeping", "window"),
    ("boy", "kite", "laughing", "beach"),
    ("girl", "book", "reading", "tree"),
)]  # fmt: skip


@dataclass(kw_only=True)
class Watched(ExtractEntities):
    """Notes in a file of its process, at each of the engine's steps, how many requests are in the engine."""

    name = "extract_entities"
    log: str = ""

    def load(self) -> None:
        super().load()
        inner = self.engine.engine
        step = inner.step

        def counted() -> list:
            with Path(self.log, str(os.getpid())).open("a") as file:
                file.write(f"{inner.get_num_unfinished_requests()}\n")
            return step()

        inner.step = counted


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.mistral(tmp_path_factory.mktemp("mistral"), exact=True))


HOLD = """
import os, sys, time
from pathlib import Path
from curation.models.llm import Question, Vllm

model = Vllm(Path(sys.argv[1]))
model([Question([{"role": "user", "content": "a dog"}], None, 3)])
Path(sys.argv[2]).touch()
model([Question([{"role": "user", "content": "a cat"}], None, 4000)] * 50)
"""
"""A process with an engine that is at work when the file of the second argument is there."""


def wait_for(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def alive(mark: str) -> set[int]:
    """Processes whose environment holds the mark: children inherit it, whoever their parent is by now."""
    found = set()
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdecimal() and mark.encode() in (folder / "environ").read_bytes():
                found.add(int(folder.name))
        except OSError:
            continue
    return found


def curated(folder: Path, weights: str, *, local: bool) -> Path:
    """A run with one worker over one small video per caption, one clip a unit, and a store of its own that has WordNet alone."""
    import ray.cloudpickle

    from curation.run.cluster import OnRay

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    wordnet, home, log = store.path("wordnet"), folder / "home", folder / "log"
    (home / "models").mkdir(parents=True), log.mkdir()
    (home / "models/wordnet").symlink_to(wordnet)
    mistral = Watched(model="mistral", weights=weights, plural_subjects="keep", workers=1, log=str(log))
    stages = [mistral, SplitShots(detector="none", min_seconds=0.1), SampleFrames()]
    recipe = Recipe(clips=stages, units=Units(clips=1), shards=Shards(megabytes=0.01), path=folder / "recipe.yaml")
    recipe.path.write_text("clips: []")
    clips = folder / "clips"
    clips.mkdir()
    for i, caption in enumerate(CAPTIONS):
        videos.write([videos.picture(10 * i + n) for n in range(8)], clips / f"v{i}.mp4")
        (clips / f"v{i}.txt").write_text(caption)
    storage = Storage.at(folder / "out")
    plan = make_plan(recipe, read_folder(str(clips)), storage, {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CURATION_HOME", str(home))
        patch.delenv("RAY_ADDRESS", raising=False)
        job = replace(run.begin(recipe, plan, storage), provenance={"version": "1", "recipe": "r", "models": {}})
        executor = Local(recipe, job, lambda _: None) if local else OnRay(recipe, job, lambda _: None, None)
        try:
            Driver(job, plan, executor, lambda _: None, max_failed=1.0, megabytes=0.01).run()
        finally:
            executor.close()
    return folder / "out"


def most_at_once(out: Path) -> list[int]:
    """For each process of the run, the most requests that were in its engine."""
    return [max(int(line) for line in file.read_text().split()) for file in (out.parent / "log").iterdir()]


@pytest.fixture(scope="module")
def local(weights: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run without Ray, one unit after the other."""
    out = curated(tmp_path_factory.mktemp("local"), weights, local=True)
    assert most_at_once(out) == [1]
    return out


def test_several_units_are_in_one_engine_and_the_bytes_are_those_of_a_local_run(
    local: Path, weights: str, tmp_path: Path
) -> None:
    out = curated(tmp_path, weights, local=False)
    [most] = most_at_once(out)
    assert 2 <= most <= UNITS
    assert set(ledger(out).values()) == {"kept"} and ledger(out) == ledger(local)
    assert tars(out) == tars(local) and len(tars(out)) > 1


@pytest.mark.slow
def test_nothing_is_left_of_an_engine_whose_ray_worker_is_killed(local: Path, weights: str, tmp_path: Path) -> None:
    """It dies with several units in its engine; another worker takes them up, and the bytes are the same."""
    import psutil  # came with vLLM

    killed: list[set[int]] = []

    def kill() -> None:
        """The first process of the run, as soon as two units are in its engine."""
        log = tmp_path / "log"
        wait_for(lambda: log.exists() and any("2" in file.read_text() for file in log.iterdir()))
        worker = int(next(log.iterdir()).name)
        killed.append({worker, *(child.pid for child in psutil.Process(worker).children(recursive=True))})
        os.kill(worker, signal.SIGKILL)

    with ThreadPoolExecutor(1) as pool:
        killing = pool.submit(kill)
        out = curated(tmp_path, weights, local=False)
        killing.result()
    assert len(most_at_once(out)) == 2, "two workers had an engine"
    wait_for(lambda: not any(Path(f"/proc/{process}").exists() for process in killed[0]), 10)
    assert tars(out) == tars(local) and ledger(out) == ledger(local)


def test_nothing_is_left_of_an_engine_whose_process_is_killed(weights: str, tmp_path: Path) -> None:
    mark = f"CURATION_TEST_MARK={tmp_path.name}-{os.getpid()}"
    environment = {**os.environ, **dict([mark.split("=")]), "PYTHONPATH": str(ROOT)}
    holder = subprocess.Popen([sys.executable, "-c", HOLD, weights, tmp_path / "busy"], env=environment)
    wait_for((tmp_path / "busy").exists)
    assert holder.pid in alive(mark)
    holder.send_signal(signal.SIGKILL)
    holder.wait(10)
    wait_for(lambda: not alive(mark), 10)
