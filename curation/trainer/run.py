"""What `curation train` and `curation sample` do: check what can be checked at once, then start."""

from __future__ import annotations

import dataclasses
import json
import os
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

FREE = ("steps", "log_every", "save_every", "keep", "sample_every", "compile", "processes", "workers", "prefetch", "tokens")
"""Knobs of `training` and `data` that may change between two starts of one run: they do not decide what a step does."""


def train(name: str, shards: list[str], out: Path, address: str | None) -> None:
    """Train by the recipe `name` on some runs, `PATH` or `PATH=WEIGHT`; with an address on Ray's workers there."""
    from curation.trainer import clips, ray_train

    config = configs.load(name)
    runs = [clips.Run.of(text) for text in shards]
    for run in runs:
        clips.ledgers(run.where)  # raises where there are none
    if int(os.environ.get("RANK", "0")) == 0:
        store.fetch(config.encoders.models())
    if address:
        ray_train.run(config, shards, out, address)
    else:
        work(config, shards, out)


def work(config: Config, shards: list[str], out: Path) -> None:
    """What every process of a training does."""
    from curation.trainer import clips
    from curation.trainer import train as loop

    data = config.data
    knobs = clips.Knobs(data.table(), data.fps, data.upscale, data.min_kept, data.holdout)
    chosen, held = clips.read([clips.Run.of(text) for text in shards], knobs)
    claim(config, shards, chosen, out)
    loop.run(config, chosen, held, out)


def claim(config: Config, shards: list[str], clips: Clips, out: Path) -> None:
    """Claim the output for this recipe and these clips, or raise `TrainerError` naming what changed since it was started."""
    claim_as({"shards": shards, "clips": f"{len(clips):,} ({clips.digest[:8]})", **identity(config)}, out)


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
    sections = {name: dataclasses.asdict(getattr(config, name)) for name in configs.SECTIONS if name != "sampling"}
    sections["training"] = {k: v for k, v in sections["training"].items() if k not in FREE}
    sections["data"] = {k: v for k, v in sections["data"].items() if k not in FREE}
    own = {name: value for name, value in sections["encoders"].items() if name.endswith("_weights") and value}
    models: dict[str, str] = {**store.hashes(config.encoders.models())}
    for name, folder in own.items():
        try:
            models[name] = weights_digest(folder)
        except OSError as error:
            raise TrainerError(f"{config.path}: encoders.{name}: {error}") from error
    return {**sections, "models": models}


def sample(
    name: str,
    weights: Path,
    output: Path,
    prompt: str | None,
    pairs: list[str],
    background: Path | None,
    shards: str | None,
    key: str | None,
    seed: int,
) -> None:
    """Make one video by the recipe `name`, of the shape of its first bucket, with references given or a clip's own."""
    import torch

    from curation.console import say
    from curation.trainer import checkpoint
    from curation.trainer import sample as sampling
    from curation.trainer.conditions import Parts
    from curation.trainer.model import DiT
    from curation.trainer.sample import of_clip, of_files

    if output.suffix != ".mp4":
        raise TrainerError(f"--output {output}: the video's name ends in .mp4")
    config = configs.load(name)
    bucket = config.data.table()[0]
    if shards:
        caption, references, true = of_clip(shards, key, bucket, config.data.fps, config.model.slots)
        caption = prompt or caption
    elif prompt:
        caption, references, true = prompt, of_files(prompt, pairs, background), None
    else:
        raise TrainerError("say what is to be seen: --prompt, or --shards for a clip's own caption and references")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    store.fetch(config.encoders.models())
    parts = Parts(config, device)
    model = DiT(parts.size).eval().to(device)
    checkpoint.fill(model, checkpoint.weights(weights), weights)
    half = config.training.precision == "bf16"
    maker = sampling.Maker(parts, model, config.sampling, lambda: torch.autocast(device.type, torch.bfloat16, enabled=half))
    video = maker(caption, references, bucket, seed)
    sampling.publish(output, video, config.data.fps, caption, references, true)
    say(f"{output} and {output.with_suffix('.png')}: {len(video)} frames, {len(references)} references, {caption!r}")
