"""Refuse references that nobody would train on: parts of people, what is cut off, hidden, blurred, tiny, or somebody else's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from itertools import combinations
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from curation.media.members import from_jpeg, from_rle, to_npy
from curation.models.boxes import around, squared
from curation.sample import Sample
from curation.stage import Reject, Resources, Stage, Window
from curation.stages.entity_records import is_person
from curation.stages.likeness import Look, face_distance, likeness, strangers
from curation.stages.reference_presets import PRESETS
from curation.store import store

if TYPE_CHECKING:
    from curation.models.pose import Body

SMALL = 0.02
"""Share of the frame below which it is not asked whether a person is all there."""
VOTES = 40
"""Pixels of a face's shorter side from which it says whose it is: of smaller ones friends are as far apart as strangers
(FEASIBILITY.md)."""
MEMORY = 0.75
"""GB of a worker. Measured at 1080p with all networks: 0.6."""
FAR = 2.0
"""Distance that no two faces have."""
FRAMES, LONG_SIDE = 24, 640
"""Pictures of a clip in which logos are looked for, and pixels of their long side; `inpaint_background`'s own."""
EMBEDDINGS = "refs.npy"
SURROUNDINGS = 0.1
"""Share of its box's longer side that the classifier sees on each side."""
Shown = Sequence[tuple[int, dict[str, Any]]]
"""References of one frame, each with the number of its entity."""
Overlaps = Mapping[tuple[int, int], float]
"""IoU of the masks of each two of them, by their places in that."""
Entities = list[list[dict[str, Any]]]
"""Scores of the references of each entity."""
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(kw_only=True)
class ScoreReferences(Stage):
    """Measure every reference, refuse the poor ones, and reject a clip that is left without one (not in the papers).

    A refused reference stays in the metadata with its mask, its `member` null, and `refused`, the first of these that is true:
    "part_only" (a person of whom neither head nor upper body shows), "not_recognised" (as what the detector takes it for),
    "ambiguous" (the word might as well mean another one, or another word this one), "too_small", "cut_off" (by the frame),
    "covered" (by other entities), "blurred", "overlaid" (by a logo or a caption), "dark" (a silhouette against the light),
    "clipped" (a person cut off by a straight line: of the detector's box, or of what he stands behind), "doubtful_mask" (two ways
    to it disagree), "same_pixels" (another entity has the better claim to what it shows), "other_individual" (too unlike the
    others).
    Its cut-out and its face are not published.

    Metadata: `entities`, one list per entity of `extract_entities`, in it per reference of `segment_entities`: `frame`;
    `side`, pixels of the box's shorter side; `truncation`, share of the mask's outline that lies on the frame's border;
    `covered`, share of the box that other entities' masks hold alone; `overlap`, greatest IoU with another entity's mask;
    `sharpness`, standard deviation of the Laplacian within the mask, in grey levels of 255, with a long side of 256 px at most;
    `brightness`, the grey level of 255 that a tenth of the mask exceeds; `clipped`, the longest side of the mask's box that the
    outline runs along and the frame does not, as a share of the outline; `overlaid`, share of the mask where edges of a logo or a
    caption lie, which stand still while it moves (`layout.overlaid`);
    `recognised`, the probability of its label's classes in its box by EfficientNet-Lite2, null for people and for labels that
    ImageNet does not cover (`efficientnet.KNOWN`); `likeness`, the mean cosine of that network's embeddings of its box and of the
    boxes of the entity's other references that are not refused for another reason, null when there is none; `face_distance`, the
    mean distance of dlib's descriptor of its face from theirs, null where there are no two faces of 40 px; `embedding`, its row
    in `refs.npy`, float16 [references not refused, 1280], each of length 1, of what is in its box; null without one.
    Of people: `face`, score of the surest face in it; `pose` and `presence`, how sure MediaPipe's detector and landmarks network
    are of a body; `seen`, share of head, shoulders, hips, knees and feet that is seen; null where a face or a mask under 2 % of
    the frame makes the network superfluous.
    """

    preset: Literal["papers", "clean", "hq"] = "clean"
    """What the knobs below are where they are null: refuse nothing, what one would not train on, or all but the best."""
    people: Literal["upper_body", "any"] | None = None
    """What must show of a person: a face, or a body by its pose; or any part of one."""
    min_face: Share = 0.5
    """Score of a face that shows a person to be there."""
    min_pose: Share = 0.6
    """Score of MediaPipe's pose detector that a person without a face must reach. With it 62 of 67 people on panda70m-mini are
    known, and none of 28 hands, arms and legs and of 14 boxes with nobody in them is taken for one."""
    min_presence: Share = 0.5
    """The same of its landmarks network; MediaPipe's own threshold."""
    min_recognised: Share | None = None
    """Probability that an image classifier must give to what a box is said to show, where it knows that."""
    min_likeness: Share | None = None
    """Likeness to the entity's other references below which it is somebody else. On panda70m-mini 0.55 refuses none of 34 pairs
    of one individual and 42 of 86 pairs of two people of one frame; 0.65 refuses 5 and 65."""
    max_face_distance: Annotated[float, Field(ge=0, le=FAR)] | None = None
    """Distance of two faces' descriptors (dlib's ResNet) above which they are two people's; up to it they are one's, whatever
    else `min_likeness` would say. On three frames of panda70m-mini's clips, from 40 px on, 21 pairs of one person are at most
    0.47 apart (FEASIBILITY.md: 0.63); of 19 pairs of two people of a clip 17 are 0.66 and more, two profiles under caps 0.56 and
    0.61. 2: no face is asked."""
    ambiguous: Literal["refuse", "keep"] | None = None
    """A reference beside which another individual might as well be meant (`alike`), or whose class another word of the caption
    names that was found nowhere (of "a make-up artist" and "a girl" one is there); of a person also when that word names what
    looks like one (a doll, a statue): who does it and to whom it is done is not guessed."""
    min_side: Annotated[int, Field(ge=1)] | None = None
    """Pixels of the shorter side of a reference."""
    min_area: Share | None = None
    """Share of the frame that its mask must cover."""
    max_overlap: Share | None = None
    """IoU of two entities' masks in one frame above which they are one thing: the better claim keeps it."""
    max_truncation: Share | None = None
    """Share of its outline that may lie on the frame's border."""
    max_covered: Share | None = None
    """Share of its box that other entities may hold."""
    min_sharpness: Annotated[float, Field(ge=0)] | None = None
    """Least sharpness."""
    max_overlaid: Share | None = None
    """Share of the mask that may be edges of a logo or a caption. A comedian with a channel's name over him has 0.0036 and 0.0067
    (panda70m-mini); a man who sits still in a car that drives 0.0013, one before whom a microphone stands still 0.0017, 51 others
    at most 0.0003. 1: it is not looked for."""
    min_brightness: Annotated[float, Field(ge=0, le=255)] | None = None
    """Least brightness. On every second clip of panda70m-mini the darkest people and animals that show what they look like have
    79, a tyre 39."""
    max_clipped: Share | None = None
    """Share of a person's outline that may lie along one side of his box. On every second clip of panda70m-mini 16 whole people
    have at most 0.039, 8 of 9 others (behind a laptop, half a body) 0.1 and more, one 0.075. Of things it is not asked: buses and
    screens are straight."""
    min_mask: Share | None = None
    """Least `mask_score` of `segment_entities`, which bears more: there it is to say where something is, here it is to be shown.
    On every second clip of panda70m-mini five of 25 people are below 0.9, of them four poor masks, and of 44 things and animals
    16, 14 of them poor."""
    embeddings: bool | None = None
    """Write `refs.npy`: to find what is alike among millions of references without opening them."""
    require: Literal["subject", "any", "none"] = "subject"
    """What must be left, else the clip is rejected (`no_good_reference`): a subject, any entity, or nothing."""

    resources: ClassVar[Resources] = Resources(memory=MEMORY)
    reads: ClassVar[tuple[str, ...]] = ("frame?.jpg", "_window.*.jpg", "extract_entities", "segment_entities", "crop_faces")
    writes: ClassVar[tuple[str, ...]] = (EMBEDDINGS,)

    def __post_init__(self) -> None:
        for knob in fields(self):
            if knob.name in PRESETS[self.preset] and getattr(self, knob.name) is None:
                setattr(self, knob.name, PRESETS[self.preset][knob.name])

    def models(self) -> tuple[str, ...]:
        wanted = {
            "mediapipe-pose": self.people == "upper_body",
            "dlib-faces": self._compares_faces,
            "efficientnet-lite2": self._looks,
            "imagenet-classes": self._bound("min_recognised") > 0,
            "wordnet": self._bound("min_recognised") > 0 or self.ambiguous == "refuse",
        }
        return tuple(name for name, is_wanted in wanted.items() if is_wanted)

    def window(self) -> Window:
        return Window(FRAMES, LONG_SIDE) if self._bound("max_overlaid") < 1 else Window()

    @property
    def _compares_faces(self) -> bool:
        return self._bound("max_face_distance") < FAR

    @property
    def _looks(self) -> bool:
        return bool(self.embeddings) or any(self._bound(knob) > 0 for knob in ("min_recognised", "min_likeness"))

    def load(self) -> None:
        import cv2

        cv2.setNumThreads(1)
        if self.people == "upper_body":
            from curation.models.pose import Pose

            self._pose = Pose(store.path("mediapipe-pose"))
        if self._compares_faces:
            from curation.models.face_identity import FaceIdentity

            self._identify = FaceIdentity(store.path("dlib-faces"))
        if self._looks:
            from curation.models import device
            from curation.models.efficientnet import EfficientNet

            device.pick(0)
            self._network = EfficientNet(store.path("efficientnet-lite2"))
        if "wordnet" in self.models():
            from curation.models.wordnet import WordNet

            self._names = WordNet(store.path("wordnet"))
        self._classes: dict[str, list[int]] = {}
        if self._bound("min_recognised") > 0:
            from curation.models.efficientnet import coco_classes

            self._classes = coco_classes(store.path("imagenet-classes"), self._names)

    def process(self, sample: Sample) -> Sample:
        from curation.models.grabcut import agreement

        words = sample.meta["extract_entities"]["entities"]
        entities = sample.meta["segment_entities"]["entities"]
        guessed = [self.ambiguous == "refuse" and self._is_one_of(words, entities, i) for i in range(len(words))]
        scores: list[list[dict[str, Any]]] = [[] for _ in entities]
        refusals: dict[tuple[int, int], str | None] = {}
        logo = self._overlaid(sample) if any(entity["refs"] for entity in entities) else None
        looks: list[dict[int, Look]] = [{} for _ in entities]
        for name in sorted(name for name in sample.files if fnmatchcase(name, self.reads[0])):
            frame = int(name.removeprefix("frame").removesuffix(".jpg"))
            shown = [(i, ref) for i, entity in enumerate(entities) for ref in entity["refs"] if ref["frame"] == frame]
            if not shown:
                continue
            masks = [from_rle(ref["mask"]) for _, ref in shown]
            overlaps = {pair: agreement(masks[pair[0]], masks[pair[1]]) for pair in combinations(range(len(shown)), 2)}
            image = from_jpeg(sample.files[name])
            own = self._measure(sample, image, shown, masks, overlaps, logo)
            faults = self._refusals(shown, own, overlaps, [bool(ref.get("alike")) or guessed[i] for i, ref in shown])
            for (i, ref), found, why in zip(shown, own, faults, strict=True):
                scores[i].append({"frame": frame, **found, "likeness": None, "face_distance": None, "embedding": None})
                refusals[i, frame] = why
                if self._looks and not why and (self.embeddings or len(entities[i]["refs"]) > 1):
                    looks[i][frame] = self._look(sample, image, i, ref)
        for i, seen in enumerate(looks):
            sure = {ref["frame"]: ref["score"] for ref in entities[i]["refs"]}
            others = strangers(seen, sure, self._bound("min_likeness"), self._bound("max_face_distance"))
            refusals |= {(i, frame): "other_individual" for frame in others}
            for found in scores[i]:
                if found["frame"] in seen:
                    found["likeness"] = _rounded(likeness(seen, found["frame"]))
                    found["face_distance"] = _rounded(face_distance(seen, found["frame"]))
        sample.meta[self.name] = {"preset": self.preset, "entities": scores}
        if self.embeddings:
            self._embed(sample, scores, looks, refusals)
        for i, entity in enumerate(entities):
            for ref in entity["refs"]:
                if why := refusals[i, ref["frame"]]:
                    _refuse(sample, i, ref, why)
        self._check(sample)
        return sample

    def _look(self, sample: Sample, image: np.ndarray, entity: int, ref: dict[str, Any]) -> Look:
        x0, y0, x1, y1 = ref["box"]
        embedding = self._network([image[y0:y1, x0:x1]]).embedding[0]
        if self._compares_faces:
            for face in sample.meta["crop_faces"]["faces"]:
                left, top, right, bottom = face["box"]
                large = min(right - left, bottom - top) >= VOTES
                if large and (face["entity"], face["frame"]) == (entity, ref["frame"]):
                    return Look(embedding, self._identify(image, face["box"]))
        return Look(embedding)

    def _embed(
        self, sample: Sample, scores: Entities, looks: Sequence[dict[int, Look]], refusals: Mapping[tuple[int, int], str | None]
    ) -> None:
        rows: list[np.ndarray] = []
        for i, own in enumerate(scores):
            for found in own:
                if not refusals[i, found["frame"]]:
                    found["embedding"] = len(rows)
                    rows.append(looks[i][found["frame"]].embedding)
        if rows:
            sample.files[EMBEDDINGS] = to_npy(np.stack(rows).astype(np.float16))

    def _is_one_of(self, words: Sequence[dict[str, Any]], entities: Sequence[dict[str, Any]], number: int) -> bool:
        """Whether another word, of which nothing was found, names the same class, or what looks human where this is a person."""
        own = entities[number]
        sought = [i for i, word in enumerate(words) if i != number and word["kind"] != "background"]
        unseen = [i for i in sought if not entities[i]["refs"]]
        if own["label"] and any(entities[i]["label"] == own["label"] for i in unseen):
            return True
        return any(is_person(own, ref) for ref in own["refs"]) and any(self._names.looks_human(words[i]["word"]) for i in unseen)

    def _overlaid(self, sample: Sample) -> np.ndarray | None:
        """Where logos and captions are, bool at the size of the clip's small pictures; None without two of them."""
        import cv2

        from curation.models.layout import overlaid

        if self._bound("max_overlaid") >= 1:
            return None
        names = sorted(name for name in sample.files if fnmatchcase(name, "_window.*.jpg"))
        greys = [cv2.cvtColor(from_jpeg(sample.files[name]), cv2.COLOR_RGB2GRAY) for name in names]
        return overlaid(greys) if len(greys) > 1 else None

    def _measure(
        self,
        sample: Sample,
        image: np.ndarray,
        shown: Shown,
        masks: Sequence[np.ndarray],
        overlaps: Overlaps,
        logo: np.ndarray | None,
    ) -> list[dict[str, Any]]:
        from curation.models import cutout

        found = []
        for n, (i, ref) in enumerate(shown):
            others = [mask for m, mask in enumerate(masks) if m != n]
            x0, y0, x1, y1 = ref["box"]
            alone = ~masks[n][y0:y1, x0:x1]
            inside = (np.any([other[y0:y1, x0:x1] for other in others], 0) & alone).mean() if others else 0.0
            scores: dict[str, Any] = {
                "side": min(x1 - x0, y1 - y0),
                "truncation": _round(cutout.truncation(masks[n])),
                "covered": _round(inside),
                "overlap": _round(max((share for pair, share in overlaps.items() if n in pair), default=0.0)),
                "sharpness": _round(cutout.sharpness(image, masks[n])),
                "brightness": _round(cutout.brightness(image, masks[n])),
                "clipped": _round(cutout.clipped(masks[n])),
                "overlaid": _round(0.0 if logo is None else cutout.share(masks[n], logo)),
                "recognised": self._recognised(image, ref),
            }
            if is_person(sample.meta["segment_entities"]["entities"][i], ref):
                scores |= self._person(sample, image, ref)
            found.append(scores)
        return found

    def _recognised(self, image: np.ndarray, ref: dict[str, Any]) -> float | None:
        if not self._classes:
            return None
        label = ref["label"] if ref["label"] in self._classes else self._names.to_coco(ref["label"])
        if label not in self._classes:
            return None
        height, width = image.shape[:2]
        left, top, right, bottom = squared(ref["box"], width, height, SURROUNDINGS)
        return _round(self._network([image[top:bottom, left:right]]).classes[0, self._classes[label]].sum())

    def _person(self, sample: Sample, image: np.ndarray, ref: dict[str, Any]) -> dict[str, Any]:
        face = _face(sample, ref)
        scores: dict[str, Any] = {"face": face, "pose": None, "presence": None, "seen": None}
        if self.people != "upper_body" or face >= self.min_face or ref["area"] < SMALL:
            return scores
        from curation.models.people import AROUND

        height, width = image.shape[:2]
        left, top, right, bottom = around(ref["box"], width, height, AROUND)
        body: Body = self._pose(image[top:bottom, left:right])
        parts = body.parts(right - left, bottom - top)
        seen = sum(parts.values()) / len(parts)
        return scores | {"pose": _round(body.score), "presence": _round(body.presence), "seen": _round(seen)}

    def _refusals(
        self, shown: Shown, found: Sequence[dict[str, Any]], overlaps: Overlaps, unclear: Sequence[bool]
    ) -> list[str | None]:
        """Why each reference of a frame is refused, or None."""
        refusals = [self._fault(ref, scores, guess) for (_, ref), scores, guess in zip(shown, found, unclear, strict=True)]
        claims = [(why is None, ref["score"] * ref["mask_score"], -i) for (i, ref), why in zip(shown, refusals, strict=True)]
        for pair, share in overlaps.items():
            if share > self._bound("max_overlap"):
                loser = min(pair, key=lambda n: claims[n])
                refusals[loser] = refusals[loser] or "same_pixels"
        return refusals

    def _fault(self, ref: dict[str, Any], scores: dict[str, Any], unclear: bool) -> str | None:
        """What is wrong with a reference by itself."""
        if scores.get("pose") is not None and (scores["pose"] < self.min_pose or scores["presence"] < self.min_presence):
            return "part_only"
        if scores["recognised"] is not None and scores["recognised"] < self._bound("min_recognised"):
            return "not_recognised"
        if unclear and self.ambiguous == "refuse":
            return "ambiguous"
        if scores["side"] < self._bound("min_side") or ref["area"] < self._bound("min_area"):
            return "too_small"
        if scores["truncation"] > self._bound("max_truncation"):
            return "cut_off"
        if scores["covered"] > self._bound("max_covered"):
            return "covered"
        if scores["sharpness"] < self._bound("min_sharpness"):
            return "blurred"
        if scores["overlaid"] > self._bound("max_overlaid"):
            return "overlaid"
        if scores["brightness"] < self._bound("min_brightness"):
            return "dark"
        if "face" in scores and scores["clipped"] > self._bound("max_clipped"):
            return "clipped"
        return "doubtful_mask" if ref["mask_score"] < self._bound("min_mask") else None

    def _bound(self, knob: str) -> float:
        return float(getattr(self, knob))

    def _check(self, sample: Sample) -> None:
        """Raise `Reject` when what is required is not left."""
        kinds = {
            word["kind"]
            for word, entity in zip(
                sample.meta["extract_entities"]["entities"], sample.meta["segment_entities"]["entities"], strict=True
            )
            if any(ref["member"] for ref in entity["refs"])
        }
        if (self.require == "subject" and "subject" not in kinds) or (self.require == "any" and not kinds):
            raise Reject("no_good_reference")


def _refuse(sample: Sample, entity: int, ref: dict[str, Any], why: str) -> None:
    """Take what it shows out of what is published."""
    sample.files.pop(ref["member"], None)
    ref["member"], ref["refused"] = None, why
    faces = sample.meta["crop_faces"]["faces"]
    for face in faces:
        if face["entity"] == entity and face["frame"] == ref["frame"] and face["member"]:
            sample.files.pop(face["member"], None)
            face["member"] = None


def _face(sample: Sample, ref: dict[str, Any]) -> float:
    """The score of the surest face whose middle is in the box of a reference, kept or not."""
    x0, y0, x1, y1 = ref["box"]
    own = sample.meta["crop_faces"]
    return max(
        (
            face["score"]
            for face in (*own["faces"], *own["misses"])
            if face["frame"] == ref["frame"]
            and x0 <= (face["box"][0] + face["box"][2]) / 2 < x1
            and y0 <= (face["box"][1] + face["box"][3]) / 2 < y1
        ),
        default=0.0,
    )


def _round(value: float) -> float:
    return round(float(value), 4)


def _rounded(value: float | None) -> float | None:
    return None if value is None else _round(value)
