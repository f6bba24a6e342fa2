"""A stage that does as the caption says, and runs of it: for tests of what the engine does about it."""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from curation import ledger
from curation.faults import DataError
from curation.inputs.folder import read_folder
from curation.limits import Limits
from curation.recipe import Recipe, Shards, Units
from curation.run import run, worker
from curation.run.engine import Driver
from curation.run.local import Local
from curation.run.plan import make_plan
from curation.sample import Sample
from curation.shards.planned import Plan
from curation.stage import Reject, Resources, Stage
from curation.stages.sample_frames import SampleFrames
from curation.stages.split_shots import SplitShots
from curation.storage import Storage
from tests import videos


@dataclass(kw_only=True)
class Obey(Stage):
    """Does what the caption says."""

    resources = Resources(batch=4)
    reads: ClassVar = ("frame?.jpg",)

    at_once: int = 1
    unloadable: bool = False
    farewell: str | None = None
    breaks: str | None = None
    """A folder: the first worker to see its sixth clip is broken from then on, and leaves its name there."""

    def units(self) -> int:
        return self.at_once

    def load(self) -> None:
        if self.unloadable:
            raise RuntimeError("no weights here")
        self.calls = 0

    def close(self) -> None:
        if self.farewell:
            Path(self.farewell, str(os.getpid())).touch()

    def process(self, sample: Sample) -> Sample:
        self._break()
        word, _, argument = sample.caption.partition(" ")
        sample.meta["obey"] = {"order": word}
        match word:
            case "reject":
                raise Reject(argument)
            case "fail":
                raise DataError("bad", argument)
            case "odd":
                raise ValueError(argument)
            case "fail_once" if not Path(argument).exists():
                Path(argument).touch()
                raise DataError("bad", "the first time")
            case "disk_once" if not Path(argument).exists():
                Path(argument).touch()
                raise OSError(28, "No space left on device")
            case "disk":
                raise OSError(28, "No space left on device")
            case "die":
                os._exit(9)
            case "meet" if not meets(Path(argument)):
                raise DataError("alone", "nobody else was here")
            case "die_in_company":
                meets(Path(argument))
                os._exit(9)
            case "bug":
                sample.files["undeclared"] = b""
            case "linger":
                meets(Path(argument))
            case "sleep":
                time.sleep(float(argument))
            case "spin":
                until = time.monotonic() + float(argument)
                while time.monotonic() < until:
                    time.sleep(0.01)
            case "sign":
                place, _, seconds = argument.rpartition(" ")
                Path(place, f"{sample.key}.{os.getpid()}").touch()
                time.sleep(float(seconds))
        return sample

    def _break(self) -> None:
        self.calls += 1
        if not self.breaks:
            return
        mine = Path(self.breaks, f"{os.getpid()}.{id(self)}")
        if self.calls == 6 and not any(Path(self.breaks).iterdir()):
            mine.touch()
        if mine.exists():
            raise ValueError("this worker is broken")


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


@dataclass
class Run:
    """A planned run over one small video per caption, to be executed with some knobs of `Obey`."""

    out: Path
    plan: Plan
    recipe: Recipe
    done: dict[str, int]
    driver: Driver | None = None

    @property
    def storage(self) -> Storage:
        return Storage.at(self.out)

    def execute(self, address: str | None = None, **knobs: Any) -> Run:
        """In this process, or on the Ray cluster at an address."""
        self.recipe.clips[-1] = Obey(**knobs)
        self.recipe.clips[-1].limits = self.recipe.limits
        job = run.begin(self.recipe, self.plan, self.storage)

        def report(found: dict[str, int]) -> None:
            for name, count in found.items():
                self.done[name] = self.done.get(name, 0) + count

        if address:
            import ray.cloudpickle

            from curation.run.cluster import OnRay

            ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
            ray.cloudpickle.register_pickle_by_value(worker)  # with the pauses that a test has shortened
            executor: Any = OnRay(self.recipe, job, lambda _: None, address)
        else:
            executor = Local(self.recipe, job, lambda _: None)
        limits = {"max_failed": self.recipe.limits.max_failed, "megabytes": self.recipe.shards.megabytes}
        self.driver = Driver(job, self.plan, executor, report, **limits)
        try:
            self.driver.run()
        finally:
            executor.close()
        return self

    @property
    def verdicts(self) -> dict[str, str]:
        rows = ledger.rows(self.storage)
        return {r["key"]: f"{r['verdict']} {r['reason']}".strip() for r in rows}

    @property
    def files(self) -> dict[str, bytes]:
        """The tars, by name."""
        return {p.name: p.read_bytes() for p in sorted((self.out / "shards").glob("*.tar"))}


def planned(tmp_path: Path, *captions: str, out: str = "out", clips: int = 4, megabytes: float = 0.03, **limits: float) -> Run:
    """`clips` a unit; shards so small that there are several."""
    folder = tmp_path / "videos"
    folder.mkdir(exist_ok=True)
    for i, caption in enumerate(captions):
        if not (folder / f"v{i:02d}.mp4").exists():
            videos.write([videos.picture(10 * i + n) for n in range(8)], folder / f"v{i:02d}.mp4")
            (folder / f"v{i:02d}.txt").write_text(caption)
    recipe = Recipe(
        clips=[SplitShots(detector="none", min_seconds=0.1), SampleFrames(), Obey()],
        units=Units(clips=clips),
        shards=Shards(megabytes=megabytes),
        path=tmp_path / "recipe.yaml",
    )
    recipe.path.write_text("clips: []")
    recipe.limits = Limits(**{"max_failed": 1.0, **limits})
    plan = make_plan(recipe, read_folder(str(folder)), Storage.at(tmp_path / out), {})
    return Run(tmp_path / out, plan, recipe, {})
