"""What `curation sample` does with a training recipe: one video, a list of them, or a grid."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from curation import buckets
from curation.buckets import Bucket
from curation.console import say
from curation.media import video
from curation.media.picture import Painter
from curation.models import codecs
from curation.store import store
from curation.store.weights import weights_digest
from curation.trainer import checkpoint, fill, sheet
from curation.trainer import config as configs
from curation.trainer import sample as sampling
from curation.trainer.batch import Reference
from curation.trainer.config import Config
from curation.trainer.errors import TrainerError
from curation.trainer.fill import How, Job
from curation.trainer.model import PATCH
from curation.trainer.run import identity
from curation.trainer.sample import Picture, Wanted
from curation.trainer.validate import prompts as read_prompts


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is said on the command line beside the recipe. Null: as the recipe has it, of its first bucket."""

    frames: int | None = None
    size: str | None = None
    """`WIDTHxHEIGHT` in pixels."""
    fps: float | None = None
    """Of the files; what the model has learnt is the recipe's."""
    seed: int = 0
    batch: int = 1
    sheets: bool = False
    address: str | None = None


@dataclass(frozen=True)
class One:
    """A video: of a prompt and pictures, or of a clip of shards."""

    prompt: str | None = None
    pairs: tuple[Picture, ...] = ()
    scene: Picture | None = None
    shards: str | None = None
    key: str | None = None


def one(prompt: str | None, references: Sequence[str], scene: str | None, shards: str | None, key: str | None) -> One:
    """As the command line says it. Raises `TrainerError`."""
    pairs = tuple(sampling.pair("--reference", text) for text in references)
    return One(prompt, pairs, sampling.pair("--scene", scene, wordless=True) if scene else None, shards, key)


def sample(
    name: str | None,
    weights: Path | None,
    output: Path,
    wanted: One,
    asked: Asked,
    prompts: Path | None = None,
    grid: Path | None = None,
) -> None:
    """One video, those of a file of prompts, or a grid. Raises `TrainerError`."""
    if name is None or weights is None:
        raise TrainerError("say by which model: a training recipe and --checkpoint (or, for a benchmark, --baseline)")
    if prompts and (grid or wanted != One()):
        raise TrainerError("--prompts names prompts and pictures itself: without --prompt, --reference, --shards and --grid")
    if prompts:
        list_of(name, weights, output, prompts, asked)
    elif grid:
        grid_of(name, weights, output, grid, wanted, asked)
    else:
        video_of(name, weights, output, wanted, asked)


def video_of(name: str, weights: Path, output: Path, wanted: One, asked: Asked) -> None:
    """Make one video, NAME.mp4, with a contact sheet NAME.png beside it. Raises `TrainerError`."""
    if output.suffix != ".mp4":
        raise TrainerError(f"--output {output}: the video's name ends in .mp4")
    config = configs.load(name)
    bucket = shape(config, asked)
    if wanted.shards:
        slots = config.model.slots
        caption, references, true = sampling.of_clip(wanted.shards, wanted.key, bucket, asked.fps or config.data.fps, slots)
        caption = wanted.prompt or caption
    elif wanted.prompt:
        caption, references, true = wanted.prompt, sampling.of_files(wanted.prompt, wanted.pairs, wanted.scene), None
    else:
        raise TrainerError("say what is to be seen: --prompt, or --shards for a clip's own caption and references")
    one = Wanted(output.stem, caption, fitting(references, config), bucket, asked.seed, true)
    file = fill.one(job(one), how(config, weights, asked), output)
    say(f"{file} and {file.with_suffix('.png')}: {bucket.frames} frames, {len(references)} references, {caption!r}")


def list_of(name: str, weights: Path, output: Path, file: Path, asked: Asked) -> None:
    """Make the videos of a file of prompts (as `validation.prompts`) in a folder. Raises `TrainerError`."""
    config = configs.load(name)
    table = config.data.table()
    own = shape(config, asked)
    found = read_prompts(file, table)
    if asked.frames or asked.size:
        found = [replace(one, bucket=own) for one in found]
    for one in found:
        fitting(one.references, config)
    fill.fill([job(one) for one in found], how(config, weights, asked), output, asked.address, config.training.processes)


def grid_of(name: str, weights: Path, output: Path, file: Path, wanted: One, asked: Asked) -> None:
    """Make one prompt's videos with other references, rows × columns, in a folder, and of their middle frames a picture.

    Words with several pictures (at most two; where none has several, the first two) give the rows and columns, each with one
    without; of the others every video has the one picture. All from one noise. Raises `TrainerError`.
    """
    if file.suffix != ".png":
        raise TrainerError(f"--grid {file}: the picture's name ends in .png")
    if not wanted.prompt:
        raise TrainerError("a grid is of one prompt with other references: --prompt and --reference WORD=PICTURE, several times")
    config = configs.load(name)
    bucket = shape(config, asked)
    given = [sampling.of_files(wanted.prompt, [one], None)[0] for one in wanted.pairs]
    given += sampling.of_files(wanted.prompt, [], wanted.scene)
    rows, columns, always = axes(given)
    cells = [[[one for one in (row, column) if one] + always for column in columns] for row in rows]
    names = [[f"row{r}-column{c}" for c in range(len(columns))] for r in range(len(rows))]
    flat = [
        Wanted(name, wanted.prompt, fitting(references, config), bucket, asked.seed)
        for row, inside in zip(names, cells, strict=True)
        for name, references in zip(row, inside, strict=True)
    ]
    jobs, by = [job(one) for one in flat], how(config, weights, asked)
    fill.fill(jobs, by, output, asked.address, config.training.processes)
    if not fill.missing(jobs, by, output):  # the last process to end draws it
        shown = [[middle(output / f"{name}.mp4") for name in row] for row in names]
        sheet.save(file, sheet.grid(wanted.prompt, _heads(columns), _heads(rows), shown))
        say(f"{file}: {len(rows)} × {len(columns)} videos of {output}")


def axes(given: Sequence[Reference]) -> tuple[list[Reference | None], list[Reference | None], list[Reference]]:
    """A grid's rows, its columns, and what all its videos have. A background has an axis of its own. Raises `TrainerError`."""
    words: dict[str, list[Reference]] = {}
    for one in given:
        words.setdefault(one.word or one.kind, []).append(one)
    several = [word for word, found in words.items() if len(found) > 1] or list(words)[:2]
    if not 1 <= len(several) <= 2:
        told = f"{', '.join(several)} have several" if several else "none is given"
        raise TrainerError(f"a grid shows the pictures of one or two words of the prompt: {told}")
    *first, last = [[None, *words[word]] for word in several]
    return first[0] if first else [None], last, [one for word, found in words.items() if word not in several for one in found]


def _heads(axis: Sequence[Reference | None]) -> list[np.ndarray | None]:
    return [one.image.permute(1, 2, 0).numpy() if one else None for one in axis]


def middle(file: Path) -> np.ndarray:
    """The frame in the middle of a video, uint8 RGB [H,W,3]."""
    frames = list(video.frames(str(file)))
    return Painter()(frames[len(frames) // 2])


def shape(config: Config, asked: Asked) -> Bucket:
    """The recipe's first bucket, or what is asked for instead. Raises `TrainerError`."""
    first = config.data.table()[0]
    width, height = first.width, first.height
    if asked.size:
        found = re.fullmatch(r"(\d+)x(\d+)", asked.size)
        if not found:
            raise TrainerError(f"--size {asked.size}: write WIDTHxHEIGHT, as 512x288")
        width, height = int(found[1]), int(found[2])
    bucket = replace(first, frames=asked.frames or first.frames, width=width, height=height)
    kind = codecs.KINDS[config.encoders.codec]
    with configs.of_buckets(f"--frames and --size with encoders.codec {config.encoders.codec}"):
        buckets.check([bucket], kind.step, kind.strides[1] * PATCH[1])
    return bucket


def fitting(references: list[Reference], config: Config) -> list[Reference]:
    """Raises `TrainerError` when a model takes fewer."""
    if len(references) > config.model.slots:
        raise TrainerError(f"{len(references)} references, but model.slots: {config.model.slots}")
    return references


def how(config: Config, weights: Path, asked: Asked) -> How:
    """By a recipe's networks and a checkpoint. Raises `TrainerError`, `StoreError`."""
    if fill.rank()[0] == 0:
        store.fetch(config.models())
    told = identity(config)
    made_by: dict[str, Any] = {
        "checkpoint": weights_digest(checkpoint.weights(weights).path),
        **{name: told[name] for name in ("model", "encoders", "models")},
        "sampling": vars(config.sampling) | {"threshold": str(config.sampling.threshold)},
        "precision": config.training.precision,
    }
    fps = asked.fps or config.data.fps
    return How(partial(sampling.maker, config, weights), made_by | {"fps": fps}, fps, asked.batch, asked.sheets)


def job(one: Wanted) -> Job:
    """Of what is there already."""
    pictures = [f"{r.word or r.kind} {hashlib.sha256(r.image.numpy().tobytes()).hexdigest()[:12]}" for r in one.references]
    return Job(one.name, one.bucket, made_of(one.prompt, one.seed, one.bucket, pictures), lambda: one)


def made_of(prompt: str, seed: int, bucket: Bucket, pictures: Sequence[str]) -> dict[str, str]:
    """What decides a video beside what makes it."""
    return {"prompt": prompt, "seed": str(seed), "shape": bucket.name, "references": ", ".join(pictures)}
