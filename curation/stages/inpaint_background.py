"""A clean background: the middle frame without its subjects and objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from curation import store
from curation.members import from_jpeg, from_rle, to_jpeg
from curation.sample import Sample
from curation.stage import Reject, Stage

if TYPE_CHECKING:
    from curation.models.nanodet import Detection

MIDDLE = 1
"""Which reference frame is painted: the middle one (PAPER.md §1.9)."""
LONG_SIDE = 640
"""Pixels of the long side that the pixel knobs refer to: the largest window frames `sample_frames` writes."""
FEATHER = 4
"""Pixels inside the rim of the hole over which the patch fades in, at that size; chosen by eye."""
LEAST_LEAK = 0.1
"""Score below which a detection in the result is not even recorded."""
MEMBER = "background.jpg"
MOVERS = frozenset(
    {"person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "bird"}
    | {"cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe"}
)
"""COCO classes that are not taken from another frame, whatever the caption names, unless they are parked: they come and go."""
Box = Sequence[float]
Hidden = tuple[np.ndarray, np.ndarray]
"""A frame and the mask of what must not be taken from it."""


@dataclass(kw_only=True)
class InpaintBackground(Stage):
    """Paint subjects and objects out of the middle frame: from other frames that show what is behind, else by PatchMatch."""

    model: Literal["plate"] = "plate"
    """How the hole is filled. plate: other frames of the clip, PatchMatch for the rest."""
    dilate: Annotated[int, Field(ge=0, le=100)] = 10
    """Pixels the masks grow, at a long side of 640 px; the paper dilates without a figure, MP by about 6 at 512 px."""
    shadow: Annotated[int, Field(ge=0, le=100)] = 6
    """Pixels they grow further downwards, for shadows on the ground; not stated by the paper."""
    instance_score: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """Detections of a subject's class from this score on are painted out too: no bystander stays; not stated by the paper."""
    hide_score: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Detections in other frames from this score on are not taken for background; FEASIBILITY.md."""
    min_coverage: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Share of the hole that other frames must show, else PatchMatch paints all of it; not stated by the paper."""
    max_likeness: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the recovered pixels that may have the colours of what was removed, else PatchMatch; see `plate.likeness`."""
    max_invented: Annotated[float, Field(gt=0, le=1)] = 0.4
    """Share of the frame that PatchMatch may make up, else there is no background (hole_too_large); not stated by the paper."""
    leak_score: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """A person or a removed class detected inside the hole of the result from this score on is a leak; FEASIBILITY.md."""
    on_leak: Literal["omit", "reject"] = "omit"
    """A clip without a clean background, for whatever reason: keep it without the member, or reject it."""
    quality: Annotated[int, Field(ge=1, le=100)] = 95
    """JPEG quality of the result."""

    reads = (f"frame{MIDDLE}.jpg", "_window.*.jpg", "extract_entities", "segment_entities")
    writes = (MEMBER,)

    def models(self) -> tuple[str, ...]:
        return ("nanodet",)

    def load(self) -> None:
        import cv2

        from curation.models import plate
        from curation.models.nanodet import NanoDet

        cv2.setNumThreads(1)
        self._cv2, self._plate, self._detect = cv2, plate, NanoDet(store.path("nanodet"))

    def process(self, sample: Sample) -> Sample:
        meta: dict[str, Any] = {"model": self.model, "frame": MIDDLE, "method": "none", "member": None, "reason": None}
        meta |= {"hole": 0.0, "instances": 0, "coverage": 0.0, "frames": 0, "likeness": 0.0, "invented": 0.0, "leaks": {}}
        sample.meta[self.name] = meta
        encoded = self._paint(sample, meta)
        if encoded is not None:
            sample.files[MEMBER] = encoded
            meta["member"] = MEMBER
        elif self.on_leak == "reject":
            raise Reject(f"background_{meta['reason']}")
        return sample

    def _paint(self, sample: Sample, meta: dict[str, Any]) -> bytes | None:
        """The JPEG, or None with `meta["reason"]` set."""
        removal = _removal(sample)
        if removal.lost:
            meta["reason"] = "subject_not_localised"
            return None
        frame = from_jpeg(sample.files[f"frame{MIDDLE}.jpg"])
        window = [from_jpeg(sample.files[name]) for name in sorted(sample.files) if fnmatchcase(name, "_window.*.jpg")]
        small = self._at_work_size(frame, window)
        core = self._core(frame, window, small.shape, removal, meta)
        if removal.unseen and not meta["instances"]:
            meta["reason"] = "subject_not_localised"
            return None
        if not core.any():
            meta["method"] = "frame"
            return sample.files[f"frame{MIDDLE}.jpg"]
        hole = self._hole(core)
        others = self._others([image for image in window if image.shape == small.shape], removal.labels | {"person"})
        painted = self._clean(small, core, hole, others, removal.labels | {"person"}, meta)
        if painted is None:
            return None
        patch, native_hole = self._plate.enlarge(painted, frame.shape), self._resize(hole, frame.shape)
        whole = self._plate.paste(frame, patch, native_hole, feather=self._pixels(frame.shape, FEATHER))
        return to_jpeg(whole, self.quality)

    def _clean(
        self, frame: np.ndarray, core: np.ndarray, hole: np.ndarray, others: list[Hidden], labels: set[str], meta: dict[str, Any]
    ) -> np.ndarray | None:
        """The first of the plate and pure PatchMatch in which nothing of what was removed is found again."""
        plate = self._plate.recover(frame, hole, others, core)
        coverage, likeness = float(plate.known.sum() / hole.sum()), self._plate.likeness(frame, core, plate)
        meta |= {"hole": round(float(hole.mean()), 4), "coverage": round(coverage, 4), "frames": plate.frames}
        meta["likeness"] = round(likeness, 4)
        ways = [("patchmatch", frame, hole)]
        if coverage >= self.min_coverage and likeness <= self.max_likeness:
            rest = hole & ~plate.known
            ways.insert(0, ("plate+patchmatch" if rest.any() else "plate", plate.image, rest))
        for method, image, rest in ways:
            if rest.mean() > self.max_invented:
                meta["reason"] = meta["reason"] or "hole_too_large"
                continue
            painted = self._plate.fill(image, rest)
            leak = leak_score(self._detect(painted, LEAST_LEAK, labels), hole)
            meta["leaks"][method] = round(leak, 4)
            if leak < self.leak_score:
                meta |= {"method": method, "invented": round(float(rest.mean()), 4), "reason": None}
                return painted
            meta["reason"] = "leaked"
        return None

    def _core(
        self, frame: np.ndarray, window: list[np.ndarray], shape: tuple[int, ...], removal: Removal, meta: dict[str, Any]
    ) -> np.ndarray:
        """What is to be removed, at working size: the named masks, the boxes of those without a mask, and further instances.

        Further instances are what the detector finds of the subjects' classes: a crowd is not named one by one, but a clean
        background has nobody in it. The paper paints out the named ones only. A subject that is missing on this frame is
        looked for at a lower score, here and on the window frames before and after it: mostly the detector missed it.
        """
        from curation.models.boxes import iou

        found = [d.box for d in self._detect(frame, self.hide_score if removal.unseen else self.instance_score, removal.subjects)]
        if removal.unseen:
            beside = sorted({max(0, len(window) // 2 - 1), (len(window) + 1) // 2} & set(range(len(window))))
            scale = frame.shape[1] / shape[1]
            found += [
                np.multiply(d.box, scale) for i in beside for d in self._detect(window[i], self.hide_score, removal.subjects)
            ]
        boxes = np.array(removal.boxes, float).reshape(-1, 4)
        further = [box for box in found if not (iou(np.array(box), boxes) > 0.4).any()]
        meta["instances"] = len(further)
        core = boxes_mask([*removal.unmasked, *further], frame.shape, grow=0.03)
        for mask in removal.masks:
            core |= mask
        return self._resize(core, shape)

    def _hole(self, core: np.ndarray) -> np.ndarray:
        grown = self._plate.dilate(core, self._pixels(core.shape, self.dilate), self._pixels(core.shape, self.shadow))
        return self._plate.fill_holes(grown)

    def _others(self, window: list[np.ndarray], labels: set[str]) -> list[Hidden]:
        """Every window frame with what must not be taken from it: detections, also those of its neighbours that it misses.

        That is whatever has one of the `labels`, and other movers unless they are parked: at one place most of the time.
        """
        found = [self._detect(image, self.hide_score, labels | MOVERS) for image in window]
        places = [np.array([d.box for d in seen], float).reshape(-1, 4) for seen in found]
        boxes = [[d.box for d in seen if d.label in labels or not is_parked(d.box, places)] for seen in found]
        return [(image, boxes_mask(with_neighbours(boxes, i), image.shape, grow=0.12)) for i, image in enumerate(window)]

    def _at_work_size(self, frame: np.ndarray, window: list[np.ndarray]) -> np.ndarray:
        """The frame at the size of the window frames; without any at most `LONG_SIDE`."""
        height, width = frame.shape[:2]
        scale = min(1.0, LONG_SIDE / max(height, width))
        size = (window[0].shape[1], window[0].shape[0]) if window else (round(width * scale), round(height * scale))
        return frame if size == (width, height) else self._cv2.resize(frame, size, interpolation=self._cv2.INTER_AREA)

    def _resize(self, mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        if mask.shape == shape[:2]:
            return mask
        return self._cv2.resize(mask.astype(np.float32), shape[1::-1], interpolation=self._cv2.INTER_LINEAR) > 0.3

    def _pixels(self, shape: tuple[int, ...], knob: int) -> int:
        return round(knob * max(shape[:2]) / LONG_SIDE)


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


def _removal(sample: Sample) -> Removal:
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
        labels={s["label"] for sightings in found for s in sightings},
        subjects={s["label"] for sightings in subjects for s in sightings},
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


def is_parked(box: Box, places: Sequence[np.ndarray]) -> bool:
    """Whether something is found at this place in more than half of the frames; `places` are each frame's boxes, N×4."""
    from curation.models.boxes import iou

    return sum(bool((iou(np.array(box, float), there) > 0.6).any()) for there in places) > len(places) / 2


def with_neighbours(boxes: Sequence[Sequence[Box]], index: int) -> list[Box]:
    """The boxes of one frame and those of the frames before and after it that match none of its own: a detector misses frames."""
    from curation.models.boxes import iou

    own = np.array(boxes[index], float).reshape(-1, 4)
    beside = [box for i in (index - 1, index + 1) if 0 <= i < len(boxes) for box in boxes[i]]
    return [*boxes[index], *(box for box in beside if not (iou(np.array(box), own) > 0.1).any())]


def leak_score(detections: Sequence[Detection], hole: np.ndarray) -> float:
    """Highest score of a detection whose box lies mostly in the hole; 0.0 when there is none."""
    boxes = [(d.score, boxes_mask([d.box], hole.shape, grow=0.0)) for d in detections]
    return max((float(score) for score, box in boxes if box.any() and hole[box].mean() > 0.5), default=0.0)
