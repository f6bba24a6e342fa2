"""MSRVTT-Personalization's folders, one per clip (PAPER.md §6): video, three frames, words, background, cut-outs, faces."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from curation.look.export.chosen import Chosen, LeftOut, Sample
from curation.look.export.pictures import cutout, decoded, png, with_alpha
from curation.media.members import from_rle
from curation.shards.clip import Ref
from curation.stages.crop_faces import extended

FOLDER = "msrvtt_personalization_data"
"""What the benchmark's scripts call it. They take every entry of it for a clip, so nothing else stands there."""
NEEDED = ("mp4", "frame0.jpg", "frame1.jpg", "frame2.jpg")
ODD = re.compile(r"^\.|[\x00-\x1f*?\[\]\\]|.{150}", re.DOTALL)
"""Words that the scripts, which look for files by pattern, would not find again."""


def write(chosen: Chosen, folder: Path) -> dict[str, Any]:
    """A clip whose words would share files, or without a video or frames, is left out; one without a background is not."""
    without_background = 0
    for sample in chosen.samples():
        with chosen.taking(sample.key):
            _check(sample)
            files = dict(_files(sample))
            place = folder / FOLDER / sample.key
            place.mkdir(parents=True)
            for name, data in files.items():
                (place / name).write_bytes(data)
            without_background += "background.jpg" not in files
    return {"folder": FOLDER, "without_background": without_background}


def _check(sample: Sample) -> None:
    """Raises `LeftOut`."""
    if any(name not in sample.members for name in NEEDED):
        raise LeftOut("no_video_or_frames")
    words = [e.word for e in sample.clip.entities if e.kind == "background" or sample.refs(e)]
    if len({_stem(word).casefold() for word in words}) < len(words):
        raise LeftOut("two_equal_words")
    if any(ODD.search(word) for word in words):
        raise LeftOut("odd_word")


def _files(sample: Sample) -> Iterator[tuple[str, bytes]]:
    yield "video.mp4", sample.members["mp4"]
    frames = [sample.members[name] for name in NEEDED[1:]]
    for number, frame in enumerate(frames, start=1):
        yield f"frame{number}.jpg", frame
    yield "summary_text.txt", sample.clip.caption.encode()
    if background := sample.members.get("background.jpg"):
        yield "background.jpg", background
    tags: dict[str, list[str]] = {"subject": [], "object": [], "background": [], "subject_with_face": []}
    for entity in sample.clip.entities:
        refs = sample.refs(entity)
        if entity.kind == "background" or refs:
            tags[entity.kind].append(entity.word)
        for ref in refs:
            yield f"{_stem(entity.word)}.frame{ref.frame + 1}.png", png(cutout(sample.members[str(ref.member)]))
        faces = [ref for ref in refs if ref.face and ref.face.member]
        if faces and entity.kind == "subject":
            tags["subject_with_face"].append(entity.word)
            for ref in faces:
                yield f"{_stem(entity.word)}.face.frame{ref.frame + 1}.png", _face(frames[ref.frame], ref)
    tags["background"] = tags["background"] or [""]  # the scripts take the first
    yield "word_tags.json", json.dumps(tags, ensure_ascii=False).encode()


def _face(frame: bytes, ref: Ref) -> bytes:
    """Cut out of its frame anew, as the paper extends it, with the person's mask: the member `face.E.F.jpg` has no alpha."""
    assert ref.face
    place = extended(ref.face.box)
    return png(with_alpha(decoded(frame)[place], from_rle(ref.mask.model_dump())[place]))


def _stem(word: str) -> str:
    """As the benchmark's scripts name a word's files."""
    return word.replace(" ", "_").replace("/", "_")
