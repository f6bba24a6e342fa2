"""A dataset of Megatron-Energon: the shards, and `.nv-meta` with what its `prepare` would find in them."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import yaml

from curation.look.export import tars
from curation.look.export.chosen import Chosen

DATASET = {"__module__": "megatron.energon", "__class__": "CrudeWebdataset"}
"""Samples as they are, for a cooker of the user's: none of Energon's own kinds has several references."""


def write(chosen: Chosen, folder: Path) -> dict[str, Any]:
    """The whole of it is the part `train`: who needs another takes it by `--where`. The index of samples by their keys
    (`index.sqlite`), which joining datasets needs, is left to `energon prepare`."""
    places = tars.place(chosen, folder, is_indexed=True)
    meta = folder / ".nv-meta"
    meta.mkdir()
    counts = {name: len(offsets) - 1 for name, offsets in places.items()}
    (meta / ".info.json").write_text(json.dumps({"shard_counts": counts}, indent=2))
    (meta / "split.yaml").write_text(yaml.safe_dump({"split_parts": {"train": [*counts], "val": [], "test": []}, "exclude": []}))
    (meta / "dataset.yaml").write_text(yaml.safe_dump(DATASET))
    for name, offsets in places.items():
        (folder / f"{name}.idx").write_bytes(struct.pack(f"<{len(offsets)}Q", *offsets))
    return {"tars": len(places), "linked": chosen.is_whole and chosen.storage.is_local}
