"""Shards with a known content: clips whose frames say their number, cut-outs of known colours."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from curation.ledger import Unit
from curation.media.members import to_jpeg, to_rle
from curation.sample import Sample
from curation.shards import pack, unit
from curation.storage import Storage
from tests import videos

SIZE = (208, 112)
"""Width and height of the clips, of which `videos.number_of` reads the frames' numbers."""
COLOURS = [(200, 30, 30), (30, 160, 40), (40, 60, 210), (230, 190, 30)]
"""Of the entities' cut-outs, in order."""
WORDS = ["man", "dog", "ball", "hat"]
OWNERS = {
    **{"mp4": "split_shots", "frame?.jpg": "sample_frames", "ref.*.webp": "segment_entities"},
    **{"face.*.jpg": "crop_faces", "background.jpg": "inpaint_background"},
}
PROVENANCE = {"version": "0", "recipe": "0", "models": {}}
_encoded: dict[tuple[int, int], bytes] = {}


def mp4(frames: int, fps: int) -> bytes:
    if (frames, fps) not in _encoded:
        _encoded[frames, fps] = videos.numbered(frames, rate=fps)
    return _encoded[frames, fps]


def cut_out(colour: tuple[int, int, int], side: int = 48) -> np.ndarray:
    """uint8 RGBA: a disc of one colour; green under what is transparent."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    inside = x**2 + y**2 <= (side * 0.45) ** 2
    return np.dstack([np.where(inside[..., None], colour, (0, 255, 0)), 255 * inside]).astype(np.uint8)


def webp(rgba: np.ndarray) -> bytes:
    return cv2.imencode(".webp", cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGRA), [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()


def sample(
    key: str,
    frames: int = 60,
    fps: int = 24,
    subjects: int = 1,
    objects: int = 1,
    refs: int = 3,
    face: bool = False,
    background: bool = True,
    size: tuple[int, int] = SIZE,
    video: bytes | None = None,
) -> Sample:
    """A kept sample: `subjects` then `objects`, each with `refs` cut-outs; `face`: the first has one in its first frame.

    `size`: what its metadata say; its clip is always of `SIZE`.
    """
    words = WORDS[: subjects + objects]
    caption = f"A {', a '.join(words)} in a street."
    spans = [[caption.index(w), caption.index(w) + len(w)] for w in words]
    named: list[dict[str, Any]] = [
        {"word": w, "kind": "subject" if i < subjects else "object", "span": s}
        for i, (w, s) in enumerate(zip(words, spans, strict=True))
    ]
    start = caption.index("street")
    named.append({"word": "street", "kind": "background", "span": [start, start + 6]})
    files = {"mp4": mp4(frames, fps) if video is None else video}
    found = []
    for e in range(len(words)):
        picture = webp(cut_out(COLOURS[e]))
        files |= {f"ref.{e}.{f}.webp": picture for f in range(refs)}
        found.append({"refs": [_ref(e, f) for f in range(refs)], "reason": None if refs else "not_localised"})
    found.append({"refs": [], "reason": None})
    faces = []
    if face and refs:
        files["face.0.0.jpg"] = to_jpeg(np.full((32, 32, 3), 128, np.uint8), 95)
        faces.append({"entity": 0, "frame": 0, "box": [0, 0, 32, 32], "score": 0.9, "landmarks": [], "member": "face.0.0.jpg"})
    if background:
        files["background.jpg"] = to_jpeg(np.full((112, 208, 3), 90, np.uint8), 95)
    files |= {f"frame{f}.jpg": to_jpeg(np.zeros((112, 208, 3), np.uint8), 95) for f in range(3)}
    meta: dict[str, dict[str, Any]] = {
        "source": {"video": "v", "url": "", "start": None, "end": None, "clip": key, "caption": caption},
        "split_shots": {"width": size[0], "height": size[1], "fps": float(fps), "frames": frames}
        | {"seconds": frames / fps, "encoded": True},
        "extract_entities": {"entities": named},
        "segment_entities": {"entities": found},
        "crop_faces": {"faces": faces},
        "inpaint_background": {
            "frame": 1,
            "coverage": 1.0,
            "method": "plate",
            "member": "background.jpg" if background else None,
        },
    }
    return Sample(key, files=files, meta=meta)


def _ref(entity: int, frame: int) -> dict[str, Any]:
    mask = to_rle(np.ones((4, 4), bool))
    box = {"box": [0, 0, 48, 48], "score": 0.9, "mask": mask, "mask_score": 0.9, "area": 0.1}
    return {"frame": frame, "label": WORDS[entity], "member": f"ref.{entity}.{frame}.webp", **box}


def write(out: Any, units: list[list[Sample]]) -> Any:
    """A run, of a path or URL, with one shard per unit."""
    storage = Storage.at(out)
    for number, samples in enumerate(units):
        unit.write(storage, Unit(0, number), 0, samples, OWNERS, PROVENANCE, [s.key for s in samples])
        pack.pack(storage, 0, number, [number])
    return out


def clip(one: Sample) -> Any:
    """The metadata of a sample as its shard holds it."""
    from curation.shards.clip import Clip, clip_json

    return Clip.model_validate(clip_json(one, OWNERS, PROVENANCE))
