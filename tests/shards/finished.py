"""A finished run with known clips, in shards and groups with gaps, and its sidecars by tiny encoders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curation.ledger import Unit
from curation.run import run
from curation.sample import Sample
from curation.shards import pack, unit
from curation.storage import Storage
from tests.shards.made import rejected
from tests.trainer import made

RECIPE = """
clips:
  - encode_latents:
      codec: dct
      dtype: {dtype}
      starts: 2
      buckets: [{{frames: 9, width: 96, height: 64}}, {{frames: 17, width: 64, height: 64}}]
  - encode_captions: {{encoder: minilm, dtype: {dtype}, length: 40, weights: {weights}}}
units: {{clips: 1}}
limits: {{max_failed: 1.0}}
shards: {{sidecar: latents}}
"""
KEPT = {
    "shard-00000-0000": ["a0", "a1", "a2"],
    "shard-00000-0002": ["b_s001", "short", "c"],
    "shard-00002-0000": ["d"],
}
"""What the run keeps, by shard; its shard-00000-0001 keeps nothing, nor does its group 1. `short` fits no bucket."""


def main(out: Path | str, bad: bytes | None = None) -> Storage:
    """The run; `bad`: the bytes of c's video."""
    storage = Storage.at(out)
    shards: list[tuple[int, Sequence[Sample]]] = [
        (0, [rejected("r0"), *(made.sample(f"a{i}", frames=20 + 4 * i, subjects=i) for i in range(3))]),
        (0, [rejected("r1")]),
        (0, [made.sample("b_s001"), rejected("r2"), made.sample("short", frames=4), made.sample("c", frames=30, video=bad)]),
        (1, [rejected("r3")]),
        (2, [made.sample("d", fps=30, frames=40)]),
    ]
    numbers = [sum(g == group for g, _ in shards[:i]) for i, (group, _) in enumerate(shards)]
    for number, (group, samples) in zip(numbers, shards, strict=True):
        for one in samples:
            one.meta["source"]["clip"] = one.key.partition("_")[0]
        clips = [one.meta["source"]["clip"] for one in samples]
        unit.write(storage, Unit(group, number), 0, samples, made.OWNERS, made.PROVENANCE, clips)
        pack.pack(storage, group, number, [number])
    return storage


def recipe(folder: Path, weights: Path, dtype: str = "fp32") -> Path:
    path = folder / f"sidecars-{dtype}.yaml"
    path.write_text(RECIPE.format(weights=weights, dtype=dtype))
    return path


def encode(recipe: Path, source: Path | str, out: Path | str, **options: Any) -> Storage:
    """The sidecars."""
    assert run.run(str(recipe), str(source), str(out), **{"local": True, **options}) == 0
    return Storage.at(out)
