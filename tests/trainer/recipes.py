"""Training recipes that a test can afford."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.tiny import encoders as tiny
from tests.trainer import made

BUCKETS = [{"frames": 5, "width": 64, "height": 32, "batch": 2}, {"frames": 9, "width": 32, "height": 32, "batch": 4}]


def shards(folder: Path) -> Path:
    """A run directory of two shards, nine clips."""
    units = [[made.sample(f"clip{unit}-{i}", subjects=2, face=i == 0) for i in range(4 + unit)] for unit in range(2)]
    return made.write(folder, units)


def write(path: Path, texts: Path, **sections: dict[str, Any]) -> Path:
    """A recipe of two blocks of 32 channels, with these knobs on top. `texts`: where the tiny text encoder is, or will be."""
    if not texts.exists():
        tiny.minilm(texts)
    recipe: dict[str, dict[str, Any]] = {
        "model": {"size": "tiny", "width": 32, "blocks": 2, "heads": 2, "words": 2},
        "encoders": {"text": "minilm", "text_weights": str(texts), "text_length": 24, "image": "patches", "codec": "dct"},
        "data": {"buckets": BUCKETS},
        "training": {"steps": 4, "lr": 1e-3, "precision": "fp32", "log_every": 1, "save_every": 2},
        "sampling": {"steps": 2},
    }
    made_from = {name: {**recipe.get(name, {}), **sections.get(name, {})} for name in {**recipe, **sections}}
    path.write_text(yaml.safe_dump(made_from))
    return path
