"""Units written and packed against plain tarfile, side by side: the same members, the same disk. One JSON line per figure.

python benchmarks/write_shards.py [--megabytes 512] [--rounds 5]
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import statistics
import tarfile
import tempfile
import time
from pathlib import Path

from curation.ledger import Unit
from curation.sample import Sample
from curation.shards import pack, unit
from curation.storage import Storage

OWNERS = {"mp4": "split_shots", "ref.*.webp": "segment_entities"}
UNIT = 64
"""Clips, as in paper.yaml."""
PROVENANCE = {"version": "0", "recipe": "0", "models": {}}


def samples(megabytes: int) -> list[Sample]:
    """Kept samples with a clip of a megabyte and nine pictures of 60 kB each, random bytes."""
    rng = random.Random(0)
    made = []
    for i in range(max(1, int(megabytes / 1.54))):
        source = {"clip": f"key{i:06d}", "video": "v", "url": "", "start": 0.0, "end": 4.0, "caption": "A man talks."}
        shot = {"width": 640, "height": 360, "fps": 30.0, "frames": 120, "seconds": 4.0, "encoded": True}
        files = {"mp4": rng.randbytes(1_000_000), **{f"ref.0.{f}.webp": rng.randbytes(60_000) for f in range(9)}}
        made.append(Sample(source["clip"], files=files, meta={"source": source, "split_shots": shot}))
    return made


def ours(folder: Path, made: list[Sample]) -> None:
    storage, units = Storage.at(folder), range(0, len(made), UNIT)
    for number, first in enumerate(units):
        some = made[first : first + UNIT]
        unit.write(storage, Unit(0, number), 0, some, OWNERS, PROVENANCE, [s.key for s in some])
    pack.pack(storage, 0, 0, range(len(units)), last=True)


def plain(folder: Path, made: list[Sample]) -> None:
    """The same members, ready, and on the disk in the end, as ours are."""
    with (folder / "plain.tar").open("wb") as file:
        with tarfile.open(fileobj=file, mode="w") as tar:
            for one in made:
                for name, data in unit.members(one, OWNERS, PROVENANCE):
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
        file.flush()
        os.fsync(file.fileno())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", default=None, help="where to write [default: the system's temporary folder]")
    arguments = parser.parse_args()
    made = samples(arguments.megabytes)
    size = sum(len(data) for s in made for data in s.files.values()) / 1e6
    speeds: dict[str, list[float]] = {"ours": [], "plain": []}
    for i in range(arguments.rounds + 1):
        for write in (ours, plain) if i % 2 else (plain, ours):
            with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
                start = time.perf_counter()
                write(Path(folder), made)
                seconds = time.perf_counter() - start
            if i:  # the first round warms up
                speeds[write.__name__].append(size / seconds)
    ratio = statistics.median(a / b for a, b in zip(speeds["ours"], speeds["plain"], strict=True))
    print(json.dumps({"figure": "units and packing MB/s", "value": round(statistics.median(speeds["ours"]))}))
    print(json.dumps({"figure": "tarfile MB/s", "value": round(statistics.median(speeds["plain"]))}))
    print(json.dumps({"figure": "units and packing / tarfile", "value": round(ratio, 3)}))


if __name__ == "__main__":
    main()
