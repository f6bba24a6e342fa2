"""OpenS2V-5M's layout: one JSON of all clips with boxes and masks of one frame each, videos, and backgrounds as PNG."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from curation.look.export.chosen import Chosen, LeftOut, Sample
from curation.look.export.pictures import decoded, png
from curation.media.members import from_rle, to_rle
from curation.shards.clip import Ref, Video

Json = dict[str, Any]


def write(chosen: Chosen, folder: Path) -> Json:
    """Its loader cuts subjects out of one frame of the video by their masks, and opens a background for every clip: what has no
    reference or no background is left out. Scores that nothing here measures (tech, motion, aesthetic, gme) are null."""
    (folder / "videos").mkdir()
    (folder / "backgrounds").mkdir()
    lead = "{\n"
    with (folder / "dataset.json").open("x", encoding="utf-8") as file:
        for sample in chosen.samples():
            with chosen.taking(sample.key):
                entry, background = _entry(sample), png(decoded(sample.members["background.jpg"]))
                (folder / f"videos/{sample.key}.mp4").write_bytes(sample.members["mp4"])
                (folder / f"backgrounds/{sample.key}.png").write_bytes(background)
                file.write(f"{lead}{json.dumps(sample.key)}: {json.dumps(entry, ensure_ascii=False)}")
                lead = ",\n"
        file.write("\n}\n" if lead == ",\n" else "{}\n")
    return {"json": "dataset.json"}


def _entry(sample: Sample) -> Json:
    """Raises `LeftOut`."""
    clip, video = sample.clip, sample.clip.video
    if video is None:
        raise LeftOut("no_video")
    if "background.jpg" not in sample.members:
        raise LeftOut("no_background")
    words: Json = {"background": [], "subject": [], "object": [], "pre_define": []}
    for entity in clip.entities:
        words[entity.kind].append(entity.word)
    cut = [0, video.frames]
    return {
        "metadata": {
            "path": f"{sample.key}.mp4",
            "cut": cut,
            "crop": [0, video.width, 0, video.height],
            "fps": video.fps,
            "num_frames": video.frames,
            "resolution": {"height": video.height, "width": video.width},
            "cap": [clip.caption],
            "face_cut": cut,
            "face_cap_qwen": clip.caption,
            **dict.fromkeys(("tech", "motion", "aesthetic")),
        },
        "word_tags": words,
        "annotation": _annotation(sample, video),
    }


def _annotation(sample: Sample, video: Video) -> Json:
    """Of the frame, of the three, with most references; they are counted from 1."""
    frames: dict[int, list[tuple[str, Ref]]] = {}
    for entity in sample.clip.entities:
        for ref in sample.refs(entity):
            frames.setdefault(ref.frame, []).append((entity.word, ref))
    indices = (sample.clip.__pydantic_extra__.get("sample_frames") or {}).get("indices")
    if not frames or not indices:
        raise LeftOut("no_reference")
    frame = max(sorted(frames), key=lambda frame: len(frames[frame]))
    found = [(str(number), word, ref) for number, (word, ref) in enumerate(frames[frame], start=1)]
    boxes = [{"class_name": word, "bbox": ref.box, "gme_score": None, "aes_score": None} for _, word, ref in found]
    return {
        "ann_frame_data": {
            "ann_frame_idx": indices[frame],
            "annotations": boxes,
            "box_format": "xyxy",
            "img_width": video.width,
            "img_height": video.height,
            "foreground_ase_score": None,
            "background_ase_score": None,
        },
        "mask_map": {number: {"class_name": word} for number, word, _ in found},
        "mask_annotation": {str(indices[frame]): {number: _mask(ref, video) for number, _, ref in found}},
    }


def _mask(ref: Ref, video: Video) -> Json:
    """At the video's size: a frame may have an odd row or column more."""
    rle = ref.mask.model_dump()
    if rle["size"] != [video.height, video.width]:
        mask = from_rle(rle)[: video.height, : video.width]
        if mask.shape != (video.height, video.width):
            raise LeftOut("mask_of_another_size")
        rle = to_rle(mask)
    return {**rle, "score": ref.mask_score}
