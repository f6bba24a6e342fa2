"""Samples as stages leave them, and runs written by hand: no video, but everything that is said of one."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curation import columns, ledger
from curation.fingerprint import digest
from curation.ledger import Unit
from curation.sample import FAILED, REJECTED, Sample, Verdict
from curation.shards import pack, unit
from curation.storage import Storage

OWNERS = {
    **{"mp4": "split_shots", "frame?.jpg": "sample_frames", "thumb*.jpg": "score_aesthetic"},
    **{"ref.*.webp": "segment_entities", "face.*.jpg": "crop_faces", "background.jpg": "inpaint_background"},
}
RECIPE = {"plan": {}, "clips": {"split_shots": {}, "sample_frames": {}, "score_aesthetic": {}}}
"""What such a run notes of its recipe."""
PROVENANCE = {"version": "0", "recipe": digest(RECIPE), "models": {}}
FACTS = {
    "width": 64,
    "height": 32,
    "fps": 25.0,
    "frames": 50,
    "seconds": 2.0,
    "encoded": True,
    "start": 1.0,
    "end": 3.0,
    "shot": 0,
}


def sample(key: str, size: int = 3000, clip: str | None = None, **meta: Any) -> Sample:
    """A kept one with a video and a frame of random bytes."""
    rng = random.Random(key)
    source = {"clip": clip or key, "video": "v", "url": "https://x/v", "start": 1.0, "end": 3.0, "caption": "A man talks."}
    files = {"frame0.jpg": rng.randbytes(size // 3), "mp4": rng.randbytes(size)}
    return Sample(key, files, {"source": source, "split_shots": dict(FACTS), **meta}, seconds={"split_shots": 0.5})


def rejected(key: str, clip: str | None = None, reason: str = "too_short") -> Sample:
    return sample(key, clip=clip).drop(Verdict(REJECTED, "split_shots", reason, "0.3 s"))


def failed(key: str, clip: str | None = None, stage: str = "split_shots") -> Sample:
    return sample(key, clip=clip).drop(Verdict(FAILED, stage, "no_frames"))


def write(
    storage: Storage, number: int, samples: Sequence[Sample], group: int = 0, attempt: int = 0, **more: Any
) -> dict[str, int]:
    """A finished unit; its clips were planned in the samples' order."""
    planned = list(dict.fromkeys(s.meta["source"]["clip"] for s in samples))
    return unit.write(storage, Unit(group, number), attempt, samples, OWNERS, PROVENANCE, planned, **more)


def run(
    folder: Path | str, units: Sequence[Sequence[Sample]], megabytes: float = 0.01, group: int = 0, attempt: int = 0
) -> Storage:
    """A packed group."""
    storage = Storage.at(folder)
    packer = pack.Packer(len(units), megabytes)
    for number, samples in enumerate(units):
        size = write(storage, number, samples, group, attempt)["bytes"]
        for shard, members in packer.add(number, size):
            pack.pack(storage, group, shard, members, last=members[-1] == len(units) - 1)
    return storage


def age(storage: Storage, name: str) -> None:
    """Make a ledger as it was written before there were columns."""
    table, facts = ledger.read(storage, name)
    storage.write(name, ledger.encoded(table.drop_columns(list(columns.COLUMNS)), **facts))
