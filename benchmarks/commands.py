"""Whole commands, start-up included, in turns on the same machine. Prints one JSON line per figure.

    python benchmarks/commands.py embedded --data ../shared/data/panda70m-mini --parent CHECKOUT [--rounds 2]
    python benchmarks/commands.py split --data ../shared/data/panda70m-mini [--rounds 2]
    python benchmarks/commands.py content --data ../shared/data/panda70m-mini [--rounds 2] [--repeat 3]

embedded: `curation run embedded` over the clips with Ray, against the same of another checkout, and against its stages' own
seconds on the cores. split: `curation run` of a recipe that only splits and writes, over the long videos, against
benchmarks/plain_split.py. content: the same with `detector: content`, against PySceneDetect's own command at its crf. `--repeat`:
every long video so many times, to see what is start-up.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from curation.machine import cpus

HERE = Path(__file__).parents[1]
SPLIT = """
clips:
  - split_shots: {on_boundary: split, min_seconds: 0, max_seconds: 3600, detector: DETECTOR, KNOBS}
units: {clips: 1}
"""
KNOBS = {"transnetv2": "window_frames: 200", "content": "crf: 22"}


def timed(command: list[object], folder: Path, checkout: Path = HERE) -> tuple[float, str]:
    """Wall seconds of a process, and what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    start = time.perf_counter()
    done = subprocess.run(list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command}: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return time.perf_counter() - start, done.stdout


def curation(recipe: object, videos: Path) -> list[object]:
    return [sys.executable, "-m", "curation.cli", "run", recipe, "--input", videos, "--output", "out"]


def in_turns(ways: Mapping[str, Callable[[Path], tuple[float, str]]], rounds: int) -> dict[str, list[tuple[float, str]]]:
    took: dict[str, list[tuple[float, str]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            with tempfile.TemporaryDirectory() as folder:
                took[name].append(way(Path(folder)))
            print(json.dumps({"figure": name, "s": round(took[name][-1][0], 1)}), flush=True)
    return took


def ratio(a: list[tuple[float, str]], b: list[tuple[float, str]]) -> float:
    """How many times faster b is, by the median of the rounds."""
    return round(statistics.median(x[0] / y[0] for x, y in zip(a, b, strict=True)), 2)


def embedded(data: Path, parent: Path, rounds: int) -> None:
    ways = {
        "parent": lambda folder: timed(curation("embedded", data / "clips"), folder, parent),
        "ours": lambda folder: timed(curation("embedded", data / "clips"), folder),
    }
    took = in_turns(ways, rounds)
    spent = [sum(float(s) for s in re.findall(r"[a-z_]+ ([\d.]+)", out.rpartition("per stage:")[2])) for _, out in took["ours"]]
    share = statistics.median(s / cpus() / wall for s, (wall, _) in zip(spent, took["ours"], strict=True))
    print(json.dumps({"figure": "embedded, times faster than the parent", "value": ratio(took["parent"], took["ours"])}))
    print(json.dumps({"figure": "stages' own seconds on all cores / wall time", "value": round(share, 2), "cores": cpus()}))


def split(data: Path, rounds: int, repeat: int, detector: str) -> None:
    videos = sorted((data / "videos").glob("*.mp4"))
    with tempfile.TemporaryDirectory() as folder:
        named = Path(folder, "videos")
        named.mkdir()
        for number in range(repeat):
            for video in videos:  # a folder of videos wants captions
                (named / f"{video.stem}_{number}.mp4").symlink_to(video.resolve())
                (named / f"{video.stem}_{number}.txt").write_text("A video.")
        recipe = Path(folder, "split.yaml")
        recipe.write_text(SPLIT.replace("DETECTOR", detector).replace("KNOBS", KNOBS[detector]))
        plain = [sys.executable, HERE / "benchmarks" / "plain_split.py", ".", *videos * repeat]
        scenedetect = Path(sys.executable).with_name("scenedetect")
        theirs = {
            "transnetv2": lambda out: timed(plain, out),
            "content": lambda out: (
                sum(timed([scenedetect, "-q", "-i", v, "detect-content", "split-video"], out)[0] for v in videos * repeat),
                "",
            ),
        }
        took = in_turns({"theirs": theirs[detector], "ours": lambda out: timed(curation(recipe, named), out)}, rounds)
    print(
        json.dumps(
            {
                "figure": f"split with {detector}, times faster",
                "videos": len(videos) * repeat,
                "value": ratio(took["theirs"], took["ours"]),
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("what", choices=["embedded", "split", "content"])
    parser.add_argument("--data", type=Path, required=True, help="the panda70m-mini folder")
    parser.add_argument("--parent", type=Path, help="another checkout to compare with")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=1)
    arguments = parser.parse_args()
    data = arguments.data.resolve()
    if arguments.what == "embedded":
        if not arguments.parent:
            sys.exit("embedded wants --parent, a checkout of another commit")
        embedded(data, arguments.parent.resolve(), arguments.rounds)
        return
    if not shutil.which("ffmpeg"):
        sys.exit("the other side needs the ffmpeg command")
    split(data, arguments.rounds, arguments.repeat, "transnetv2" if arguments.what == "split" else "content")


if __name__ == "__main__":
    main()
