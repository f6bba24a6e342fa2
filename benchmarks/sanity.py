"""Rows whose order is known: true videos, true videos of other clips, a reference pasted on a background, noise, and samples.

    curation benchmark build --input DATA/panda70m-mini --output runs/bench --per-video all
    python benchmarks/sanity.py runs/bench --output runs/sanity [--samples runs/bench-samples] [--frames 17]

Writes the videos, evaluates each row by the CPU profile (`--profile papers` where its weights are), prints the table and one
JSON line per inequality, and ends with 1 when one does not hold: true > other (view, subject), pasted > true (copy-paste), the
motion of what is pasted 0, noise lowest (subject). Samples of `train-tiny` are scored, and not ordered.

Measured with 8 frames on the 6 clips of one subject that `benchmark build` kept of panda70m-mini (`max_unnamed: 0.5`): in the
order of the rows view .820, .400, .716, .181; subject .781, .342, .904, .000; copy-paste -.270, -.022, .868, –; motion 1, 1,
0, 1.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq

from curation.benchmark import folder, scores, videos
from curation.benchmark.case import Case
from curation.benchmark.evaluate import evaluate
from curation.media.encode import from_arrays

NAMES = {
    "cpu": {
        "view": "view_sim_effnet",
        "subject": "subject_sim_effnet",
        "copy": "copy_paste_effnet",
        "motion": "motion_farneback",
    },
    "papers": {"view": "vid_s", "subject": "subj_s", "copy": "copy_paste", "motion": "dync_d"},
}
Make = Callable[[Case, Sequence[Case], int], tuple[np.ndarray, float]]
"""A clip, all clips, how many frames → those, uint8 RGB [frames, H, W, 3], and their rate."""


def true(case: Case, cases: Sequence[Case], frames: int) -> tuple[np.ndarray, float]:
    video = videos.read(case.video, frames)
    return video.frames, video.fps


def other(case: Case, cases: Sequence[Case], frames: int) -> tuple[np.ndarray, float]:
    """Of the clip half way round, whose subject has another name where there is such a one."""
    place = cases.index(case)
    round_about = [cases[(place + len(cases) // 2 + step) % len(cases)] for step in range(len(cases))]
    strangers = [clip for clip in round_about if not set(clip.subjects) & set(case.subjects)]
    return true((strangers or round_about)[0], cases, frames)


def pasted(case: Case, cases: Sequence[Case], frames: int) -> tuple[np.ndarray, float]:
    """The reference that is given, as it is, in the middle of the background, or of grey where the clip has none."""
    shape, (word, *_) = case.frames[0].shape, case.subjects
    scene = case.scene()
    ground = np.full(shape, 128, np.uint8) if scene is None else cv2.resize(scene, shape[1::-1])
    cutout = case.references(word)[case.single(word)]
    scale = min(1.0, shape[0] / cutout.shape[0], shape[1] / cutout.shape[1])
    size = (max(1, int(cutout.shape[1] * scale)), max(1, int(cutout.shape[0] * scale)))
    cutout = cv2.resize(cutout, size, interpolation=cv2.INTER_AREA)
    top, left = (shape[0] - size[1]) // 2, (shape[1] - size[0]) // 2
    place = ground[top : top + size[1], left : left + size[0]]
    place[cutout[..., 3] > 127] = cutout[cutout[..., 3] > 127][:, :3]
    return np.repeat(ground[None], frames, 0), 24.0


def noise(case: Case, cases: Sequence[Case], frames: int) -> tuple[np.ndarray, float]:
    seed = int.from_bytes(hashlib.sha256(case.key.encode()).digest()[:4], "big")
    return np.random.default_rng(seed).integers(0, 256, (frames, *case.frames[0].shape), np.uint8), 24.0


ROWS: dict[str, Make] = {"true": true, "other clip": other, "pasted": pasted, "noise": noise}


def write(cases: Sequence[Case], place: Path, make: Make, frames: int) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    for case in cases:
        if not (file := place / f"{case.key}.mp4").exists():
            pictures, fps = make(case, cases, frames)
            height, width = (side // 2 * 2 for side in pictures.shape[1:3])
            file.write_bytes(from_arrays(pictures[:, :height, :width], fps))
    return place


def checks(names: dict[str, str], mean: Callable[[str, str], float | None]) -> Iterator[tuple[str, bool]]:
    """What must hold, and whether it does."""

    def above(metric: str, more: str, less: str) -> tuple[str, bool]:
        a, b = mean(more, names[metric]), mean(less, names[metric])
        return f"{names[metric]}: {more} {scores.cell(a)} > {less} {scores.cell(b)}", a is not None and b is not None and a > b

    yield above("view", "true", "other clip")
    yield above("subject", "true", "other clip")
    yield above("copy", "pasted", "true")
    still = mean("pasted", names["motion"])
    yield f"{names['motion']}: pasted {scores.cell(still)} = 0", still == 0.0
    for row in ("true", "other clip", "pasted"):
        yield above("subject", row, "noise")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("benchmark", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--samples", type=Path, help="a folder of KEY.mp4 that a model has made")
    parser.add_argument("--profile", choices=tuple(NAMES), default="cpu")
    parser.add_argument("--frames", type=int, default=17, help="of each video; more than two, for two always move")
    how = parser.parse_args()
    cases = folder.cases(how.benchmark, "subject")
    places = {name: write(cases, how.output / name.replace(" ", "-"), make, how.frames) for name, make in ROWS.items()}
    places |= {"samples": how.samples} if how.samples else {}
    found: dict[str, list[scores.Column]] = {}
    for name, place in places.items():
        out = how.output / "scores" / name.replace(" ", "-")
        evaluate(place, how.benchmark, "subject", profile=how.profile, output=out, frames=how.frames, local=True)
        found[name] = scores.columns(pq.read_table(out / "scores.parquet").to_pylist())
    for line in scores.table(found):
        print("  ".join(f"{cell:>20}" for cell in line))
    means = {(name, column.metric): column.mean for name, own in found.items() for column in own}
    held = list(checks(NAMES[how.profile], lambda row, metric: means.get((row, metric))))
    for text, holds in held:
        print(json.dumps({"check": text, "holds": holds}, ensure_ascii=False))
    return 0 if all(holds for _, holds in held) else 1


if __name__ == "__main__":
    sys.exit(main())
