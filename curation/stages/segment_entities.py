"""Find each subject and object on the reference frames and cut it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, cast

import numpy as np
from pydantic import Field

from curation.media.members import from_jpeg, from_rle, to_rle, to_webp
from curation.models.boxes import Box, area, bounds, rounded, same_place
from curation.sample import Sample
from curation.stage import IN_HAND, Reject, Resources, Result, Stage
from curation.stages.entity_records import dismiss, nothing, reason, scored
from curation.store import store

if TYPE_CHECKING:
    from curation.models.class_map import ClassMap
    from curation.models.open_set import OpenSet
    from curation.models.tracks import Candidate, Sighting

AS_LARGE, AS_SURE = 0.7, 0.8
"""Shares of an individual's area and score from which another of its kind might as well be meant; chosen by eye."""
LEAST_OF_BOX, MOST_OF_BOX = 0.05, 0.98
"""Shares of its box between which a mask tells a thing from its surroundings; chosen by eye."""
MEMORY = {"none": 0.6, "u2netp": 0.9, "u2net": 1.4, "groundingdino": 4.0}
"""GB of a worker, of nanodet's by its saliency. Measured at 1080p: 0.53, 0.8 and 1.19. groundingdino: estimated, 1.1 of
checkpoints, torch and CUDA beside them."""
CLASS_MAP_MEMORY = 0.35
"""GB on top for `nouns: imagenet`. Measured at 1080p: 0.32, most of it torch."""
Share = Annotated[float, Field(ge=0, le=1)]


class Backend(Protocol):
    """What a value of `model` brings: boxes for words, how like they are, the mask of a box with its score and how it was made.
    Frames RGB uint8, masks bool H×W."""

    def label(self, word: str) -> str | None: ...

    def localise(self, frames: Sequence[np.ndarray], words: Sequence[str]) -> list[list[list[Candidate]]]: ...

    def looks(self, frames: Sequence[np.ndarray], boxes: Sequence[Sequence[Box]]) -> list[list[np.ndarray]]: ...

    def similarity(self, a: Box, b: Box, look_a: np.ndarray, look_b: np.ndarray) -> float: ...

    def mask(self, frame: np.ndarray, box: Box, label: str, others: Sequence[Box] = ()) -> tuple[np.ndarray, float, str]: ...


@dataclass(kw_only=True)
class SegmentEntities(Stage):
    """Localise and segment every subject and object word on each reference frame (PAPER.md §1.7).

    One entity is one individual, the same on all frames, and two entities never share a box. Metadata: `entities`, one per entity
    of `extract_entities`, in its order. The cut-outs are promised: made of the frames and this metadata alone, at the end and of
    kept clips only, so that no GPU waits for an encoder.

    An entity: `label`, the class the word was looked for by, or null; `rivals`, how many entities of the clip have that label,
    itself among them (above 1, which of them is which is a guess, see `tracks.follow`); `refs`; `misses`; `reason`, null or why
    there is no ref; with groundingdino also `person`, whether the word names a human. A background entity has none of all this.
    A ref: `frame`; `label` and `score` of the detection; `found_by`, "detector", or "class_map" (see `nouns`; `alike` is then 0);
    `box`, the bounding box of the mask, integer xyxy with exclusive right and bottom; `mask`, COCO RLE at frame size;
    `mask_score`, [0, 1]: how far two ways to the mask agree, with groundingdino SAM's predicted IoU; `mask_by`, what it starts
    from: "body" (a person's matte and outline), "saliency" (it stands out in the frame), "matte" (of an animal, or of a person of
    whom no body is seen), "box", "sam"; `area`, the mask's share of the frame; `alike`, how many other individuals of the frame,
    as large and as sure and no entity's, the word might as well mean; `link`, mean similarity to the entity's boxes on the other
    frames, null if there is none, else [0, 1] (nanodet: colours and place; groundingdino: cosine of SAM's features in the masks);
    `member`.
    A miss: `frame`, `reason`, and the scores as far as they are known; its `box` is the detector's, with one decimal.
    """

    model: Literal["nanodet", "groundingdino"] = "nanodet"
    """What localises and cuts out. nanodet: COCO's 80 classes, GrabCut and a person matte, on a CPU. groundingdino: any word,
    SAM's masks; the papers' own."""
    saliency: Literal["u2netp", "u2net", "none"] = "u2netp"
    """nanodet: what sees which thing or animal stands out in a frame, so that its mask starts from that: U²-Net-p, U²-Net (40
    times as large, 2.5 times as long), or nothing."""
    nouns: Literal["coco", "imagenet"] = "coco"
    """nanodet: which words have boxes: COCO's, or with EfficientNet-Lite2's class map also those of ImageNet's classes (no
    clothes, buildings, landscapes), at most one a frame. Off, as nothing held out shows that it is worth it: on panda70m-mini,
    where its bar was chosen, it adds 5 boxes in 4 of 55 clips (4 right by eye, one of two animals) for 0.6 s of CPU a clip beside
    1.2; on 38 other clips and pictures none, neither for 1,096 words not shown nor for 18 that are."""
    weights: str | None = None
    """groundingdino: a folder with `groundingdino*.pth` (its configuration `*.py` beside it unless it is Swin-T's), `sam*.pth`
    and `bert-base-uncased/` (tokenizer and `config.json`), instead of the store's."""
    box_threshold: Share = 0.35
    """Score that the best box of an individual must reach; FEASIBILITY.md. MP takes 0.4 with GroundingDINO."""
    text_threshold: Share = 0.25
    """groundingdino: mean probability that a word's tokens must reach, so that one of several ("green" of "green bottle") is not
    enough; 0.25 is what the released inference code asks of each token (PAPER.md §3). MP has no such rule: in `paper*.yaml` 0."""
    linked_threshold: Share = 0.25
    """Score that is enough on a frame when another frame shows the individual above `box_threshold`; not stated by the paper."""
    mask_threshold: Share = 0.5
    """nanodet: lowest `mask_score`; chosen by eye on panda70m-mini."""
    iou_threshold: Share = 0.9
    """groundingdino: lowest IoU that SAM predicts for a mask; PAPER.md §3 SAM."""
    min_link: Share = 0.0
    """Link below which a frame's box is taken for somebody else and dropped; not stated by the paper."""
    min_area: Share = 0.004
    """Smallest mask, as a share of the frame; not stated by the paper (0.004 of 640×360 is 30×30 px)."""
    max_area: Share = 0.9
    """Largest mask, as a share of the frame; Phantom-Data's upper bound for boxes (PAPER.md §7)."""
    min_frames: Annotated[int, Field(ge=1)] = 1
    """Frames an entity must be cut out of, else it loses its refs; not stated by the paper."""
    require: Literal["subject", "any", "none"] = "subject"
    """What must be cut out at least once, else the clip is rejected: a subject, any entity, or nothing."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """groundingdino: what its network and SAM's encoder compute in. auto: bf16 with a share of a GPU, fp32 without; boxes, scores
    and masks are float32 either way."""
    webp_quality: Annotated[int, Field(ge=1, le=100)] = 95
    """Of the cut-outs' colours; their alpha is always exact. 100 is lossless. At 95 the median of 83 cut-outs of panda70m-mini
    and the sample clips has 44 dB in its mask, the worst 41, at a fifth of the bytes and a tenth of the time of lossless
    (`benchmarks/cutouts.py`); beside lossless no difference is to be seen."""

    resources = Resources(batch=8, memory=MEMORY["u2netp"])
    reads = ("frame?.jpg", "extract_entities")
    writes = ("ref.*.webp",)
    promises = ("ref.*.webp",)

    def __post_init__(self) -> None:
        small = self.model == "nanodet"
        memory = MEMORY[self.saliency if small else self.model] + CLASS_MAP_MEMORY * (small and self.nouns == "imagenet")
        self.resources = Resources(batch=8, memory=memory)  # type: ignore[misc]

    def models(self) -> tuple[str, ...]:
        if self.model == "nanodet":
            nouns = ("efficientnet-lite2", "imagenet-classes") if self.nouns == "imagenet" else ()
            people = ("selfie-segmentation", "mediapipe-pose")
            return ("nanodet", "wordnet", *people, *(() if self.saliency == "none" else (self.saliency,)), *nouns)
        return ("wordnet",) if self.weights else ("groundingdino-swint", "bert-base-uncased", "sam-vit-b", "wordnet")

    def resolve(self) -> None:
        if self.precision == "auto":
            self.precision = "bf16" if self.model == "groundingdino" and self.share > 0 else "fp32"

    def units(self) -> int:
        return IN_HAND if self.share and self.model == "groundingdino" else 1

    def load(self) -> None:
        import cv2

        from curation.models.wordnet import WordNet

        cv2.setNumThreads(1)
        self.names = WordNet(store.path("wordnet"))
        lowest = min(self.box_threshold, self.linked_threshold)
        self.backend: Backend = self._closed_set(lowest) if self.model == "nanodet" else self._open_set(lowest)

    def process(self, sample: Sample) -> Sample:
        frames, words = self._frames(sample), _words(sample)
        return self._finish(sample, frames, self.backend.localise(frames, words))

    def process_batch(self, samples: Sequence[Sample]) -> Sequence[Result]:
        """With groundingdino the frames of all samples go through the detector together."""
        if self.model == "nanodet":
            return super().process_batch(samples)
        clips = [(self._frames(sample), _words(sample)) for sample in samples]
        found = cast("OpenSet", self.backend).localise_all(clips)
        results: list[Result] = []
        for sample, (frames, _), own in zip(samples, clips, found, strict=True):
            try:
                results.append(self._finish(sample, frames, own))
            except Reject as rejection:
                results.append(rejection)
        return results

    def redeem_batch(self, samples: Sequence[Sample]) -> Sequence[Result]:
        """The cut-outs, by the metadata: of frames that are decoded once each."""
        for sample in samples:
            refs = [ref for entity in sample.meta[self.name]["entities"] for ref in entity["refs"] if ref["member"]]
            for frame, own in groupby(sorted(refs, key=lambda ref: ref["frame"]), key=lambda ref: ref["frame"]):
                image = from_jpeg(sample.files[f"frame{frame}.jpg"])
                for ref in own:
                    x0, y0, x1, y1 = ref["box"]
                    place = slice(y0, y1), slice(x0, x1)
                    sample.files[ref["member"]] = to_webp(image[place], from_rle(ref["mask"])[place], self.webp_quality)
        return list(samples)

    def _closed_set(self, lowest: float) -> Backend:
        from curation.models.closed_set import ClosedSet
        from curation.models.matte import Matte
        from curation.models.nanodet import NanoDet
        from curation.models.people import People
        from curation.models.pose import Pose
        from curation.models.u2net import U2Net

        salient = None if self.saliency == "none" else U2Net(store.path(self.saliency))
        matte = Matte(store.path("selfie-segmentation"))
        people = People(matte, Pose(store.path("mediapipe-pose")))
        return ClosedSet(NanoDet(store.path("nanodet")), self.names, matte, lowest, people, salient, self._class_map())

    def _class_map(self) -> ClassMap | None:
        if self.nouns == "coco":
            return None
        from curation.models import device
        from curation.models.class_map import ClassMap
        from curation.models.efficientnet import EfficientNet
        from curation.models.imagenet import ImageNet

        device.pick(0)
        return ClassMap(EfficientNet(store.path("efficientnet-lite2")), ImageNet(store.path("imagenet-classes"), self.names))

    def _open_set(self, lowest: float) -> Backend:
        from curation.models import device
        from curation.models.grounding_dino import GroundingDino
        from curation.models.open_set import OpenSet
        from curation.models.sam import SegmentAnything

        detector, texts, segmenter = self._files()
        where = device.pick(self.share)
        finds = GroundingDino(detector, texts, where, self.precision)
        return OpenSet(finds, SegmentAnything(segmenter, where, self.precision), lowest, self.text_threshold)

    def _files(self) -> tuple[Path, Path, Path]:
        """The detector's checkpoint, BERT's folder, SAM's checkpoint."""
        if self.weights is None:
            return store.path("groundingdino-swint"), store.path("bert-base-uncased"), store.path("sam-vit-b")
        folder = Path(self.weights).expanduser()
        return _only(folder, "groundingdino*.pth"), _only(folder, "bert-base-uncased"), _only(folder, "sam*.pth")

    def _frames(self, sample: Sample) -> list[np.ndarray]:
        return [from_jpeg(sample.files[name]) for name in sorted(sample.files) if fnmatchcase(name, self.reads[0])]

    def _finish(self, sample: Sample, frames: list[np.ndarray], found: list[list[list[Candidate]]]) -> Sample:
        """Say what is cut out of what was found. Raises `Reject`."""
        entities = sample.meta["extract_entities"]["entities"]
        results = [nothing() for _ in entities]
        for i, result in zip(_sought(sample), self._segment(frames, _words(sample), found), strict=True):
            results[i] = result
            for ref in result["refs"]:
                ref["member"] = f"ref.{i}.{ref['frame']}.webp"
        sample.meta[self.name] = {"model": self.model, "entities": results}
        self._check([entity["kind"] for entity, result in zip(entities, results, strict=True) if result["refs"]])
        return sample

    def _segment(self, frames: list[np.ndarray], words: list[str], found: list[list[list[Candidate]]]) -> list[dict[str, Any]]:
        """Metadata per word, its refs still without `member`."""
        from curation.models.tracks import follow

        labels = [self.backend.label(word) for word in words]
        shown = follow(frames, words, found, self.box_threshold, self.backend, self.min_link)
        results = []
        for word, label in enumerate(labels):
            result: dict[str, Any] = nothing() | {"label": label, "rivals": labels.count(label) if label else 0}
            if self.model == "groundingdino":
                result["person"] = self.names.is_person(words[word])
            for f, frame in enumerate(frames):
                sighting = shown[word][f]
                if sighting is None:
                    best = max((c.score for c in found[f][word]), default=None)
                    result["misses"].append({"frame": f, "reason": "no_box", "score": scored(best)})
                    continue
                others = [c.box for row in found[f] for c in row if c.kind == sighting.kind]
                record = self._cut(frame, sighting, others)
                if "reason" not in record:
                    record["alike"] = self._alike(sighting, found[f][word], [s for row in shown if (s := row[f])])
                result["misses" if "reason" in record else "refs"].append({"frame": f} | record)
            if len(result["refs"]) < self.min_frames:
                dismiss(result, "too_few_frames")
            results.append(result | {"reason": reason(result)})
        return results

    def _cut(self, frame: np.ndarray, sighting: Sighting, others: Sequence[Box]) -> dict[str, Any]:
        """The ref of a sighting, or its miss when it has a `reason`."""
        mask, mask_score, by = self.backend.mask(frame, sighting.box, sighting.label, others)
        record: dict[str, Any] = {"label": sighting.label, "score": scored(sighting.score), "link": scored(sighting.link)}
        record |= {"found_by": sighting.found_by, "mask_score": scored(mask_score), "mask_by": by, "area": scored(mask.mean())}
        if fault := "other_individual" if sighting.stranger else self._fault(mask, mask_score, sighting.box):
            return record | {"box": rounded(sighting.box, 1), "reason": fault}
        return record | {"box": list(bounds(mask)), "mask": to_rle(mask)}

    def _alike(self, chosen: Sighting, candidates: Sequence[Candidate], shown: Sequence[Sighting]) -> int:
        """How many others of a frame the word might as well mean: as large, as sure, and nobody's."""
        places = [sighting.box for sighting in shown if sighting.kind == chosen.kind]
        count = 0
        for other in candidates:
            as_good = area(other.box) >= AS_LARGE * area(chosen.box) and other.score >= AS_SURE * chosen.score
            if as_good and other.score >= self.box_threshold and not same_place(other.box, places).any():
                places.append(other.box)
                count += 1
        return count

    def _fault(self, mask: np.ndarray, mask_score: float, box: Box) -> str | None:
        """Why a mask is no reference, or None."""
        share = np.count_nonzero(mask) / max(1.0, (box[2] - box[0]) * (box[3] - box[1]))
        if share < LEAST_OF_BOX:
            return "mask_too_thin"
        if share > MOST_OF_BOX and self.model == "nanodet":  # a screen or a book fills its box; SAM can tell
            return "mask_fills_box"
        if mask.mean() < self.min_area:
            return "too_small"
        if mask.mean() > self.max_area:
            return "too_large"
        if mask_score < (self.mask_threshold if self.model == "nanodet" else self.iou_threshold):
            return "mask_uncertain"
        return None

    def _check(self, kinds: list[str]) -> None:
        """Raise `Reject` when what is required is not among the kinds that were cut out."""
        if self.require == "subject" and "subject" not in kinds:
            raise Reject("no_subject_localised")
        if self.require == "any" and not kinds:
            raise Reject("nothing_localised")


def _sought(sample: Sample) -> list[int]:
    """The entities that are looked for: all but backgrounds."""
    return [i for i, entity in enumerate(sample.meta["extract_entities"]["entities"]) if entity["kind"] != "background"]


def _words(sample: Sample) -> list[str]:
    return [sample.meta["extract_entities"]["entities"][i]["word"] for i in _sought(sample)]


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise FileNotFoundError(f"weights: {folder} should hold one {pattern}, it holds {len(found)}")
    return found[0]
