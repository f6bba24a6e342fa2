"""A clip's metadata as a shard holds it: `KEY.json`. The models are the schema (`schemas/clip.schema.json`).

What a stage records stands there under its own name, but for those that the joined view of entities is made of (`JOINED`).
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from curation.faults import DataError, StageBug, one_line
from curation.ledger import carried
from curation.media.tensors import LATENTS, TEXT
from curation.sample import Sample

FIRST = ("mp4", LATENTS, TEXT)
"""Members that stand before the metadata: where they lie follows from their sample's place and their sizes."""
JOINED = ("extract_entities", "segment_entities", "crop_faces", "inpaint_background")
"""Stages whose namespaces become `entities` (words with their refs and faces) and `background`."""

Unit = Annotated[float, Field(ge=0, le=1)]
Pixel = Annotated[float, Field(ge=0)]
Box = Annotated[list[Pixel], Field(min_length=4, max_length=4)]
"""x0, y0, x1, y1 in pixels of the frame; x1 and y1 are exclusive."""


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class Source(BaseModel):
    """Where the clip comes from; beside these, what its input said of it: `origin` in an earlier source, labels, …"""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)

    video: str
    """Identifier of the source video (YouTube's, or the file's stem)."""
    url: str
    start: float | None
    """Seconds in the source file; null when the clip is the whole of it."""
    end: float | None
    shot: int | None
    """Number of the shot in the planned clip; null when nothing looked for shots."""
    clip: str
    """Key of the planned clip."""


class Video(Model):
    """`KEY.mp4` as it decodes, rotation applied."""

    width: Annotated[int, Field(ge=1)]
    height: Annotated[int, Field(ge=1)]
    fps: Annotated[float, Field(gt=0)]
    """Frames per second of time: of a variable rate the mean."""
    frames: Annotated[int, Field(ge=1)]
    seconds: Annotated[float, Field(ge=0)]
    encoded: bool
    """False: the packets of the source file, copied. True: cut or converted, H.264 yuv420p."""


class Mask(Model):
    """COCO compressed run-length encoding at the frame's size."""

    size: Annotated[list[int], Field(min_length=2, max_length=2)]
    """[height, width]"""
    counts: str


class Face(Model):
    """A face inside a person's mask."""

    box: Box
    score: Unit
    landmarks: list[Annotated[list[float], Field(min_length=2, max_length=2)]]
    """x, y of the eyes, the nose and the corners of the mouth, in pixels of the frame; empty when the detector gives none."""
    member: str | None
    """Suffix of the crop's member, `face.E.F.jpg`; null when its reference is refused."""


class Ref(Model):
    """One entity in one of the three frames."""

    frame: Literal[0, 1, 2]
    label: str
    """The class or phrase the detector matched."""
    box: Box
    score: Unit
    """The detector's confidence."""
    mask: Mask
    mask_score: Unit
    found_by: str = "detector"
    """What the box was found by: detector, or class_map (a classifier's, of a word outside the detector's classes)."""
    mask_by: str | None = None
    """What the mask starts from: saliency, matte, box, or sam; null in shards of before this was recorded."""
    area: Unit
    """Share of the frame that the mask covers."""
    link: float | None = None
    """Likeness to the same entity in the other frames; null when it is seen once."""
    alike: int = 0
    """Other individuals of the frame, no entity's, that the word might as well mean."""
    member: str | None
    """Suffix of the cut-out's member, `ref.E.F.webp`: RGBA, cropped to the box, alpha = mask; null when it is refused."""
    refused: str | None = None
    """Why `score_references` takes it for none that one would train on; null when it is one."""
    face: Face | None = None


class Entity(Model):
    """A word of the caption and the pictures of what it names."""

    word: str
    kind: Literal["subject", "object", "background"]
    span: Annotated[list[int], Field(min_length=2, max_length=2)]
    """[first, last) character of the word in the caption."""
    refs: list[Ref]
    reason: str | None = None
    """Why there are no refs: not_localised, not_sought, …; null for those that have some, and for backgrounds."""
    rivals: int | None = None
    """How many words of this caption share the detector's class: above 1, which is which is a guess."""


class Background(Model):
    """A frame without its subjects and objects."""

    frame: Literal[0, 1, 2]
    coverage: Unit
    """Share of the hole that other frames of the clip showed."""
    method: str
    member: str | None
    """`background.jpg`, or null when it was left out (then `reason` says why)."""
    reason: str | None = None


class Provenance(Model):
    """What made this sample: the same values give the same bytes."""

    version: str
    recipe: str
    """Fingerprint of the recipe."""
    models: dict[str, str]
    """Name in the store → sha256. The user's own, `STAGE.weights` → sha256 of names, sizes and samples of the content."""
    libraries: dict[str, str] = {}
    """Package → version, of those that decide bytes."""


class Clip(BaseModel):
    """`KEY.json`: all that is known of a kept clip. Beside these stands the namespace of every other stage under its name."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)
    __pydantic_extra__: dict[str, dict[str, Any]] = Field(init=False)

    key: str
    caption: str
    source: Source
    video: Video | None
    """Null when no stage makes a video."""
    entities: list[Entity]
    background: Background | None
    members: dict[str, str]
    """Suffix of each member but this one → the stage whose it is."""
    provenance: Provenance


def owner(suffix: str, owners: Mapping[str, str]) -> str | None:
    """The stage whose a member is, by the patterns that stages declare (`Recipe.owners`)."""
    return owners.get(suffix) or next((stage for pattern, stage in owners.items() if fnmatchcase(suffix, pattern)), None)


def clip_json(sample: Sample, owners: Mapping[str, str], provenance: Mapping[str, Any]) -> dict[str, Any]:
    """The content of `KEY.json`, gathered from the stages' namespaces. Raises `DataError` when they do not fit the schema,
    `StageBug` for a member or a name that no stage may have."""
    own = {name: values for name, values in sample.meta.items() if name not in ("source", *JOINED)}
    if taken := own.keys() & Clip.model_fields.keys():
        raise StageBug(f"a stage may not be called {min(taken)!r}: KEY.json has a field of that name")
    try:
        clip = {**_clip(sample, owners), "members": _members(sample, owners), "provenance": dict(provenance), **own}
        return Clip.model_validate(clip).model_dump()
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError("not_in_schema", f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # of namespaces that are to be joined
        raise DataError("not_in_schema", one_line(error)) from error


def _clip(sample: Sample, owners: Mapping[str, str]) -> dict[str, Any]:
    source, facts = sample.meta["source"], sample.meta.get(owners.get("mp4", ""), {})
    made = sample.meta.get("inpaint_background")
    return {
        "key": sample.key,
        "caption": source["caption"],
        "source": {
            **carried(source),
            "video": source["video"],
            "start": facts.get("start", source["start"]),
            "end": facts.get("end", source["end"]),
            "shot": facts.get("shot"),
            "clip": source["clip"],
        },
        "video": _pick(facts, Video) if "mp4" in sample.files else None,
        "entities": entities(sample),
        "background": _pick(made, Background) if made else None,
    }


def _members(sample: Sample, owners: Mapping[str, str]) -> dict[str, str]:
    found = {suffix: owner(suffix, owners) for suffix in published(sample)}
    if stray := [suffix for suffix, stage in found.items() if stage is None]:
        raise StageBug(f"{sample.key}: no stage says that it writes {stray[0]!r}")
    return {suffix: stage for suffix, stage in found.items() if stage}


def published(sample: Sample) -> list[str]:
    """Suffixes of its members in the order of the tar: `FIRST`, then the others by name."""
    there = {suffix for suffix in sample.files if not suffix.startswith("_")}
    return [*(suffix for suffix in FIRST if suffix in there), *sorted(there.difference(FIRST))]


def entities(sample: Sample) -> list[dict[str, Any]]:
    """The entities with their refs and faces joined, in caption order, as `Clip.entities` holds them."""
    named = sample.meta.get("extract_entities", {}).get("entities", [])
    unsought: list[dict[str, Any]] = [{"refs": [], "reason": None if e["kind"] == "background" else "not_sought"} for e in named]
    found = sample.meta.get("segment_entities", {}).get("entities", unsought)
    faces = {(f["entity"], f["frame"]): f for f in sample.meta.get("crop_faces", {}).get("faces", [])}
    joined = []
    for i, (entity, seen) in enumerate(zip(named, found, strict=True)):
        refs = [{**ref, "face": _pick(faces.get((i, ref["frame"])), Face)} for ref in seen["refs"]]
        joined.append({**_pick(entity, Entity), **_pick(seen, Entity), "refs": [_pick(r, Ref) for r in refs]})
    return joined


def _pick(values: dict[str, Any] | None, model: type[Model]) -> Any:
    return values and {k: v for k, v in values.items() if k in model.model_fields}
