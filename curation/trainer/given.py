"""References for sampling: from pictures on disk, or a clip's own out of its shard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from curation.shards.clip import Clip
from curation.stages.extract_entities import is_part, whole_words
from curation.trainer import decode, reading
from curation.trainer.batch import Reference
from curation.trainer.buckets import Bucket
from curation.trainer.errors import TrainerError
from curation.trainer.references import Candidate, background, subjects


def of_files(prompt: str, pairs: Sequence[str], place: Path | None) -> list[Reference]:
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
    return found + ([Reference(_picture(place), "", None, "background")] if place else [])


def _picture(file: Path) -> Tensor:
    try:
        return decode.picture(file.read_bytes())
    except OSError as error:
        raise TrainerError(f"{file}: {error.strerror}") from error
    except decode.DecodeError as error:
        raise TrainerError(f"{file}: {error}") from error


def of_clip(shards: str, key: str | None, bucket: Bucket, fps: float, slots: int) -> tuple[str, list[Reference], Tensor | None]:
    """Caption, references and frames of a clip: one picture of each subject and object, the middle one (the benchmark's single
    reference, PAPER.md §6), and its background. Frames are None when the clip is shorter than the bucket.

    Raises `TrainerError` when no shard holds the key; null takes the first clip there is.
    """
    urls = reading.urls(shards)
    part = reading.Part(urls, 0, 0, 1, 0, 1)
    part.shards = urls
    for sample in part.samples(lambda one: key in (None, one[1])):
        if key in (None, sample["__key__"]):
            break
    else:
        raise TrainerError(f"no clip {key!r} in {shards}: `curation inspect {shards}` lists them")
    clip = Clip.model_validate_json(sample["json"])
    references = [_decoded(images[len(images) // 2].whole, sample) for images in subjects(clip, objects=True)]
    place = background(clip)
    references = references[: slots - (place is not None)] + ([_decoded(place, sample)] if place else [])
    times = [i / fps for i in range(bucket.frames)]
    try:
        true = decode.clip(sample["mp4"], times, bucket.width, bucket.height)
    except decode.DecodeError:
        true = None
    return clip.caption, references, true


def _decoded(candidate: Candidate, sample: dict[str, bytes]) -> Reference:
    return Reference(decode.picture(sample[candidate.member]), candidate.word, candidate.span, candidate.kind)
