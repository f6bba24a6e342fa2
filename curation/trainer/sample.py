"""Make videos: a caption, pictures bound to its words (from files, or a clip's own), dual guidance, a codec's pixels."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from curation.buckets import Bucket
from curation.media import resample
from curation.models.codecs import pictures
from curation.shards.clip import Clip
from curation.stages.extract_entities import is_part, whole_words
from curation.trainer import backbones, checkpoint, clips, flow
from curation.trainer.batch import Reference
from curation.trainer.conditions import Parts
from curation.trainer.config import Config
from curation.trainer.errors import TrainerError
from curation.trainer.flow import Condition, Sampling
from curation.trainer.model import DiT
from curation.trainer.references import Candidate, background, subjects
from curation.trainer.seeds import generator

Picture = tuple[str, str | Path]
"""A word of the prompt, or "" for none, and the file that shows it."""


@dataclass(frozen=True)
class Wanted:
    """A video that will be made."""

    name: str
    prompt: str
    references: list[Reference]
    bucket: Bucket
    seed: int
    true: Tensor | None = None
    """uint8 [F,3,H,W]: the clip that the references are of, if they are a clip's."""
    key: str | None = None
    """With the seed it decides the noise; None: the prompt does."""

    def noise(self) -> torch.Generator:
        """What draws it."""
        return generator(self.seed, self.prompt if self.key is None else self.key, "noise")


class Makes(Protocol):
    """What makes videos of one bucket: one uint8 RGB [frames, 3, height, width] on the CPU for each that is wanted."""

    def __call__(self, wanted: Sequence[Wanted]) -> list[Tensor]: ...


class Maker:
    """A trained transformer that makes videos; each is the same, but for rounding, whatever others are made with it."""

    def __init__(self, parts: Parts, model: nn.Module, sampling: Sampling, autocast: Callable[[], AbstractContextManager[Any]]):
        self.parts, self.model, self.sampling, self.autocast = parts, model, sampling, autocast

    @torch.no_grad()
    def __call__(self, wanted: Sequence[Wanted]) -> list[Tensor]:
        (bucket,) = {one.bucket for one in wanted}
        conditions = self.parts.conditioner([one.prompt for one in wanted], [one.references for one in wanted])
        conditioned = {
            "IT": conditions,
            "I": conditions.without(text=True),
            "T": conditions.without(images=True),
            "": conditions.without(text=True, images=True),
        }

        def velocity(z: Tensor, t: Tensor, self_cond: Tensor | None, condition: Condition) -> Tensor:
            with self.autocast():
                return self.model(z, t, **conditioned[condition].keywords(), self_cond=self_cond)

        shape = self.parts.codec.shape(bucket.frames, bucket.height, bucket.width)
        latents = flow.sample(
            velocity,
            torch.stack([torch.randn(shape, generator=one.noise()) for one in wanted]).to(self.parts.device),
            count=self.sampling.steps or flow.steps_for(bucket.width),
            shift=self.sampling.shift or flow.resolution_shift(DiT.tokens(shape)),
            guidance=self.sampling,
            self_conditioning=self.parts.size.self_conditioning,
            schedule=self.parts.schedule,
        )
        return [pictures(self.parts.codec.decode(one[None]))[0].cpu() for one in latents]  # each clip's pixels are many


def device() -> torch.device:
    """This process's: torchrun's by its number on this machine."""
    there = torch.cuda.device_count()
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % there) if there else torch.device("cpu")


def maker(config: Config, weights: Path) -> Maker:
    """Load a recipe's networks and a checkpoint's averaged weights on this process's device, in the recipe's precision. Raises
    `TrainerError`, `StoreError`."""
    where = device()
    parts = Parts(config, where)
    half = config.training.precision == "bf16"
    model = backbones.build(config, parts).eval()
    if isinstance(model, DiT):
        if half:
            model.blocks.bfloat16()  # as they are gathered in training
        model.to_empty(device=where)
    checkpoint.fill(model.to(where), checkpoint.weights(weights), backbones.given(model))
    return Maker(parts, model, config.sampling, lambda: torch.autocast(where.type, torch.bfloat16, enabled=half))


def span_of(prompt: str, word: str) -> tuple[int, int] | None:
    """[first, last) character of a word in a prompt, where it stands by itself rather than as an owner; None: it has none."""
    return min(whole_words(prompt, word), key=lambda span: is_part(prompt, *span), default=None)


def pair(option: str, text: str, wordless: bool = False) -> Picture:
    """`WORD=PICTURE`, or where that may be `PICTURE` alone. Raises `TrainerError`."""
    word, equals, file = text.rpartition("=")
    if wordless and (not equals or Path(text).exists()):
        return "", Path(text)
    if not (equals and word and file):
        raise TrainerError(f"{option} {text}: write WORD=PICTURE")
    return word, Path(file)


def of_files(prompt: str, pairs: Sequence[Picture], scene: Picture | None) -> list[Reference]:
    """In the order of the slots, the background last. Several may name one word: several pictures of it.

    Raises `TrainerError` for a word that the prompt does not have, a picture that is none.
    """
    found = [Reference(_picture(Path(file)), word, _place(prompt, word), "subject") for word, file in pairs]
    if scene:
        found.append(Reference(_picture(Path(scene[1])), scene[0], _place(prompt, scene[0]) if scene[0] else None, "background"))
    return found


def _place(prompt: str, word: str) -> tuple[int, int]:
    span = span_of(prompt, word)
    if span is None:
        raise TrainerError(f"the prompt has no word {word!r}: {prompt!r}")
    return span


def _picture(file: Path) -> Tensor:
    try:
        return torch.from_numpy(resample.picture(file.read_bytes()))
    except OSError as error:
        raise TrainerError(f"{file}: {error.strerror}") from error
    except resample.DecodeError as error:
        raise TrainerError(f"{file}: {error}") from error


def of_clip(shards: str, key: str | None, bucket: Bucket, fps: float, slots: int) -> tuple[str, list[Reference], Tensor | None]:
    """Caption, references and frames of a clip: one picture of each subject and object, the middle one (the benchmark's single
    reference, PAPER.md §6), and its background. Frames are None when the clip is shorter than the bucket.

    Raises `TrainerError` when no shard holds the key; null takes the first clip there is.
    """
    sample = clips.sample(shards, key)
    try:
        clip = Clip.model_validate_json(sample.get("json", b""))
    except ValidationError as error:
        raise TrainerError(
            f"{shards}: {key or 'the first clip'} has no KEY.json of ours: give --prompt and --reference"
        ) from error
    references = [_decoded(images[len(images) // 2].whole, sample) for images in subjects(clip, objects=True)]
    scene = background(clip)
    references = references[: slots - (scene is not None)] + ([_decoded(scene, sample)] if scene else [])
    return clip.caption, references, true_frames(sample["mp4"], bucket, fps)


def true_frames(mp4: bytes, bucket: Bucket, fps: float) -> Tensor | None:
    """A clip's first frames in a bucket's shape, uint8 [F,3,H,W]; None when it is shorter, or cannot be decoded."""
    times = [i / fps for i in range(bucket.frames)]
    try:
        return torch.from_numpy(resample.clip(mp4, times, bucket.width, bucket.height))
    except resample.DecodeError:
        return None


def _decoded(candidate: Candidate, sample: dict[str, bytes]) -> Reference:
    return Reference(torch.from_numpy(resample.picture(sample[candidate.member])), candidate.word, candidate.span, candidate.kind)
