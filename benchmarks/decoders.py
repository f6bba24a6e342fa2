"""PyAV, as the package uses it, against decord2 for the two uses that decode most. Prints one JSON line per figure.

    pip install --no-deps decord2==3.4.0
    python benchmarks/decoders.py ../shared/data/panda70m-mini FOLDER_OF_1080P_VIDEOS [--rounds 3]

shots: every frame of a video as a small picture, for the shot detector (decord2 cannot give 48×27, so it decodes to 64×36 and
OpenCV does the rest). cut: the frames of a training clip from a random start, at a bucket's size. One thread each, in turns in
one process; seconds are the processor's, the value is theirs / ours.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import decord
import numpy as np

from curation.media import resample
from curation.media.picture import Painter
from curation.media.video import Reader, VideoError, extent

SMALL = (48, 27)
FRAMES, FPS = 73, 24.0  # PAPER.md §5: the longest bucket that most clips of the mini set fill
SIZE = (512, 288)
BATCH = 64


def spent(work: Callable[..., None], *given: object) -> float:
    start = time.process_time()
    work(*given)
    return time.process_time() - start


def our_shots(path: str) -> None:
    paint = Painter(lambda width, height: SMALL)
    with Reader(path) as reader:
        for frame in reader.frames():
            paint(frame)


def their_shots(path: str) -> None:
    reader = decord.VideoReader(path, num_threads=1, width=64, height=36)
    for first in range(0, len(reader), BATCH):
        for picture in reader.get_batch(range(first, min(len(reader), first + BATCH))).asnumpy():
            cv2.resize(picture, SMALL, interpolation=cv2.INTER_AREA)


def our_cut(mp4: bytes, start: float) -> None:
    resample.clip(mp4, [start + i / FPS for i in range(FRAMES)], *SIZE)


def their_cut(mp4: bytes, start: float) -> None:
    reader = decord.VideoReader(io.BytesIO(mp4), num_threads=1, width=SIZE[0], height=SIZE[1])
    middles = reader.get_frame_timestamp(range(len(reader))).mean(axis=1)
    times = start + np.arange(FRAMES) / FPS
    reader.get_batch(np.abs(middles[None] - middles[0] - times[:, None]).argmin(axis=1)).asnumpy()


def compare(figure: str, ours: Callable[..., None], theirs: Callable[..., None], files: Sequence[tuple], rounds: int) -> None:
    took = []
    for _ in range(rounds):
        pairs = [(spent(ours, *file), spent(theirs, *file)) for file in files]
        took.append([sum(side) for side in zip(*pairs, strict=True)])
    ratios = [b / a for a, b in took]
    facts = {"ours_s": round(statistics.median(t[0] for t in took), 2), "files": len(files), "lowest": round(min(ratios), 2)}
    print(json.dumps({"figure": figure, "times faster than decord2": round(statistics.median(ratios), 2), **facts}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+", help="folders of videos")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--most", type=int, default=30, help="clips and videos of each kind")
    arguments = parser.parse_args()
    heights: dict[int, list[Path]] = {}
    for path in sorted(path for folder in arguments.data for path in folder.rglob("*.mp4")):
        try:
            with Reader(str(path)) as reader:
                heights.setdefault(next(reader.frames()).size[1], []).append(path)
        except VideoError:
            continue
    if not heights:
        sys.exit("no videos there")
    rng = random.Random(0)
    for height, paths in sorted(heights.items()):
        paths = paths[: arguments.most]
        shots = [(str(path),) for path in paths]
        compare(f"shots, {height} lines", our_shots, their_shots, shots, arguments.rounds)
        slack = {path: extent(str(path)).seconds - (FRAMES + 1) / FPS for path in paths}
        cuts = [(path.read_bytes(), rng.random() * slack[path]) for path in paths if slack[path] > 0]
        if cuts:
            compare(f"cut of {FRAMES} frames, {height} lines", our_cut, their_cut, cuts, arguments.rounds)


if __name__ == "__main__":
    main()
