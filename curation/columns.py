"""Columns of the ledger that a person filters by and draws: typed, flat, made of a row's `scores` here and nowhere else.

`scores` stays the whole truth. A ledger of before there were columns gets them when it is read (`completed`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

WORDS = pa.list_(pa.string())
Facts = Mapping[str, Any]


class Scores:
    """A row's `scores`, with what several columns are made of. What a stage has not recorded is empty."""

    def __init__(self, scores: Mapping[str, Facts]):
        self.by_stage = scores

    def get(self, stage: str, *path: str) -> Any:
        """A value by its path; None where there is none."""
        value: Any = self.by_stage.get(stage)
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        return value

    @cached_property
    def named(self) -> list[Facts] | None:
        return self.get("extract_entities", "entities")

    def words(self, kind: str) -> list[str] | None:
        return None if self.named is None else [entity["word"] for entity in self.named if entity["kind"] == kind]

    @cached_property
    def found(self) -> list[tuple[str, Facts, list[Facts]]] | None:
        """Of every entity its kind, what segment_entities says of it, and its published references."""
        found = self.get("segment_entities", "entities")
        if found is None:
            return None
        kinds = [entity["kind"] for entity in self.named or ()]
        kinds += [""] * (len(found) - len(kinds))
        return [(k, e, [ref for ref in e.get("refs", ()) if ref.get("member")]) for k, e in zip(kinds, found, strict=False)]

    @cached_property
    def refs(self) -> list[Facts] | None:
        """Published references."""
        return None if self.found is None else [ref for _, _, refs in self.found for ref in refs]

    def with_refs(self, kind: str = "", count: int = 0) -> int | None:
        """Entities (of a kind) with published references (so many)."""
        if self.found is None:
            return None
        return sum((not kind or k == kind) and (len(refs) == count if count else bool(refs)) for k, _, refs in self.found)

    def persons(self) -> int | None:
        if self.found is None:
            return None
        return sum(bool(e.get("person", ref.get("label") == "person")) for _, e, refs in self.found for ref in refs)

    def refused(self) -> int | None:
        return (
            None if self.found is None else sum(bool(ref.get("refused")) for _, e, _ in self.found for ref in e.get("refs", ()))
        )

    def areas(self) -> list[float]:
        return _numbers(self.refs or (), "area")

    @cached_property
    def faces(self) -> list[Facts] | None:
        """Published faces."""
        faces = self.get("crop_faces", "faces")
        return None if faces is None else [face for face in faces if face.get("member")]

    def largest_face(self) -> float | None:
        frame = (self.get("sample_frames", "width") or 0) * (self.get("sample_frames", "height") or 0)
        boxes = [face["box"] for face in self.faces or ()]
        return round(max((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes) / frame, 4) if boxes and frame else None

    @cached_property
    def scored(self) -> list[Facts]:
        """What score_references measured of all published references."""
        measured = self.get("score_references", "entities") or ()
        published = {(i, ref["frame"]) for i, (_, _, refs) in enumerate(self.found or ()) for ref in refs}
        return [one for i, refs in enumerate(measured) for one in refs if (i, one["frame"]) in published]

    def measured(self, name: str) -> list[float]:
        return _numbers(self.scored, name)

    def persons_measured(self, name: str) -> list[float]:
        """The same of people alone."""
        return _numbers((one for one in self.scored if "face" in one), name)


def _numbers(facts: Iterable[Facts], name: str) -> list[float]:
    return [fact[name] for fact in facts if fact.get(name) is not None]


def _count(values: list[Any] | None) -> int | None:
    return None if values is None else len(values)


@dataclass(frozen=True)
class Column:
    """`says`: what stands there; `of`: how it is made, None where a stage has not looked."""

    type: pa.DataType
    says: str
    of: Callable[[Scores], Any]


def least(measure: str) -> Callable[[Scores], float | None]:
    """The least of all published references; `most`: the most."""
    return lambda scores: min(scores.measured(measure), default=None)


def most(measure: str) -> Callable[[Scores], float | None]:
    return lambda scores: max(scores.measured(measure), default=None)


TEXT, COUNT, SHARE, PLACES = pa.string(), pa.int32(), pa.float64(), pa.list_(pa.int64())

COLUMNS: dict[str, Column] = {
    "subjects": Column(COUNT, "words of the caption that name subjects", lambda s: _count(s.words("subject"))),
    "objects": Column(COUNT, "words that name objects", lambda s: _count(s.words("object"))),
    "backgrounds": Column(COUNT, "words that name the background", lambda s: _count(s.words("background"))),
    "subject_words": Column(WORDS, "the subjects' words", lambda s: s.words("subject")),
    "object_words": Column(WORDS, "the objects' words", lambda s: s.words("object")),
    "shots": Column(COUNT, "shots in the planned clip", lambda s: s.get("split_shots", "shots")),
    "boundary": Column(SHARE, "TransNetV2's greatest probability of a cut", lambda s: s.get("split_shots", "max_probability")),
    "duration": Column(SHARE, "seconds of the shot", lambda s: s.get("split_shots", "seconds")),
    "quality": Column(TEXT, "the likeliest class, or that of the input's label", lambda s: s.get("score_quality", "label")),
    "desirable": Column(
        SHARE, "the filter's probability of desirable", lambda s: s.get("score_quality", "probabilities", "desirable")
    ),
    "residual_motion": Column(
        SHARE, "share of pixels that move otherwise than the camera", lambda s: s.get("score_quality", "residual_motion")
    ),
    "static_border": Column(SHARE, "share of the frame around all that moves", lambda s: s.get("score_quality", "static_border")),
    "text_share": Column(SHARE, "share under what looks like text", lambda s: s.get("score_quality", "text_share")),
    "subjects_found": Column(COUNT, "subjects with a published reference", lambda s: s.with_refs("subject")),
    "objects_found": Column(COUNT, "objects with a published reference", lambda s: s.with_refs("object")),
    "found1": Column(COUNT, "entities with a reference in one of the frames", lambda s: s.with_refs(count=1)),
    "found2": Column(COUNT, "entities with references in two", lambda s: s.with_refs(count=2)),
    "found3": Column(COUNT, "entities with references in all three", lambda s: s.with_refs(count=3)),
    "refs": Column(COUNT, "published references, that is cut-outs", lambda s: _count(s.refs)),
    "refused": Column(COUNT, "references that score_references refused", lambda s: s.refused()),
    "smallest_mask": Column(SHARE, "least share of a frame that a reference covers", lambda s: min(s.areas(), default=None)),
    "mean_mask": Column(
        SHARE, "the mean of these shares", lambda s: round(sum(s.areas()) / len(s.areas()), 4) if s.areas() else None
    ),
    "persons": Column(COUNT, "references that show a person", lambda s: s.persons()),
    "faces": Column(COUNT, "published faces", lambda s: _count(s.faces)),
    "face_share": Column(SHARE, "share of the frame under the largest face's box", lambda s: s.largest_face()),
    "smallest_side": Column(COUNT, "px of a reference's shorter side, the least", least("side")),
    "truncation": Column(SHARE, "share of a reference's outline on the border, the most", most("truncation")),
    "covered": Column(SHARE, "share of a reference's box that others hold, the most", most("covered")),
    "sharpness": Column(SHARE, "of a reference, the least", least("sharpness")),
    "likeness": Column(SHARE, "of a reference to the entity's others, the least", least("likeness")),
    "face_distance": Column(
        SHARE,
        "of a reference's face from the entity's others, the most",
        most("face_distance"),
    ),
    "brightness": Column(SHARE, "grey level of 255 of a reference, the least", least("brightness")),
    "overlaid": Column(SHARE, "share of a reference under a logo's edges, the most", most("overlaid")),
    "clipped": Column(
        SHARE,
        "share of a person's outline along a side of the box, the most",
        lambda s: max(s.persons_measured("clipped"), default=None),
    ),
    "mask_score": Column(
        SHARE, "how sure a reference's mask is, the least", lambda s: min(_numbers(s.refs or (), "mask_score"), default=None)
    ),
    "background_method": Column(
        TEXT, "how the background was made; none: it was not", lambda s: s.get("inpaint_background", "method")
    ),
    "background_reason": Column(TEXT, "why there is none", lambda s: s.get("inpaint_background", "reason")),
    "background_coverage": Column(
        SHARE, "share of the hole that other frames showed", lambda s: s.get("inpaint_background", "coverage")
    ),
    "background_invented": Column(
        SHARE, "share of the frame that was made up", lambda s: s.get("inpaint_background", "invented")
    ),
    "latents": Column(
        WORDS,
        "BUCKET@FRAME of each tensor in latents.safetensors, as they lie there",
        lambda s: s.get("encode_latents", "latents"),
    ),
    "latent_places": Column(
        PLACES,
        "the bytes in that member at which they begin, and at which the last ends",
        lambda s: s.get("encode_latents", "places"),
    ),
    "text_tokens": Column(COUNT, "tokens in text.safetensors", lambda s: s.get("encode_captions", "tokens")),
    "text_bytes": Column(pa.int64(), "bytes of that member", lambda s: s.get("encode_captions", "bytes")),
}
"""All may be null: the stage has not looked at the clip, or has found nothing of the kind. Floats are double, so that a bound is
the number that the recipe has."""

FIELDS = [pa.field(name, column.type) for name, column in COLUMNS.items()]


def of(scores: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a row by its `scores`."""
    made = Scores(scores)
    return {name: column.of(made) for name, column in COLUMNS.items()}


def completed(table: pa.Table) -> pa.Table:
    """A ledger's rows with all columns: of those that have none, by their `scores`."""
    if set(COLUMNS) <= set(table.column_names):
        return table
    made = [of(json.loads(scores)) for scores in table["scores"].to_pylist()]
    table = table.drop_columns([name for name in COLUMNS if name in table.column_names])
    for field in FIELDS:
        table = table.append_column(field, pa.array((row[field.name] for row in made), field.type))
    return table
