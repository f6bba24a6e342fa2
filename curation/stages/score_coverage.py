"""Sort out what the papers sorted out by hand for their benchmark: text, main subjects without a word, what was painted in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from curation.media.members import from_jpeg, from_rle
from curation.models.boxes import area
from curation.sample import Sample
from curation.stage import Reject, Resources, Stage
from curation.stages.removal import MIDDLE, MOVERS, boxes_mask, leak_score
from curation.store import store

if TYPE_CHECKING:
    from curation.models.nanodet import Detection

NAMED = 0.5
"""Share of a box from which it shows what an entity's box, one that was not cut out included, shows; chosen by eye."""
LEAST = 0.1
"""Score below which a detection in the background is not recorded."""
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(kw_only=True)
class ScoreCoverage(Stage):
    """Reject clips with much text, with a main subject that no word names, or with a thing painted into the background.

    The papers checked these by hand for their benchmark (PAPER.md §1.11); a clip that passes is looked at by a person all the
    same. Metadata: `text_share`, score_quality's where it has measured it, else of the reference frames (median); `unnamed`: of
    people, animals and vehicles in no entity's box the largest, in shares of the largest subject's box, of three frames the
    second largest; `added`: of COCO's 80 classes the best score in the hole of the background that no entity has left there, null
    without a background. Reasons: `text`, `unnamed_subject`, `painted_in`.
    """

    max_text: Share = 0.05
    """Share of the frame that may lie under text. On panda70m-mini 21 clips have 0.028 at most, a bowl of soup under a caption;
    not stated by the paper."""
    max_unnamed: Annotated[float, Field(ge=0)] = 0.4
    """How large somebody whom no word names may be beside the largest subject. Of 8 clips of panda70m-mini one has 0.46, a second
    man who stands beside the first, one 0.29, spectators, the others nobody; not stated by the paper."""
    min_score: Share = 0.5
    """Detections that count as somebody; not stated by the paper."""
    max_added: Share = 0.6
    """Score from which a thing in the background is one. Of four fillings on panda70m-mini one has what is none, a shelf that
    PatchMatch has repeated (a chair by 0.56); not stated by the paper."""

    resources: ClassVar[Resources] = Resources(memory=0.4)
    reads: ClassVar[tuple[str, ...]] = ("frame?.jpg", "background.jpg", "extract_entities", "segment_entities")

    def models(self) -> tuple[str, ...]:
        return ("nanodet",)

    def load(self) -> None:
        import cv2

        from curation.models import layout
        from curation.models.nanodet import NanoDet

        cv2.setNumThreads(1)
        self._layout, self._detect = layout, NanoDet(store.path("nanodet"))

    def process(self, sample: Sample) -> Sample:
        frames = {
            int(name.removeprefix("frame").removesuffix(".jpg")): from_jpeg(sample.files[name])
            for name in sorted(sample.files)
            if fnmatchcase(name, self.reads[0])
        }
        text = sample.meta.get("score_quality", {}).get("text_share")
        if text is None:
            text = float(np.median([self._layout.text_share(image) for image in frames.values()]))
        unnamed = self._unnamed(sample, frames)
        added = self._added(sample, frames[MIDDLE].shape) if "background.jpg" in sample.files else None
        sample.meta[self.name] = {"text_share": round(text, 4), "unnamed": round(unnamed, 4), "added": added}
        if text > self.max_text:
            raise Reject("text")
        if unnamed > self.max_unnamed:
            raise Reject("unnamed_subject")
        if added is not None and added > self.max_added:
            raise Reject("painted_in")
        return sample

    def _unnamed(self, sample: Sample, frames: dict[int, np.ndarray]) -> float:
        kinds = [entity["kind"] for entity in sample.meta["extract_entities"]["entities"]]
        seen = list(zip(kinds, map(_sightings, sample.meta["segment_entities"]["entities"]), strict=True))
        largest = max((area(s["box"]) for kind, found in seen if kind == "subject" for s in found), default=0.0)
        sizes = []
        for frame, image in frames.items():
            named = boxes_mask([s["box"] for _, found in seen for s in found if s["frame"] == frame], image.shape, grow=0.0)
            others = [d for d in self._detect(image, self.min_score, MOVERS) if _free(d, named) > 1 - NAMED]
            sizes.append(max((area(d.box) for d in others), default=0.0))
        return sorted(sizes)[len(sizes) // 2] / largest if largest else 0.0

    def _added(self, sample: Sample, shape: tuple[int, ...]) -> float:
        found = [s for e in sample.meta["segment_entities"]["entities"] for s in _sightings(e) if s["frame"] == MIDDLE]
        hole = boxes_mask([s["box"] for s in found if "mask" not in s], shape, grow=0.0)
        for sighting in found:
            hole |= from_rle(sighting["mask"]) if "mask" in sighting else False
        return round(leak_score(self._detect(from_jpeg(sample.files["background.jpg"]), LEAST), hole), 4)


def _sightings(entity: dict[str, Any]) -> Sequence[dict[str, Any]]:
    """Where an entity was found, cut out or not."""
    return [*entity.get("refs", ()), *(miss for miss in entity.get("misses", ()) if "box" in miss)]


def _free(found: Detection, named: np.ndarray) -> float:
    """The share of a box that lies in none of an entity."""
    own = boxes_mask([found.box], named.shape, grow=0.0)
    return float((~named[own]).mean()) if own.any() else 0.0
