"""Which pictures of a clip's entities the model is shown in one step: the rule of PAPER.md §5 (A.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field

from curation.shards.clip import Clip
from curation.trainer.seeds import uniforms

Kind = Literal["subject", "object", "face", "background"]
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, kw_only=True)
class References:
    """How many references, and of what."""

    subjects: Annotated[int, Field(ge=1)] = 3
    """The number of subjects is uniform on 1 … this (PAPER.md §5)."""
    images: Annotated[int, Field(ge=1)] = 3
    """The number of images of each is uniform on 1 … this (PAPER.md §5)."""
    background: Share = 0.5
    """Probability that the clean background is among them (PAPER.md §5)."""
    slots: Annotated[int, Field(ge=1)] = 6
    """Images the model takes (PAPER.md §4)."""
    objects: bool = True
    """Whether object words are drawn like subject words: the paper personalises objects too, though A.3 only says "subjects"."""
    face: Share = 0.5
    """Probability that the image of a person whose face was found comes as its face; not stated by the paper."""


@dataclass(frozen=True)
class Candidate:
    """A picture of a shard's sample and the word of the caption it is bound to."""

    member: str
    """Suffix of the member: `ref.E.F.webp`, `face.E.F.jpg` or `background.jpg`."""
    word: str
    span: tuple[int, int] | None
    """[first, last) character of the word in the caption; None for a background that the caption does not name."""
    kind: Kind


@dataclass(frozen=True)
class Image:
    """An entity in one frame: its cut-out, and its face if one was found."""

    whole: Candidate
    face: Candidate | None


def subjects(clip: Clip, objects: bool) -> list[list[Image]]:
    """The images of every subject, and of every object if `objects`, that has any, in the caption's order."""
    found = []
    for entity in clip.entities:
        word, span = entity.word, (entity.span[0], entity.span[1])
        images = [
            Image(
                Candidate(ref.member, word, span, entity.kind),
                Candidate(ref.face.member, word, span, "face") if ref.face and ref.face.member else None,
            )
            for ref in entity.refs
            if ref.member
        ]
        if images and (entity.kind == "subject" or (objects and entity.kind == "object")):
            found.append(images)
    return found


def background(clip: Clip) -> Candidate | None:
    """The clean background, bound to the first background word of the caption, if there is one."""
    if clip.background is None or clip.background.member is None:
        return None
    named = [e for e in clip.entities if e.kind == "background"]
    word, span = (named[0].word, (named[0].span[0], named[0].span[1])) if named else ("", None)
    return Candidate(clip.background.member, word, span, "background")


def choose(clip: Clip, knobs: References, source: torch.Generator) -> list[Candidate]:
    """Draw the references of one step, in slot order: images in the order they were drawn, the background last.

    A number of subjects, then subjects with replacement; for each a number of images, then images with replacement; so a subject
    or an image may come twice. More than `slots` are cut down (the paper does not say how): the background stays, then one image
    of every distinct subject drawn, then the rest in the order drawn. A clip without cut-outs gives its background or nothing.
    """
    most = knobs.subjects * knobs.images
    counts, numbers = uniforms(1 + 2 * knobs.subjects, source), uniforms(2 * most + 1, source)
    scene = background(clip) if numbers[-1] < knobs.background else None
    drawn: list[tuple[int, Candidate]] = []
    there = subjects(clip, knobs.objects)
    for turn in range(1 + int(counts[0] * knobs.subjects) if there else 0):
        who = int(counts[1 + 2 * turn] * len(there))
        for image in range(1 + int(counts[2 + 2 * turn] * knobs.images)):
            at = 2 * (turn * knobs.images + image)
            picture = there[who][int(numbers[at] * len(there[who]))]
            as_face = picture.face is not None and numbers[at + 1] < knobs.face
            drawn.append((who, picture.face if as_face and picture.face else picture.whole))
    kept = _within(drawn, knobs.slots - (scene is not None))
    return kept + ([scene] if scene else [])


def _within(drawn: list[tuple[int, Candidate]], room: int) -> list[Candidate]:
    """At most `room` of the images, in the order drawn; every distinct subject's first image goes before any second one."""
    people = [who for who, _ in drawn]
    firsts = [i for i, who in enumerate(people) if who not in people[:i]]
    order = firsts + [i for i in range(len(drawn)) if i not in firsts]
    return [drawn[i][1] for i in sorted(order[: max(0, room)])]
