"""`curation plan` on generated captions: rows per second and peak memory, without and with the rules extractor.

python benchmarks/plan_rows.py --rows 100000 1000000 [--extractor rules|none] [--workers N]
Each figure is measured in a process of its own, so that peaks do not mix. Prints one JSON line per figure.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WHO = [
    "A man",
    "A young woman",
    "A golden retriever",
    "A chef",
    "A cyclist",
    "A girl with long hair",
    "Two children",
    "A red car",
]
DOES = ["is holding", "walks past", "is talking about", "points at", "sits beside", "plays with", "looks at", "repairs"]
WHAT = ["a bottle", "an old bicycle", "a laptop", "a wooden table", "a cup of coffee", "a guitar", "a white dog", "a smart phone"]
WHERE = [
    "in a kitchen",
    "on a beach",
    "in front of a house",
    "at night",
    "on a busy street",
    "in a recording studio",
    "",
    "in the snow",
]


def write_csv(path: Path, rows: int) -> None:
    """A Panda-70M CSV over `rows` clips, eighteen a video (70.7M clips over 3.78M videos), captions that mostly differ."""
    rng = random.Random(0)
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["videoID", "url", "timestamp", "caption", "matching_score"])
        for video in range(0, rows, 18):
            count = min(18, rows - video)
            captions = [
                f"{rng.choice(WHO)} {rng.choice(DOES)} {rng.choice(WHAT)} {rng.choice(WHERE)}".strip() + "." for _ in range(count)
            ]
            times = [[f"0:{i // 60:02d}:{i % 60:02d}.000", f"0:{i // 60:02d}:{i % 60:02d}.900"] for i in range(count)]
            out.writerow([f"v{video:09d}", f"https://u/v{video}", str(times), str(captions), str([0.45] * count)])


def measure(path: str, out: str, extractor: str, workers: int | None) -> None:
    """In a child process: plan and print rows/s and the peak memory of this process and of its largest child."""
    import resource

    from curation.inputs.open import open_input
    from curation.recipe import Recipe, stage_class
    from curation.run.plan import make_plan
    from curation.storage import Storage

    stages = [stage_class("extract_entities")(model=extractor)] if extractor != "none" else []
    start = time.perf_counter()
    plan = make_plan(Recipe(plan=stages), open_input(path, str(Path(path).parent)), Storage.at(out), {}, workers=workers)
    seconds = time.perf_counter() - start
    peak, child = (resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(
        json.dumps(
            {
                "clips": plan.clips,
                "rows_per_second": round(plan.clips / seconds),
                "cpu_seconds": round(time.process_time(), 2),
                "peak_mb": round(peak),
                "child_mb": round(child),
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--extractor", nargs="+", default=["none", "rules"])
    parser.add_argument("--workers", type=int)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(*arguments.measure, arguments.workers)
        return
    for extractor in arguments.extractor:
        for rows in arguments.rows:
            with tempfile.TemporaryDirectory() as folder:
                source = Path(folder) / "panda.csv"
                write_csv(source, rows)
                for video in range(0, rows, 18):  # planning asks whether the video is there
                    (Path(folder) / f"v{video:09d}.mp4").touch()
                command = [sys.executable, __file__, "--measure", str(source), f"{folder}/out", extractor]
                command += ["--workers", str(arguments.workers)] if arguments.workers else []
                found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                print(json.dumps({"figure": f"plan, extractor {extractor}", "rows": rows, **found}), flush=True)


if __name__ == "__main__":
    main()
