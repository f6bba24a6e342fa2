"""A dataset's folder as the Hugging Face Hub has it: the shards, and a card with the features that `datasets` reads them by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import yaml

from curation.look.export import tars
from curation.look.export.chosen import Chosen
from curation.look.report import provenance
from curation.media.members import from_npy

IMAGES = ("jpg", "jpeg", "png", "webp")
SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M", 10_000_000: "1M<n<10M"}
"""The Hub's names, each for fewer samples than this."""
LARGEST = "10M<n<100M"
Feature = dict[str, Any]


def write(chosen: Chosen, folder: Path) -> dict[str, Any]:
    """`datasets` guesses features from the first samples, and gives up where their members differ: so the card names those of
    every member that there is. What a sample has not, is None."""
    places = tars.place(chosen, folder)
    count = sum(len(offsets) - 1 for offsets in places.values())
    features, found = _features(folder, places)
    card = {
        "pretty_name": _name(chosen),
        "task_categories": ["text-to-video"],
        "tags": ["webdataset", "subject-to-video"],
        "size_categories": [next((name for size, name in SIZES.items() if count < size), LARGEST)],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": f"{tars.FOLDER}/*.tar"}]}],
        "dataset_info": [{"config_name": "default", "features": features}],
    }
    head = yaml.safe_dump(card, sort_keys=False, allow_unicode=True)
    (folder / "README.md").write_text(f"---\n{head}---\n\n{_text(chosen, count, found)}", encoding="utf-8")
    return {"tars": len(places), "linked": chosen.is_whole and chosen.storage.is_local}


def _name(chosen: Chosen) -> str:
    return chosen.storage.root.rstrip("/").rpartition("/")[2]


def _features(folder: Path, places: tars.Places) -> tuple[list[Feature], Counter[str]]:
    """Of every member, in the order video, metadata, others by name; and how many samples have it."""
    kinds: dict[str, Feature] = {}
    found: Counter[str] = Counter()
    for suffix, data in tars.members(folder, places):
        if suffix not in kinds:
            kinds[suffix] = _kind(suffix, data)
        found[suffix] += 1
    order = sorted(kinds, key=lambda suffix: (suffix != "mp4", suffix != "json", suffix))
    keys = [{"name": name, "dtype": "string"} for name in ("__key__", "__url__")]
    return [*({"name": suffix, **kinds[suffix]} for suffix in order), *keys], found


def _kind(suffix: str, data: IO[bytes]) -> Feature:
    """Videos as bytes, until one asks for more (`cast_column`): decoding them needs a package that not everybody has."""
    ending = suffix.rpartition(".")[2]
    if ending == "npy":
        array = from_npy(data.read())
        kind: Feature = {"dtype": array.dtype.name}
        for depth in range(array.ndim):
            kind = {"list": kind["dtype"] if depth == 0 else kind}
        return kind
    if ending == "mp4":
        return {"dtype": {"video": {"decode": False}}}
    return {"dtype": "image" if ending in IMAGES else {"json": "json", "txt": "string"}.get(ending, "binary")}


def _text(chosen: Chosen, count: int, found: Counter[str]) -> str:
    made = provenance(chosen.made.get("recipe", {}), {})
    told = "video clips with captions, and pictures of what the captions name: cut-outs in three frames, faces, backgrounds"
    parts = [
        f"# {_name(chosen)}",
        f"{count:,} {told}. Made by `curation` {made['version'] or ''}. "
        "The rights in the videos are their owners'; this card names no licence.",
        "```python\nfrom datasets import load_dataset\n\n"
        'data = load_dataset("FOLDER OR NAME ON THE HUB", split="train", streaming=True)\n'
        'print(next(iter(data))["json"]["caption"])\n```',
        _table(("member", "samples that have it"), [(f"`{name}`", f"{n:,}") for name, n in sorted(found.items())]),
        "`ref.E.F.webp`: entity E of `json` in frame F, RGBA, alpha is the mask; `face.E.F.jpg`: its face; "
        "`background.jpg`: a frame without its entities.",
    ]
    if made["models"]:
        rows = [(m["name"], m["licence"], f"`{m['sha256'][:12]}`") for m in made["models"]]
        parts.append(_table(("model it was made with", "licence", "sha256"), rows))
    return "\n\n".join(parts) + "\n"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ("---",) * len(head), *rows])
