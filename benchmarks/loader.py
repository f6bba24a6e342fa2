"""The trainer's loader against plain webdataset, side by side on the same shards. Prints one JSON line per figure.

Plain webdataset decodes what a sample holds: the whole clip at its own size, every picture. The loader decodes a bucket's frames
at its size and the references drawn, and augments these. A third figure, webdataset without decoding, says what reading alone
costs; with `--sidecars`, a fourth is the loader's when latents and embeddings were encoded before, for the recipe of theirs.

python benchmarks/loader.py SHARDS [--buckets 17x256x144,49x256x144] [--workers 0] [--samples 60] [--rounds 5] [--sidecars DIR]

What of a step is spent waiting for it: `benchmarks/train_step.py RECIPE --shards SHARDS [--sidecars DIR]`.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import torch
import webdataset
from torch.utils.data import DataLoader

from curation.buckets import Bucket
from curation.media import video
from curation.media.picture import Painter
from curation.trainer import clips
from curation.trainer.augment import Augment
from curation.trainer.data import Data, Loader
from curation.trainer.plan import Plan


def decode(name: str, data: bytes) -> Any:
    """webdataset's handler: everything there is."""
    if name.endswith(".mp4"):
        paint = Painter()
        return torch.from_numpy(np.stack([paint(frame) for frame in video.frames(io.BytesIO(data))]))
    if name.endswith((".jpg", ".webp")):
        return torch.from_numpy(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED))
    return json.loads(data) if name.endswith(".json") else None


def plain(urls: list[str], workers: int, decoded: bool) -> Iterator[int]:
    """webdataset's own loader, over and over; one per sample."""
    dataset = webdataset.WebDataset(urls, shardshuffle=False, empty_check=False).repeat()
    loader = DataLoader(dataset.decode(decode) if decoded else dataset, batch_size=None, num_workers=workers)
    yield from (1 for _ in loader)


def ours(plan: Plan, data: Data) -> Iterator[int]:
    """The loader; the clips of each step."""
    loader = Loader(plan, data, augment=Augment())
    yield from (sum(len(batch.keys) for batch in step) for step in loader.steps(0, 10_000))


def rate(batches: Callable[[], Iterator[int]], samples: int) -> float:
    """Samples a second, from the first batch on, so that starting workers does not count."""
    iterator = batches()
    next(iterator)
    start, done = time.perf_counter(), 0
    while done < samples:
        done += next(iterator)
    return done / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards")
    parser.add_argument("--buckets", default="17x256x144,49x256x144")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--samples", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sidecars", help="what was encoded of the shards, for these buckets")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    shapes = [tuple(map(int, name.split("x"))) for name in arguments.buckets.split(",")]
    buckets = [Bucket(frames=f, width=w, height=h, batch=1) for f, w, h in shapes]
    data = Data(buckets=buckets, workers=arguments.workers, upscale=True, min_kept=0.0)
    found_clips, _ = clips.read([clips.Run(arguments.shards)], data)
    plan = Plan(found_clips, buckets, 0)
    urls = [storage.path(name) for storage, name in found_clips.tars]
    ways: dict[str, Callable[[], Iterator[int]]] = {
        "loader": lambda: ours(plan, data),
        "webdataset, all decoded": lambda: plain(urls, arguments.workers, True),
        "webdataset, read only": lambda: plain(urls, arguments.workers, False),
    }
    if arguments.sidecars:
        beside, _ = clips.read([clips.Run(arguments.shards)], data, [arguments.sidecars])
        short = Plan(beside, buckets, 0)
        ways["loader, sidecars"] = lambda: ours(short, data)
    found: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(arguments.rounds):
        for name in list(ways)[:: 1 if turn % 2 else -1]:
            found[name].append(rate(ways[name], arguments.samples))
    for name, values in found.items():
        print(json.dumps({"figure": f"{name}, samples/s", "value": round(statistics.median(values), 1)}))
    for name in ("loader", "loader, sidecars"):
        if name in found:
            ratios = [a / b for a, b in zip(found[name], found["webdataset, all decoded"], strict=True)]
            print(json.dumps({"figure": f"{name} / webdataset, all decoded", "value": round(statistics.median(ratios), 2)}))


if __name__ == "__main__":
    main()
