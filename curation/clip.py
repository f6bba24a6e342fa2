"""A clip's metadata as a shard holds it: `KEY.json`. The models are the schema (`schemas/clip.schema.json`)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from curation.sample import Sample
from curation.stage import StageBug

Unit = Annotated[float, Field(ge=0, le=1)]
Pixel = Annotated[float, Field(ge=0)]
Box = Annotated[list[Pixel], Field(min_length=4, max_length=4)]
"""x0, y0, x1, y1 in pixels of the frame; x1 and y1 are exclusive."""


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class Source(Model):
    """Where the clip comes from."""

    video: str
    """Identifier of the source video (YouTube's, or the file's stem)."""
    url: str
    start: float | None
    """Seconds in the source file; null when the clip is the whole of it."""
    end: float | None
    shot: int | None
    """Number of the shot when split_shots divided the planned clip."""
    clip: str
    """Key of the planned clip."""


class Video(Model):
    """`KEY.mp4` as it decodes, rotation applied."""

    width: Annotated[int, Field(ge=1)]
    height: Annotated[int, Field(ge=1)]
    fps: Annotated[float, Field(gt=0)]
    frames: Annotated[int, Field(ge=1)]
    encoded: bool
    """False: the source file byte for byte. True: cut or converted, H.264 yuv420p."""


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
    member: str
    """Suffix of the crop's member, `face.E.F.jpg`."""


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
    area: Unit
    """Share of the frame that the mask covers."""
    link: float | None = None
    """Likeness to the same entity in the other frames; null when it is seen once."""
    member: str
    """Suffix of the cut-out's member, `ref.E.F.webp`: RGBA, cropped to the box, alpha = mask."""
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


class Clip(Model):
    """`KEY.json`: all that is known of a kept clip."""

    key: str
    caption: str
    source: Source
    video: Video
    quality: dict[str, Any]
    """Scores and labels: the source's own (Panda-70M's) and those of score_quality."""
    entities: list[Entity]
    background: Background | None
    provenance: Provenance


def clip_json(sample: Sample, provenance: dict[str, Any]) -> dict[str, Any]:
    """The content of `KEY.json`, gathered from the stages' namespaces. Raises `StageBug` when they do not fit the schema."""
    try:
        return _clip(sample, provenance).model_dump(mode="json")
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise StageBug(f"the metadata of {sample.key} does not fit the schema: {where}: {first['msg']}") from error


def _clip(sample: Sample, provenance: dict[str, Any]) -> Clip:
    source, shot = sample.meta["source"], sample.meta.get("split_shots", {})
    return Clip(
        key=sample.key,
        caption=source["caption"],
        source=Source(
            video=source["video"],
            url=source["url"],
            start=shot.get("start", source["start"]),
            end=shot.get("end", source["end"]),
            shot=shot.get("shot"),
            clip=source["clip"],
        ),
        video=_video(sample),
        quality=_quality(sample),
        entities=[Entity.model_validate(e) for e in entities(sample)],
        background=_background(sample),
        provenance=Provenance(**provenance),
    )


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


def _video(sample: Sample) -> Video:
    encoded = sample.meta.get("split_shots", {}).get("encoded", False)
    return Video.model_validate({"encoded": encoded, **_pick(sample.meta.get("sample_frames", {}), Video)})


def _quality(sample: Sample) -> dict[str, Any]:
    source = sample.meta["source"]
    labels: dict[str, Any] = {k: source[k] for k in ("matching_score", "desirable_filtering") if k in source}
    return {**labels, **sample.meta.get("score_quality", {})}


def _background(sample: Sample) -> Background | None:
    made = sample.meta.get("inpaint_background")
    return Background.model_validate(_pick(made, Background)) if made else None
