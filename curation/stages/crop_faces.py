"""Give each person the face that their mask holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

import numpy as np
from pydantic import Field

from curation.media.members import from_jpeg, from_rle, to_jpeg
from curation.models.boxes import Box, rounded
from curation.sample import Sample
from curation.stage import IN_HAND, Resources, Stage
from curation.stages.entity_records import is_person
from curation.store import store

if TYPE_CHECKING:
    from curation.models.centerface import Face

Share = Annotated[float, Field(ge=0, le=1)]
LEAST_SCORE = 0.2
"""Faces below are not even recorded: of panda70m-mini's, most are none."""
MEMORY = {"centerface": 0.5, "yolo": 3.0}
"""GB of a worker. centerface: measured, 0.3. yolo: estimated, 0.1 of checkpoint, torch and CUDA beside it."""
QUALITY = 95
"""Of the JPEG."""
UP, DOWN = 0.17, 0.03
"""What a crop adds above and below the box, in heights of it; PAPER.md §3 Face."""


class Detects(Protocol):
    """What a value of `model` brings."""

    def faces(self, image: np.ndarray, threshold: float = ...) -> list[Face]: ...


@dataclass(kw_only=True)
class CropFaces(Stage):
    """Find the face of every subject that is a person, on each frame it was cut out of (PAPER.md §1.8). A clip without is kept.

    A face goes to the person whose mask holds most of it; a person has at most one per frame, a face at most one owner.
    Metadata: `faces` {entity, frame, box (xyxy px, before it is extended), score, inside (share of the box in the mask),
    landmarks (five [x, y], none from yolo), member}; `misses` {frame, box, score, inside, reason}: other faces on those frames,
    why they are not kept: "weak", "small", "outside" (of every person's mask) or "taken" (its person has a better one).
    """

    model: Literal["centerface", "yolo"] = "centerface"
    """What finds faces. centerface: with landmarks, on a CPU. yolo: the papers' own, without; MP's `min_score` for it is 0.2."""
    weights: str | None = None
    """yolo: an ultralytics checkpoint (`*.pt`) that finds faces, instead of the store's."""
    min_score: Annotated[float, Field(ge=LEAST_SCORE, le=1)] = 0.5
    """Lowest score of a face; on panda70m-mini, from 24 px up, faces have above 0.66 (one 0.46), what is none below 0.5."""
    min_side: Annotated[int, Field(ge=1)] = 32
    """Shorter side of a face's box, px; not stated by the paper (a face embedding sees 112 px)."""
    min_inside: Share = 0.5
    """Share of a face's box that its person's mask must cover; not stated by the paper."""
    extend_up: Annotated[float, Field(ge=0)] = UP
    """What the crop adds above the box, in heights of it; PAPER.md §3 Face."""
    extend_down: Annotated[float, Field(ge=0)] = DOWN
    """What the crop adds below the box, in heights of it; PAPER.md §3 Face."""

    reads = ("frame?.jpg", "extract_entities", "segment_entities")
    writes = ("face.*.jpg",)

    def __post_init__(self) -> None:
        self.resources = Resources(memory=MEMORY[self.model])  # type: ignore[misc]

    def models(self) -> tuple[str, ...]:
        if self.model == "yolo":
            return () if self.weights else ("yolo-face",)
        return (self.model,)

    def units(self) -> int:
        return IN_HAND if self.share and self.model == "yolo" else 1

    def load(self) -> None:
        import cv2

        self.detector: Detects = self._yolo() if self.model == "yolo" else self._centerface()
        cv2.setNumThreads(1)

    def _centerface(self) -> Detects:
        from curation.models.centerface import CenterFace

        return CenterFace(store.path(self.model))

    def _yolo(self) -> Detects:
        from curation.models import device
        from curation.models.yolo_face import YoloFace

        path = Path(self.weights).expanduser() if self.weights else store.path("yolo-face")
        return YoloFace(path, device.pick(self.share))

    def process(self, sample: Sample) -> Sample:
        meta: dict[str, list[dict[str, Any]]] = {"faces": [], "misses": []}
        for frame, people in _people(sample):
            image = from_jpeg(sample.files[f"frame{frame}.jpg"])
            faces = self.detector.faces(image, LEAST_SCORE)
            inside = [[_share(face.box, mask) for mask in people.values()] for face in faces]
            for face, shares, owner in zip(faces, inside, self._owners(faces, inside), strict=True):
                fact = {
                    "frame": frame,
                    "box": rounded(face.box, 2),
                    "score": round(face.score, 4),
                    "inside": round(max(shares), 4),
                }
                if isinstance(owner, str):
                    meta["misses"].append({**fact, "reason": owner})
                    continue
                entity = list(people)[owner]
                member = f"face.{entity}.{frame}.jpg"
                sample.files[member] = to_jpeg(image[extended(face.box, self.extend_up, self.extend_down)], QUALITY)
                landmarks = [rounded(point, 2) for point in face.landmarks]
                meta["faces"].append({"entity": entity, **fact, "landmarks": landmarks, "member": member})
        sample.meta[self.name] = meta
        return sample

    def _owners(self, faces: Sequence[Face], inside: Sequence[Sequence[float]]) -> list[int | str]:
        """For each face the index of its person, or why it has none. The best overlap is settled first, then the best score."""
        owners: list[int | str] = [self._fault(face, shares) for face, shares in zip(faces, inside, strict=True)]
        pairs = [(-share, -faces[i].score, i, p) for i, row in enumerate(inside) if not owners[i] for p, share in enumerate(row)]
        for share, _, face, person in sorted(pairs):
            if -share >= self.min_inside and owners[face] == "" and person not in owners:
                owners[face] = person
        return ["taken" if owner == "" else owner for owner in owners]

    def _fault(self, face: Face, shares: Sequence[float]) -> str:
        if face.score < self.min_score:
            return "weak"
        if min(face.box[2] - face.box[0], face.box[3] - face.box[1]) < self.min_side:
            return "small"
        return "outside" if max(shares) < self.min_inside else ""


def extended(box: Sequence[float], up: float = UP, down: float = DOWN) -> tuple[slice, slice]:
    """Rows and columns of a face's crop in its frame: the box, and `up` above and `down` below it in heights of it."""
    left, top, right, bottom = box
    height = bottom - top
    return slice(max(0, floor(top - up * height)), ceil(bottom + down * height)), slice(floor(left), ceil(right))


def _people(sample: Sample) -> Iterable[tuple[int, dict[int, np.ndarray]]]:
    """(frame, entity → mask) of every frame that shows a subject which was segmented as a person."""
    frames: dict[int, dict[int, np.ndarray]] = {}
    words = sample.meta["extract_entities"]["entities"]
    for entity, (word, found) in enumerate(zip(words, sample.meta["segment_entities"]["entities"], strict=True)):
        for ref in found["refs"] if word["kind"] == "subject" else ():
            if is_person(found, ref):
                frames.setdefault(ref["frame"], {})[entity] = from_rle(ref["mask"])
    return sorted(frames.items(), key=lambda item: item[0])


def _share(box: Box, mask: np.ndarray) -> float:
    """Share of a box's pixels that the mask covers."""
    pixels = mask[floor(box[1]) : ceil(box[3]), floor(box[0]) : ceil(box[2])]
    return float(pixels.mean()) if pixels.size else 0.0
