"""`curation cutout`: a user's photo to a reference, as the stages cut them out of clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from curation import recipe as recipes
from curation.inputs.files import InputError
from curation.look.export.pictures import png, with_alpha
from curation.media.members import from_rle
from curation.recipe import Recipe
from curation.sample import Sample
from curation.stages.segment_entities import SegmentEntities
from curation.storage import replacing
from curation.store import store

MOST = 6
"""Individuals with `--all`: as many boxes of a frame as are considered for a word (`tracks.MOST`)."""


def cutout(picture: Path, word: str, output: Path, recipe: str = "embedded", every: bool = False) -> list[Path]:
    """Write what `word` names in a picture as a PNG with alpha; with `every` each that it might mean, NAME-1.png and so on, from
    left to right. Raises `InputError` with the stage's reason where there is none, or where several might be meant."""
    if output.suffix != ".png":
        raise InputError(f"--output {output}: a reference's name ends in .png")
    if not word.strip():
        raise InputError("WORD: say what is to be cut out")
    image, data = _read(picture)
    stage = segmenting(recipes.find(recipe))
    found = segment(stage, data, word, MOST if every else 1)
    refs = [ref for entity in found for ref in entity["refs"]]
    if not refs:
        raise InputError(f"{picture}: no {word!r}: {_why(found[0], stage)}")
    if not every and (count := refs[0]["alike"]):
        others = f"{count} others" if count > 1 else "another one"
        raise InputError(f"{picture}: ambiguous: {word!r} might as well mean {others}; --all writes each of them")
    files = [output.with_stem(f"{output.stem}-{n}") for n in range(1, len(refs) + 1)] if every else [output]
    for file, ref in zip(files, sorted(refs, key=lambda ref: ref["box"][0]), strict=True):
        x0, y0, x1, y1 = ref["box"]
        place = slice(y0, y1), slice(x0, x1)
        with replacing(file) as temporary:
            temporary.write_bytes(png(with_alpha(image[place], from_rle(ref["mask"])[place])))
    return files


def segmenting(recipe: Recipe) -> SegmentEntities:
    """The stage of a recipe, loaded. Raises `InputError` where the recipe has none, `StoreError`."""
    stage = next((stage for stage in recipe.clips if isinstance(stage, SegmentEntities)), None)
    if stage is None:
        raise InputError(f"--recipe {recipe.path}: it has no segment_entities")
    recipe.resolve()
    stage.require, stage.min_frames = "none", 1
    store.fetch(stage.models())
    stage.load()
    return stage


def segment(stage: SegmentEntities, picture: bytes, word: str, count: int) -> list[dict[str, Any]]:
    """What the stage says of a clip whose only frame this is, and which has `count` entities of this name."""
    entity = {"word": word, "kind": "subject", "span": [0, len(word)]}
    meta: dict[str, dict[str, Any]] = {
        "source": {"caption": word},
        "extract_entities": {"entities": [dict(entity) for _ in range(count)]},
    }
    sample = stage.process(Sample("picture", files={"frame1.jpg": picture}, meta=meta))
    return sample.meta[stage.name]["entities"]


def _why(entity: dict[str, Any], stage: SegmentEntities) -> str:
    """The stage's reason, and what would help where that is known."""
    if stage.model == "nanodet" and entity["label"] is None:
        return "not_localised (its detector has no class for that word; --recipe paper looks for any)"
    score = max((miss["score"] or 0.0 for miss in entity["misses"]), default=0.0)
    told = f" (score {score:g}, box_threshold {stage.box_threshold:g})" if score and entity["reason"] == "not_localised" else ""
    return f"{entity['reason']}{told}"


def _read(file: Path) -> tuple[np.ndarray, bytes]:
    """uint8 BGR [H,W,3], upright, and the file. Raises `InputError`."""
    import cv2

    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}") from error
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if image is None:
        raise InputError(f"{file}: no picture")
    return image, data
