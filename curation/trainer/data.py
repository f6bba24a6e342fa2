"""The loader: a plan in, batches for training out. What a step holds does not depend on how many processes share it."""

from __future__ import annotations

import importlib
import json
import logging
import math
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field, ValidationError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from curation.buckets import EARLY, TABLES, Bucket, Buckets
from curation.faults import DataError
from curation.media import resample
from curation.shards.clip import Clip
from curation.shards.index import VIDEOS
from curation.trainer.augment import Augment
from curation.trainer.batch import Batch, Reference
from curation.trainer.clips import members
from curation.trainer.errors import TrainerError
from curation.trainer.plan import Plan
from curation.trainer.references import References, choose
from curation.trainer.seeds import generator, uniforms

LOG = logging.getLogger(__name__)
DEFAULT = References()
TRIES = 100
"""Clips of a bucket that are tried in one slot, one after another; when none can be read, something else is wrong."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """How clips become batches."""

    buckets: Buckets
    """Shapes of batches; or a paper's whole table (PAPER.md §5)."""
    fps: Annotated[float, Field(gt=0)] = 24.0
    """Frames per second that the model sees (PAPER.md §5); a clip of another rate gives its frames nearest in time."""
    upscale: bool = False
    """Whether clips smaller than a bucket may be blown up to it; not stated by the paper."""
    min_kept: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Least share of a picture that a bucket's shape may leave (4:3 in 16:9: 0.75; upright: 0.32); not stated by the paper."""
    crop: Literal["centre", "random"] = "centre"
    """Which part of a picture that does not have the bucket's shape; not stated by the paper."""
    start: Literal["random", "first"] = "random"
    """Which frames of a clip that is longer than its bucket; with sidecars, one of those that are encoded. Not stated by the
    paper."""
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of source videos, by a hash of their identifiers, whose clips are not trained on."""
    tokens: Annotated[int, Field(ge=1)] | None = None
    """Most tokens that a process computes at once: a step's clips are split accordingly, and their gradients added up. null: all
    of a process's clips at once."""
    decoder: resample.Decoder = "pyav"
    """`decord`: its fork decord2 (`pip install 'curation[decord]'`). As fast at 360 lines; cheaper where a clip of 1080 lines is
    cut far from a key frame (benchmarks/decoders.py)."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that decode, of each training process; 0: it decodes by itself, between steps."""
    prefetch: Annotated[int, Field(ge=1)] = 2
    """Batches that each of them prepares ahead."""

    def table(self) -> list[Bucket]:
        """The buckets, each with its batch over all processes."""
        return TABLES[self.buckets] if isinstance(self.buckets, str) else self.buckets


Part = tuple[int, tuple[int, ...]]
"""A step and some of its slots."""


def parts(step: int, clips: int, rank: int, world: int, most: int) -> list[Part]:
    """What one process computes of a step of so many clips, at most `most` at once.

    All processes get as many parts, and as many clips but for one: a part may be empty. Raises `TrainerError` where a process
    would get none.
    """
    if clips < world:
        hint = f"let {math.ceil(world / clips)} or more share a clip (training.parallel: {{context: …}})"
        raise TrainerError(f"a batch of {clips} clips does not suit {world} processes: {hint}")
    slots = np.arange(rank * clips // world, (rank + 1) * clips // world)
    count = math.ceil(math.ceil(clips / world) / most)
    return [(step, tuple(part.tolist())) for part in np.array_split(slots, count)]


class Loader:
    """The batches of one process, step by step."""

    def __init__(
        self,
        plan: Plan,
        data: Data,
        references: References | None = DEFAULT,
        augment: Augment | None = None,
        *,
        rank: int = 0,
        world: int = 1,
        tokens: Callable[[Bucket], int] | None = None,
        pin: bool = False,
    ):
        """`references`: None reads none; `augment`: None leaves them as they are; `rank`, `world`: of the processes that share
        the clips; `tokens`: of a bucket's clip, of which `data.tokens` is the bound; `pin`: batches lie in page-locked memory.
        Raises `TrainerError`."""
        self.plan, self.data, self.references = plan, data, references
        self.augment = augment if augment and augment.enabled else None
        self.rank, self.world, self.pin = rank, world, pin
        self.most = {b: max(1, data.tokens // tokens(b)) for b in plan.buckets} if data.tokens and tokens else {}
        """Clips of a bucket that one process computes at once."""
        self.skipped: Counter[str] = Counter()
        """Clips that gave way to others so far, in this process, by reason."""
        for bucket in plan.buckets:
            parts(0, bucket.batch, rank, world, bucket.batch)  # raises where they do not suit

    def steps(self, first: int, last: int) -> Iterator[list[Batch]]:
        """The batches of steps [first, last), each step's together."""
        if first < last:
            self.plan.bucket(last - 1)  # all are drawn, before there are workers, who would do it again
        batches = self._batches(_Order(lambda: (part for step in range(first, last) for part in self._parts(step))))
        for step in range(first, last):
            step_batches = list(islice(batches, len(self._parts(step))))
            for batch in step_batches:
                self.skipped.update(batch.skipped)
            yield step_batches

    def _parts(self, step: int) -> list[Part]:
        bucket = self.plan.bucket(step)
        return parts(step, bucket.batch, self.rank, self.world, self.most.get(bucket, bucket.batch))

    def _batches(self, wanted: Iterable[Part]) -> Iterator[Batch]:
        workers = self.data.workers
        loader = DataLoader(
            Reading(self.plan, self.data, self.references, self.augment),
            sampler=wanted,
            batch_size=None,
            num_workers=workers,
            prefetch_factor=self.data.prefetch if workers else None,
            pin_memory=self.pin,
            generator=torch.Generator(),  # else it draws from the global one
        )
        for item in loader:
            if isinstance(item, TrainerError):
                raise item
            yield item


@dataclass(frozen=True)
class _Order:
    """Parts one after the other, as they are asked for: a training has millions."""

    parts: Callable[[], Iterator[Part]]

    def __iter__(self) -> Iterator[Part]:
        return self.parts()


class Reading(Dataset[Any]):
    """Parts of steps → batches, in whatever process."""

    def __init__(self, plan: Plan, data: Data, references: References | None, augment: Augment | None):
        self.plan, self.data, self.references, self.augment = plan, data, references, augment
        if augment:
            importlib.import_module("kornia")  # once, before there are workers, who would each take two seconds for it

    def __getitem__(self, part: Part) -> Batch | TrainerError:
        try:
            return self._batch(*part)
        except (TrainerError, ModuleNotFoundError) as error:
            return TrainerError(str(error))  # raised in a worker it would arrive with a page of traceback
        except OSError as error:
            return TrainerError(f"the shards cannot be read: {' '.join(str(error).split())[:300]}")

    def _batch(self, step: int, slots: tuple[int, ...]) -> Batch:
        rows, skipped, bucket = self.plan.rows(step, slots), Counter[str](), self.plan.bucket(step)
        clips = self.plan.clips
        found = [self._one(step, slot, int(row), skipped) for slot, row in zip(slots, rows, strict=True)]
        return Batch(
            keys=[one.key for one in found],
            video=None if clips.latents else _stacked([one.video for one in found], bucket.shape, torch.uint8),
            captions=[one.caption for one in found],
            references=[one.references for one in found],
            firsts=[one.first for one in found],
            bucket=bucket,
            step=step,
            slots=list(slots),
            latents=_stacked([one.video for one in found], clips.latents.shape(bucket.name)) if clips.latents else None,
            text=[one.text for one in found if one.text] if clips.text else None,
            skipped=skipped,
        )

    def _one(self, step: int, slot: int, row: int, skipped: Counter[str]) -> _Clip:
        """A slot's clip, or the first after it in the bucket's list that can be read."""
        for attempt in range(1, TRIES + 1):
            try:
                return _Clip(self, step, slot, row)
            except (resample.DecodeError, DataError, tarfile.TarError, ValueError) as error:
                reason = "undecodable" if isinstance(error, resample.DecodeError) else "damaged"
                skipped[reason] += 1
                LOG.warning("the clip in %s is left out: %s", self.plan.clips.place(row), " ".join(str(error).split())[:200])
                row = int(self.plan.rows(step, [slot], attempt)[0])
        raise TrainerError(f"data: {TRIES} clips one after another cannot be read, the last in {self.plan.clips.place(row)}")


def _stacked(tensors: list[Tensor], shape: tuple[int, ...], kind: torch.dtype = torch.float32) -> Tensor:
    return torch.stack(tensors).to(kind) if tensors else torch.zeros(0, *shape, dtype=kind)


class _Clip:
    """One clip of a step, decoded; or what was encoded of it before."""

    def __init__(self, reading: Reading, step: int, slot: int, row: int):
        """Raises `DecodeError`, `DataError`, `tarfile.TarError` or `ValueError` for a clip that cannot be read, `OSError`."""
        plan = reading.plan
        clips, bucket = plan.clips, plan.bucket(step)
        storage, tar = clips.tars[clips.tar[row]]
        place = storage, tar, int(clips.offset[row]), int(clips.size[row])
        self.key, self.files = members(*place, lambda suffix: _is_used(suffix, clips.latents is None))
        self.caption, clip = self._words
        which, *at = uniforms(3, generator(plan.number, step, slot, "cut"))
        if clips.latents and clips.latent is not None:
            encoded = int(clips.latent[row])
            firsts = [first for name, first in clips.latents.names(encoded) if name == bucket.name]
            self.first = firsts[int(which * len(firsts))]
            self.video = clips.latents.read(encoded, bucket.name, self.first)
        else:
            self.first, self.video = self._cut(bucket, reading.data, float(clips.fps[row]), int(clips.frames[row]), which, at)
        self.text = clips.text.read(int(clips.words[row])) if clips.text and clips.words is not None else None
        drawn = []
        if clip and reading.references:
            drawn = choose(clip, reading.references, generator(plan.number, step, slot, "references"))
        images = [torch.from_numpy(resample.picture(self.files.get(one.member))) for one in drawn]
        if reading.augment:
            source = generator(plan.number, step, slot, "augment")
            images = [reading.augment(image / 255, source).mul(255).round().byte() for image in images]
        self.references = [Reference(image, one.word, one.span, one.kind) for image, one in zip(images, drawn, strict=True)]

    def _cut(self, bucket: Bucket, data: Data, fps: float, frames: int, which: float, at: list[float]) -> tuple[int, Tensor]:
        """The clip's own frame at which it is cut, and the bucket's frames from there on."""
        slack = (frames - 1) / fps - (bucket.frames - 1) / data.fps
        first = int(which * (1 + int(slack * fps + EARLY))) if data.start == "random" else 0
        times = [first / fps + i / data.fps for i in range(bucket.frames)]
        where = (at[0], at[1]) if data.crop == "random" else (0.5, 0.5)
        video = next((self.files[suffix] for suffix in VIDEOS if suffix in self.files), b"")
        return first, torch.from_numpy(resample.clip(video, times, bucket.width, bucket.height, where, data.decoder))

    @cached_property
    def _words(self) -> tuple[str, Clip | None]:
        """The caption, and the whole of KEY.json where it is ours. Raises `ValueError` where there is no caption."""
        told = self.files.get("json", b"{}")
        try:
            clip = Clip.model_validate_json(told)
        except ValidationError:
            return foreign(told, self.files.get("txt")), None
        return clip.caption, clip


def _is_used(suffix: str, video: bool) -> bool:
    """Whether a member is read: not the three frames, nor a video whose latents are there."""
    return not suffix.startswith("frame") and (video or suffix not in VIDEOS)


def foreign(told: bytes, text: bytes | None) -> str:
    """The caption of somebody else's sample: KEY.txt, or `caption` or `text` in KEY.json. Raises `ValueError`."""
    if text is not None:
        return text.decode("utf-8").strip()
    found = json.loads(told)
    caption = next((found[name] for name in ("caption", "text") if isinstance(found.get(name), str)), None) if found else None
    if caption is None:
        raise ValueError("no caption: neither KEY.json of ours, nor KEY.txt, nor `caption` in KEY.json")
    return caption
