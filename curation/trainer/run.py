"""What `curation train` does: check what can be checked at once, then start."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curation.fingerprint import changes
from curation.storage import replacing
from curation.store import store
from curation.store.weights import weights_digest
from curation.trainer import config as configs
from curation.trainer.config import Config
from curation.trainer.errors import TrainerError

if TYPE_CHECKING:
    from curation.trainer.clips import Clips

FREE = {
    "model": ("checkpointing",),
    "data": ("workers", "prefetch", "tokens"),
    "training": ("steps", "log_every", "save_every", "save_minutes", "keep", "max_skipped", "wandb")
    + ("compile", "parallel", "processes"),
}
"""Knobs that may change between two starts of one run: they do not decide what a step does."""


def train(name: str, shards: list[str], out: Path, address: str | None, sidecars: Sequence[str] = ()) -> None:
    """Train by the recipe `name` on some runs, `PATH` or `PATH=WEIGHT`, and on what was encoded of them; with an address on Ray's
    workers there."""
    from curation.trainer import clips, ray_train

    config = configs.load(name)
    runs = [clips.Run.of(text) for text in shards]
    for run in runs:
        clips.ledgers(run.where)  # raises where there are none
    if int(os.environ.get("RANK", "0")) == 0:
        store.fetch(config.models(encoders=not sidecars))
    if address:
        ray_train.run(config, shards, out, address, sidecars)
    else:
        work(config, shards, out, sidecars)


def work(config: Config, shards: list[str], out: Path, sidecars: Sequence[str] = ()) -> None:
    """What every process of a training does."""
    from curation.trainer import clips
    from curation.trainer import train as loop

    chosen, held = clips.read([clips.Run.of(text) for text in shards], config.data, sidecars)
    claim(config, shards, sidecars, chosen, out)
    loop.run(config, chosen, held, out)


def claim(config: Config, shards: list[str], sidecars: Sequence[str], clips: Clips, out: Path) -> None:
    """Claim the output for this recipe and these clips, or raise `TrainerError` naming what changed since it was started."""
    facts = {"shards": shards, "sidecars": list(sidecars), "clips": f"{len(clips):,} ({clips.digest[:8]})"}
    claim_as({**facts, **identity(config)}, out)


def claim_as(told: dict[str, Any], out: Path) -> None:
    """Claim the output for what is told of a training, or raise `TrainerError` naming what changed since it was started."""
    state = json.loads(json.dumps(told))
    file = out / "training.json"
    if file.exists():
        if changed := changes(json.loads(file.read_text()), state):
            raise TrainerError(
                f"{out} was trained with something else ({'; '.join(changed)}): take another --output, or delete it"
            )
        return
    if int(os.environ.get("RANK", "0")) == 0:
        with replacing(file) as temporary:
            temporary.write_text(json.dumps(state, indent=1))


def identity(config: Config) -> dict[str, Any]:
    """What decides the weights: every knob but the free ones, and what the frozen networks are."""
    sections = {
        name: dataclasses.asdict(getattr(config, name)) for name in configs.SECTIONS if name not in ("sampling", "validation")
    }
    for name, free in FREE.items():
        sections[name] = {k: v for k, v in sections[name].items() if k not in free}
    own = {name: value for name, value in sections["encoders"].items() if name.endswith("_weights") and value}
    own |= {"backbone_weights": folder} if (folder := config.model.backbone_weights) else {}
    models: dict[str, str] = {**store.hashes(config.models())}
    for name, folder in own.items():
        try:
            models[name] = weights_digest(folder)
        except OSError as error:
            section = "model" if name == "backbone_weights" else "encoders"
            raise TrainerError(f"{config.path}: {section}.{name}: {error}") from error
    return {**sections, "models": models}
