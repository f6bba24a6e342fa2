"""Shard writing against plain tarfile, side by side: the same members, the same disk. Prints one JSON line per figure.

python benchmarks/write_shards.py [--megabytes 512] [--rounds 5]
"""

from __future__ import annotations

import argparse
import io
import json
import random
import statistics
import tarfile
import tempfile
import time
from pathlib import Path

from curation import shards
from curation.sample import Sample

PROVENANCE = {"version": "0", "recipe": "0", "models": {}}


def samples(megabytes: int) -> list[Sample]:
    """Kept samples with a clip of a megabyte and nine pictures of 60 kB each, random bytes."""
    rng = random.Random(0)
    made = []
    for i in range(max(1, int(megabytes / 1.54))):
        source = {"clip": f"key{i:06d}", "video": "v", "url": "", "start": 0.0, "end": 4.0, "caption": "A man talks."}
        shot = {"width": 640, "height": 360, "fps": 30.0, "frames": 120}
        files = {"mp4": rng.randbytes(1_000_000), **{f"ref.0.{f}.webp": rng.randbytes(60_000) for f in range(9)}}
        made.append(Sample(source["clip"], files=files, meta={"source": source, "split_shots": shot}))
    return made


def write_ours(folder: Path, records: list[shards.Record]) -> None:
    shards.write(folder, 0, records)


def plain(folder: Path, records: list[shards.Record]) -> None:
    with tarfile.open(folder / "plain.tar", "w") as tar:
        for done in records:
            for name, data in done.members:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", default=None, help="where to write [default: the system's temporary folder]")
    arguments = parser.parse_args()
    made = samples(arguments.megabytes)
    size = sum(len(data) for s in made for data in s.files.values()) / 1e6
    ours, theirs = [], []
    for i in range(arguments.rounds + 1):
        records = [shards.record(0, s, PROVENANCE) for s in made]
        seconds = {}
        for write in (write_ours, plain) if i % 2 else (plain, write_ours):
            with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
                start = time.perf_counter()
                write(Path(folder), records)
                seconds[write] = time.perf_counter() - start
        if i:  # the first round warms up
            ours.append(size / seconds[write_ours])
            theirs.append(size / seconds[plain])
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    print(json.dumps({"figure": "shards.write MB/s", "value": round(statistics.median(ours))}))
    print(json.dumps({"figure": "tarfile MB/s", "value": round(statistics.median(theirs))}))
    print(json.dumps({"figure": "shards.write / tarfile", "value": round(ratio, 3), "aim": ">= 0.9"}))


if __name__ == "__main__":
    main()
