"""What the middle frame is to lose for a clean background, and what is to be seen instead, by the stages before."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from curation.media.members import from_rle
from curation.models.boxes import around, iou
from curation.sample import Sample

if TYPE_CHECKING:
    from curation.models.nanodet import Detection

MIDDLE = 1
"""Which reference frame is painted: the middle one (PAPER.md §1.9)."""
PROTOCOL = "clean and empty background"
"""The prompt of MP's released code (PAPER.md §1.9)."""
MOVERS = frozenset(
    {"person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "bird"}
    | {"cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe"}
)
"""COCO classes that are not taken from another frame, whatever the caption names, unless they are parked: they come and go."""
LEAST_PART = 0.004
"""Share of the frame below which a part of the hole is not looked at alone: segment_entities' `min_area`."""
Box = Sequence[float]
"""xyxy px, as metadata has it."""
Hidden = tuple[np.ndarray, np.ndarray]
"""A frame and the mask of what must not be taken from it."""


@dataclass(frozen=True)
class Removal:
    """What the middle frame is to lose. `labels` and `subjects` are detector classes of all entities and of the subjects.

    `boxes` are those of `masks` (native size) and, last, the `unmasked` ones: boxes that were found but not cut out.
    `unseen`: a subject is found only on other frames. `lost`: a subject is found on none, so it may be anywhere.
    """

    masks: list[np.ndarray]
    boxes: list[Box]
    unmasked: list[Box]
    labels: set[str]
    subjects: set[str]
    unseen: bool
    lost: bool


@dataclass(frozen=True)
class Scene:
    """A middle frame with something to remove. `core`: bool mask of that, at working size; `prompt`: what is to be seen there."""

    frame: np.ndarray
    window: list[np.ndarray]
    core: np.ndarray
    removal: Removal
    prompt: str


def removal(sample: Sample, known: Callable[[str], str] = str) -> Removal:
    """From the refs and misses of `segment_entities`; `known` turns their labels into classes of the detector at hand."""
    entities = sample.meta["segment_entities"]["entities"]
    kinds = [entity["kind"] for entity in sample.meta["extract_entities"]["entities"]]
    found = [entity["refs"] + [miss for miss in entity.get("misses", ()) if "box" in miss] for entity in entities]
    subjects = [sightings for sightings, kind in zip(found, kinds, strict=True) if kind == "subject"]
    here = [sighting for sightings in found for sighting in sightings if sighting["frame"] == MIDDLE]
    masked, unmasked = [s for s in here if "mask" in s], [s["box"] for s in here if "mask" not in s]
    return Removal(
        masks=[from_rle(s["mask"]) for s in masked],
        boxes=[s["box"] for s in masked] + unmasked,
        unmasked=unmasked,
        labels={known(s["label"]) for sightings in found for s in sightings},
        subjects={known(s["label"]) for sightings in subjects for s in sightings},
        unseen=any(all(s["frame"] != MIDDLE for s in sightings) for sightings in subjects),
        lost=not all(subjects),
    )


def boxes_mask(boxes: Sequence[Box], shape: tuple[int, ...], grow: float) -> np.ndarray:
    """bool H×W, true inside any box after it grew by `grow` of its sides on each side."""
    mask = np.zeros(shape[:2], bool)
    for x0, y0, x1, y1 in boxes:
        dx, dy = grow * (x1 - x0), grow * (y1 - y0)
        mask[max(0, int(y0 - dy)) : max(0, round(y1 + dy)), max(0, int(x0 - dx)) : max(0, round(x1 + dx))] = True
    return mask


def resized(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A mask at another size; a pixel of which nearly a third was in it stays in it."""
    import cv2

    if mask.shape == shape[:2]:
        return mask
    return cv2.resize(mask.astype(np.float32), shape[1::-1], interpolation=cv2.INTER_LINEAR) > 0.3


def is_parked(box: Box, places: Sequence[Sequence[Box]]) -> bool:
    """Whether something is found at this place in more than half of the frames; `places` are each frame's boxes."""
    return sum(bool((iou(box, there) > 0.6).any()) for there in places) > len(places) / 2


def with_neighbours(boxes: Sequence[Sequence[Box]], index: int) -> list[Box]:
    """The boxes of one frame and those of the frames before and after it that match none of its own: a detector misses frames."""
    beside = [box for i in (index - 1, index + 1) if 0 <= i < len(boxes) for box in boxes[i]]
    return [*boxes[index], *(box for box in beside if not (iou(box, boxes[index]) > 0.1).any())]


def hidden(window: Sequence[np.ndarray], found: Sequence[Sequence[Detection]], labels: set[str]) -> list[Hidden]:
    """Every window frame with what must not be taken from it: detections, also those of its neighbours that it misses.

    That is whatever has one of the `labels`, and other movers unless they are parked: at one place most of the time.
    """
    places = [[d.box for d in seen] for seen in found]
    boxes = [[d.box for d in seen if d.label in labels or not is_parked(d.box, places)] for seen in found]
    return [(image, boxes_mask(with_neighbours(boxes, i), image.shape, grow=0.12)) for i, image in enumerate(window)]


def leak_score(detections: Sequence[Detection], hole: np.ndarray) -> float:
    """Highest score of a detection whose box lies mostly in the hole; 0.0 when there is none."""
    boxes = [(d.score, boxes_mask([d.box], hole.shape, grow=0.0)) for d in detections]
    return max((float(score) for score, box in boxes if box.any() and hole[box].mean() > 0.5), default=0.0)


def parts(hole: np.ndarray, most: int = 4, grow: float = 0.1) -> list[tuple[int, int, int, int]]:
    """Boxes of the largest separate parts of a hole, `grow` of their sides larger on each side; at least one."""
    import cv2

    _, _, found, _ = cv2.connectedComponentsWithStats(hole.astype(np.uint8), connectivity=8)
    largest = sorted(found[1:].tolist(), key=lambda part: -part[4])[:most]
    kept = largest[:1] + [part for part in largest[1:] if part[4] >= LEAST_PART * hole.size]
    return [around((x, y, x + width, y + height), hole.shape[1], hole.shape[0], grow) for x, y, width, height, _ in kept]


def prompt(sample: Sample, words: bool) -> str:
    """What is to be seen instead: the caption's background words (if `words`, and it has any), else MP's prompt."""
    found = [entity["word"] for entity in sample.meta["extract_entities"]["entities"] if entity["kind"] == "background"]
    return ", ".join(found) if found and words else PROTOCOL


def seed(key: str, attempt: int) -> int:
    """The seed of a sample's n-th try, in [0, 2³²)."""
    return int.from_bytes(hashlib.sha256(f"{key} {attempt}".encode()).digest()[:4], "big")
