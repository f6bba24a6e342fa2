"""Many units through the engine, with stages that do nothing but carry realistic sizes: what the spine itself costs.

python benchmarks/scale.py [--units 20000] [--payload 200000] [--lanes 2] [--output DIR]

Plans units of one clip, runs them on Ray through lanes that hand `--payload` bytes to one another, and writes ledgers, no tars.
Prints one JSON line per figure, and every few seconds one with the memory (MB) of the driver and of the largest worker.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from curation.inputs.rows import planned
from curation.recipe import Recipe, Units
from curation.run import run
from curation.run.cluster import OnRay
from curation.run.engine import Driver
from curation.run.plan import make_plan
from curation.sample import Sample
from curation.shards import tally as tallies
from curation.stage import Resources, Stage
from curation.storage import Storage


@dataclass(kw_only=True)
class Carry(Stage):
    """Puts so many bytes beside each sample."""

    resources = Resources(memory=0.2)
    writes = ("_payload",)
    payload: int = 0

    def process(self, sample: Sample) -> Sample:
        sample.files["_payload"] = os.urandom(self.payload)
        sample.meta[self.name] = {"score": 0.5}
        return sample


@dataclass(kw_only=True)
class CarryOn(Carry):
    """The same, in a lane of its own."""


def clips(count: int) -> Iterator[Sample]:
    return (planned(f"v{i:08d}", "A man talks.", path=f"/v/{i}.mp4", video=f"v{i}", start=0.0, end=2.0) for i in range(count))


class Watch(threading.Thread):
    """Memory of the driver and of the workers, by time and finished units."""

    def __init__(self, every: float):
        super().__init__(daemon=True)
        self.every, self.done, self.start_time = every, 0, time.monotonic()
        self.first: float | None = None
        self.curve: list[tuple[int, float, float]] = []
        self.ended = threading.Event()

    def report(self, found: dict[str, int]) -> None:
        self.first = self.first or time.monotonic() - self.start_time
        self.done += found["clips"]

    def run(self) -> None:
        while not self.ended.wait(self.every):
            mine, largest = mb(os.getpid()), max(map(mb, workers()), default=0.0)
            self.curve.append((self.done, mine, largest))
            point = {"units": self.done, "driver_mb": round(mine, 1), "worker_mb": round(largest, 1)}
            print(json.dumps({"figure": "curve", "s": round(time.monotonic() - self.start_time, 1), **point}), flush=True)


def mb(process: int) -> float:
    """Resident memory; 0 of a process that has ended."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        return 0.0


def workers() -> list[int]:
    """Processes of Ray's actors that run lanes."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdecimal() and b"MapWorker" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=20_000)
    parser.add_argument("--payload", type=int, default=200_000)
    parser.add_argument("--lanes", type=int, default=2)
    parser.add_argument("--every", type=float, default=20.0)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(arguments, Storage.at(arguments.output or folder), Path(folder))


def measure(arguments: argparse.Namespace, storage: Storage, folder: Path) -> None:
    stages = [kind(payload=arguments.payload, workers=1) for kind in (Carry, CarryOn)[: arguments.lanes]]
    recipe = Recipe(clips=list(stages), units=Units(clips=1), path=folder / "recipe.yaml")
    recipe.path.write_text("clips: []")
    start = time.monotonic()
    plan = make_plan(recipe, clips(arguments.units), storage, {})
    print(json.dumps({"figure": "planning", "clips": plan.clips, "s": round(time.monotonic() - start, 1)}), flush=True)
    job = run.begin(recipe, plan, storage)
    watch = Watch(arguments.every)
    watch.start()
    executor = OnRay(recipe, job, lambda _: None, None)
    try:
        Driver(job, plan, executor, watch.report, max_failed=1.0, megabytes=512).run()
    finally:
        executor.close()
        watch.ended.set()
    took = time.monotonic() - watch.start_time
    half = [point for point in watch.curve if point[0] >= arguments.units / 2] or watch.curve
    grown = (half[-1][1] - half[0][1]) * 1e3 / max(1, half[-1][0] - half[0][0])
    facts = {"units": arguments.units, "lanes": arguments.lanes, "payload": arguments.payload}
    print(json.dumps({"figure": "first result", "s": round(watch.first or 0.0, 1), **facts}))
    print(json.dumps({"figure": "engine", "ms_per_unit": round(1e3 * took / arguments.units, 1), "s": round(took, 1), **facts}))
    print(json.dumps({"figure": "driver memory", "kB_per_unit": round(grown, 2), "aim": "<= 5", **facts}))
    start = time.monotonic()
    tally = tallies.tally(storage)
    took = time.monotonic() - start
    print(json.dumps({"figure": "tally", "s": round(took, 2), "planned": tally.planned, "kept": tally.kept, **facts}))


if __name__ == "__main__":
    main()
