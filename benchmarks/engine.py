"""Ray with one worker per stage against --local on the same clips, start-up apart, in turns. Prints one JSON line per figure.

python benchmarks/engine.py --data ../shared/data/panda70m-mini [--rounds 2] [--limit 24]

Both run the embedded recipe in units of four clips. Start-up is all before the first stage touches its first clip: Ray itself,
processes, imports, weights.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
from pathlib import Path

from curation import engine, plan, recipe
from curation.inputs.open import open_input


def measure(chosen: recipe.Recipe, planned: plan.Plan, out: Path, local: bool) -> tuple[float, float]:
    """Seconds of start-up and of work."""
    job = engine.Job(out, planned, {"version": "0", "recipe": "0", "models": {}}, local)
    began = time.monotonic()
    first: list[float] = []
    watch = threading.Thread(target=wait_for_work, args=(out / ".journal", first), daemon=True)
    watch.start()
    if local:
        engine.run_local(chosen, job, job.todo(), lambda _: None, lambda *_: None)
    else:
        engine.run_ray(chosen, job, job.todo(), lambda _: None, address=None, bars=False)
    ended = time.monotonic()
    watch.join()
    return first[0] - began, ended - first[0]


def wait_for_work(journal: Path, first: list[float]) -> None:
    while not (journal.exists() and any(journal.iterdir())):
        time.sleep(0.005)
    first.append(time.monotonic())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--limit", type=int, default=24)
    arguments = parser.parse_args()
    chosen = recipe.find("embedded")
    chosen.shards.clips_per_unit = 4
    for stage in chosen.clips:
        stage.workers = 1
    work: dict[str, list[float]] = {"local": [], "ray": []}
    for _ in range(arguments.rounds):
        for mode in work:
            with tempfile.TemporaryDirectory() as folder:
                clips = open_input(str(arguments.data / "panda70m_mini.csv"))
                planned = plan.make_plan(chosen, clips, Path(folder), {}, limit=arguments.limit)
                before, during = measure(chosen, planned, Path(folder), mode == "local")
                work[mode].append(during)
                figures = {"start_up_s": round(before, 1), "work_s": round(during, 1), "units": planned.units}
                print(json.dumps({"figure": mode, **figures}), flush=True)
    ratio = statistics.median(a / b for a, b in zip(work["ray"], work["local"], strict=True))
    print(json.dumps({"figure": "ray / local, start-up apart", "value": round(ratio, 3), "aim": "<= 1.05"}))


if __name__ == "__main__":
    main()
