"""Make videos: a caption, pictures bound to its words (from files, or a clip's own), dual guidance, a codec's pixels; an mp4 and
a contact sheet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from curation.buckets import Bucket
from curation.media import resample
from curation.media.encode import from_arrays
from curation.models.codecs import pictures
from curation.shards.clip import Clip
from curation.stages.extract_entities import is_part, whole_words
from curation.trainer import clips, flow
from curation.trainer.batch import Reference
from curation.trainer.conditions import Parts
from curation.trainer.errors import TrainerError
from curation.trainer.flow import Condition, Sampling
from curation.trainer.model import DiT
from curation.trainer.references import Candidate, background, subjects
from curation.trainer.seeds import generator

TILE = 144
"""Height in pixels of a contact sheet's pictures."""


class Maker:
    """A trained transformer that makes videos."""

    def __init__(self, parts: Parts, model: nn.Module, sampling: Sampling, autocast: Callable[[], AbstractContextManager[Any]]):
        self.parts, self.model, self.sampling, self.autocast = parts, model, sampling, autocast

    @torch.no_grad()
    def __call__(self, caption: str, references: Sequence[Reference], bucket: Bucket, seed: int) -> Tensor:
        """uint8 RGB [frames, 3, height, width] of the bucket's shape: the same for the same seed."""
        conditions = self.parts.conditioner([caption], [references])
        conditioned = {
            "IT": conditions,
            "I": conditions.without(text=True),
            "T": conditions.without(images=True),
            "": conditions.without(text=True, images=True),
        }

        def velocity(z: Tensor, t: Tensor, self_cond: Tensor | None, condition: Condition) -> Tensor:
            with self.autocast():
                return self.model(z, t, **conditioned[condition].keywords(), self_cond=self_cond)

        shape = (1, *self.parts.codec.shape(bucket.frames, bucket.height, bucket.width))
        latents = flow.sample(
            velocity,
            shape,
            count=self.sampling.steps or flow.steps_for(bucket.width),
            shift=self.sampling.shift or flow.resolution_shift(DiT.tokens(shape)),
            guidance=self.sampling,
            generator=generator(seed, caption, "noise"),
            device=self.parts.device,
            self_conditioning=self.parts.size.self_conditioning,
            schedule=self.parts.schedule,
        )
        return pictures(self.parts.codec.decode(latents))[0].cpu()


def publish(
    file: Path, video: Tensor, fps: float, caption: str, references: Sequence[Reference], true: Tensor | None = None
) -> None:
    """Write NAME.mp4 and beside it NAME.png: the references with their words, six of the frames, and those of the true clip."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(from_arrays(video.permute(0, 2, 3, 1).numpy(), fps))
    import cv2

    rows = [_row([(_array(r.image), r.word or r.kind) for r in references])] if references else []
    for frames, title in ((video, "made"), (true, "the clip")):
        if frames is not None:
            chosen = np.linspace(0, len(frames) - 1, min(6, len(frames))).round().astype(int)
            rows.append(_row([(_array(frames[i]), f"{title}, {i / fps:.2f} s") for i in chosen]))
    width = max(row.shape[1] for row in rows)
    rows = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    head = np.full((24, width, 3), 255, np.uint8)
    cv2.putText(head, _ascii(caption), (4, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    cv2.imwrite(str(file.with_suffix(".png")), np.concatenate([head, *rows])[..., ::-1])


def _array(image: Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).numpy()


def _row(tiles: list[tuple[np.ndarray, str]]) -> np.ndarray:
    """Pictures of one height side by side, each with its title below, RGB."""
    import cv2

    drawn = []
    for image, title in tiles:
        width = max(1, round(image.shape[1] * TILE / image.shape[0]))
        tile = np.full((TILE + 22, max(width, 96) + 6, 3), 255, np.uint8)
        tile[:TILE, :width] = cv2.resize(
            image, (width, TILE), interpolation=cv2.INTER_AREA if image.shape[0] > TILE else cv2.INTER_NEAREST
        )
        cv2.putText(tile, _ascii(title), (2, TILE + 14), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (0, 0, 0), 1, cv2.LINE_AA)
        drawn.append(tile)
    return np.concatenate(drawn, 1)


def _ascii(text: str) -> str:
    """What OpenCV's letters can show."""
    return text.encode("ascii", "replace").decode()


def of_files(prompt: str, pairs: Sequence[str], scene: Path | None) -> list[Reference]:
    """`pairs` as WORD=PICTURE, in the order of the slots, the background last. Several may name one word: several pictures of it.

    Raises `TrainerError` for a word that the prompt does not have, a picture that is none.
    """
    found = []
    for pair in pairs:
        word, equals, file = pair.partition("=")
        if not (equals and word and file):
            raise TrainerError(f"--reference {pair}: write WORD=PICTURE")
        spans = sorted(whole_words(prompt, word), key=lambda span: is_part(prompt, *span))
        if not spans:
            raise TrainerError(f"--reference {pair}: the prompt has no word {word!r}: {prompt!r}")
        found.append(Reference(_picture(Path(file)), word, spans[0], "subject"))
    return found + ([Reference(_picture(scene), "", None, "background")] if scene else [])


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
    times = [i / fps for i in range(bucket.frames)]
    try:
        true = torch.from_numpy(resample.clip(sample["mp4"], times, bucket.width, bucket.height))
    except resample.DecodeError:
        true = None
    return clip.caption, references, true


def _decoded(candidate: Candidate, sample: dict[str, bytes]) -> Reference:
    return Reference(torch.from_numpy(resample.picture(sample[candidate.member])), candidate.word, candidate.span, candidate.kind)
