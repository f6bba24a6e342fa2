"""One worker of the loader: its part of each epoch, shuffled, planned from the metadata alone, put into buckets, decoded."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, ValidationError
from torch.utils.data import IterableDataset, get_worker_info
from webdataset import filters

from curation.buckets import TABLES, Bucket, Buckets, fitting, pick
from curation.media import resample
from curation.shards.clip import Clip
from curation.trainer.batch import Batch, Ended, Position, Reference
from curation.trainer.errors import TrainerError
from curation.trainer.reading import Identity, Part
from curation.trainer.references import Candidate, References, choose
from curation.trainer.seeds import generator, seed, uniforms

LOG = logging.getLogger(__name__)
Item = Batch | Ended | TrainerError


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
    """Which frames of a clip that is longer than its bucket; `first` lets latents be cached; not stated by the paper."""
    shuffle: Annotated[int, Field(ge=0)] = 200
    """Clips that each worker holds, as bytes, to draw from at random; 0 keeps the shards' order. Not stated by the paper."""
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


@dataclass(frozen=True)
class Plan:
    """A clip whose bucket, frames and references are settled; nothing of it is decoded yet."""

    identity: Identity
    caption: str
    bucket: Bucket
    first: int
    """Own frame at which it is cut."""
    times: list[float]
    """Of its frames, in seconds from the clip's first."""
    at: tuple[float, float]
    references: list[Candidate]
    files: dict[str, bytes]
    """The members needed, by suffix; empty when the clip is only replayed."""


class Stream(IterableDataset[Item]):
    """Batches of one worker, epoch after epoch: the same ones for the same arguments, also when it starts in mid-epoch.

    Before a start in mid-epoch the metadata of what was read is read again, and no picture is decoded.
    """

    def __init__(
        self,
        shards: Sequence[str],
        buckets: Sequence[Bucket],
        data: Data,
        references: References,
        seed: int,
        rank: int,
        world: int,
        starts: Sequence[tuple[int, int]],
        turn: int,
        epochs: int | None,
    ):
        """`buckets`: with the batch of one process; `starts`: epoch and batches done in it, per worker; `turn`: the worker
        whose batch is next; `epochs`: where to end."""
        self.shards, self.buckets, self.data, self.references = list(shards), list(buckets), data, references
        self.seed, self.rank, self.world, self.starts, self.turn, self.epochs = seed, rank, world, list(starts), turn, epochs

    def __iter__(self) -> Iterator[Item]:
        info = get_worker_info()
        worker = ((info.id if info else 0) + self.turn) % len(self.starts)
        epoch, done = self.starts[worker]
        try:
            while self.epochs is None or epoch < self.epochs:
                yield from self._epoch(worker, epoch, done)
                epoch, done = epoch + 1, 0
        except (TrainerError, ModuleNotFoundError) as error:
            yield TrainerError(str(error))  # raised in a worker it would arrive with a page of traceback

    def _epoch(self, worker: int, epoch: int, done: int) -> Iterator[Item]:
        past: set[Identity] = set()
        for plans in islice(self._batches(worker, epoch, None, Counter()), done):
            past.update(plan.identity for plan in plans)
        index, skipped = -1, Counter[str]()
        for index, plans in enumerate(self._batches(worker, epoch, past, skipped)):
            if index >= done:
                batch = decoded(plans, Position(worker, epoch, index), skipped, self.data.decoder)
                if batch:
                    yield batch
            if index < done or batch:
                skipped.clear()
        yield Ended(Position(worker, epoch, index), skipped)

    def _batches(self, worker: int, epoch: int, past: set[Identity] | None, skipped: Counter[str]) -> Iterator[list[Plan]]:
        """Plans by bucket, as soon as a batch is full; at the end what is left, as smaller batches. `past`: samples whose bytes
        are not needed any more; None: no bytes are."""
        data = self.data
        part = Part(self.shards, seed(self.seed, epoch, "shards"), self.rank, self.world, worker, len(self.starts))
        plans = self._plans(part.samples(lambda one: past is not None and one not in past), epoch, skipped)
        if data.shuffle:
            rng = random.Random(seed(self.seed, epoch, "order", self.rank, worker))
            plans = filters.shuffle(data.shuffle, initial=data.shuffle, rng=rng)(plans)
        waiting: dict[str, list[Plan]] = {bucket.name: [] for bucket in self.buckets}
        for plan in plans:
            held = waiting[plan.bucket.name]
            held.append(plan)
            if len(held) == plan.bucket.batch:
                waiting[plan.bucket.name] = []
                yield held
        yield from filter(None, waiting.values())

    def _plans(self, samples: Iterable[dict[str, Any]], epoch: int, skipped: Counter[str]) -> Iterator[Plan]:
        for sample in samples:
            planned = self._plan(sample, epoch)
            if isinstance(planned, Plan):
                yield planned
            else:
                skipped[planned] += 1

    def _plan(self, sample: dict[str, Any], epoch: int) -> Plan | str:
        """What will be done with a sample, or the reason why nothing is."""
        key, data = sample["__key__"], self.data
        try:
            clip = Clip.model_validate_json(sample["json"])
        except (KeyError, ValidationError):
            return "no_metadata"
        video = clip.video
        if video is None:
            return "no_video"
        fits, reason = fitting(self.buckets, video, data.fps, data.upscale, data.min_kept)
        if not fits:
            return reason
        which, when, *at = uniforms(4, generator(self.seed, epoch, key, "cut"))
        bucket = pick(fits, which)
        slack = (video.frames - 1) / video.fps - (bucket.frames - 1) / data.fps
        first = int(when * (1 + int(slack * video.fps + 1e-6))) if data.start == "random" else 0
        chosen = choose(clip, self.references, generator(self.seed, epoch, key, "references"))
        return Plan(
            identity=(sample["__url__"], key),
            caption=clip.caption,
            bucket=bucket,
            first=first,
            times=[first / video.fps + i / data.fps for i in range(bucket.frames)],
            at=(at[0], at[1]) if data.crop == "random" else (0.5, 0.5),
            references=chosen,
            files={suffix: sample[suffix] for suffix in {"mp4", *(c.member for c in chosen)} if suffix in sample},
        )


def decoded(plans: list[Plan], position: Position, skipped: Counter[str], decoder: resample.Decoder) -> Batch | None:
    """The batch of some plans. A clip that does not decode is left out, counted and logged; None when none is left."""
    good, videos, references = [], [], []
    for plan in plans:
        size = (plan.bucket.width, plan.bucket.height)
        try:
            images = [torch.from_numpy(resample.picture(plan.files.get(c.member))) for c in plan.references]
            pictures = [Reference(i, c.word, c.span, c.kind) for i, c in zip(images, plan.references, strict=True)]
            videos.append(torch.from_numpy(resample.clip(plan.files.get("mp4", b""), plan.times, *size, plan.at, decoder)))
        except resample.DecodeError as error:
            skipped["undecodable"] += 1
            LOG.warning("%s of %s is left out: %s", plan.identity[1], plan.identity[0], error)
            continue
        good.append(plan)
        references.append(pictures)
    if not good:
        return None
    return Batch(
        keys=[plan.identity[1] for plan in good],
        video=torch.stack(videos),
        captions=[plan.caption for plan in good],
        references=references,
        firsts=[plan.first for plan in good],
        bucket=good[0].bucket,
        position=position,
        skipped=Counter(skipped),
    )
