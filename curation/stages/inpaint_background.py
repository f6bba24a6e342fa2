"""A clean background: the middle frame without its subjects and objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from curation.media.members import from_jpeg, to_jpeg
from curation.models.boxes import iou, patch
from curation.sample import Sample
from curation.stage import IN_HAND, Reject, Resources, Result, Stage, Window
from curation.stages.removal import (
    MIDDLE,
    MOVERS,
    Hidden,
    Removal,
    Scene,
    boxes_mask,
    hidden,
    leak_score,
    parts,
    prompt,
    removal,
    resized,
    seed,
)
from curation.store import store

if TYPE_CHECKING:
    from curation.models.wordnet import WordNet

LONG_SIDE = 640
"""Pixels of the long side that the pixel knobs refer to, and of the window's frames; not stated by the paper."""
FRAMES = 24
"""Frames of the clip that may show what is behind; not stated by the paper."""
FEATHER = 4
"""Pixels inside the rim of the hole over which the patch fades in, at that size; chosen by eye."""
LEAST_LEAK = 0.1
"""Score below which a detection in the result is not even recorded."""
MEMBER = "background.jpg"
MEMORY = {"plate": 1.0, "stable-diffusion": 6.0}
"""GB of a worker. plate: measured, 0.9 at its peak. stable-diffusion: estimated, 2.6 of checkpoint, torch and CUDA beside it."""
BATCH = 4
"""Images that Stable Diffusion paints at once; not stated by the paper."""


@dataclass(kw_only=True)
class InpaintBackground(Stage):
    """Paint subjects and objects out of the middle frame: from other frames that show what is behind, or by Stable Diffusion.

    Either way the result is looked at again: what was removed must not be in the hole. NanoDet looks for COCO's 80 classes, of
    other words for people only; EfficientNet-Lite2 looks whether the hole still is like what was there, whatever that is.

    Metadata: `method`, what filled the hole ("frame": nothing was to be removed, "none": there is no background, for `reason`);
    as shares of the frame `hole`, `held`, `shadow` (what of it nobody named) and `invented`; `coverage`, the hole's share that
    `frames` other frames show; `likeness`, see `max_likeness`; by method `leaks`, see `leak_score`, and `alike`, see `max_alike`.
    """

    model: Literal["plate", "stable-diffusion"] = "plate"
    """How the hole is filled. plate: other frames of the clip, PatchMatch for the rest. stable-diffusion: the papers' way."""
    weights: str | None = None
    """A folder in diffusers' format instead of the store's stable-diffusion-2-inpainting."""
    prompt: Literal["background", "protocol"] = "background"
    """What Stable Diffusion is to paint: the caption's background words, or MP's prompt (also where a caption has none)."""
    side: Annotated[int, Field(ge=64, le=1024, multiple_of=64)] = 512
    """Pixels of the square Stable Diffusion works on, into which the frame is squeezed; PAPER.md §1.9."""
    steps: Annotated[int, Field(ge=1, le=1000)] = 50
    """Steps of Stable Diffusion; not stated by the paper (diffusers' default)."""
    guidance: Annotated[float, Field(ge=1)] = 12.0
    """How closely Stable Diffusion keeps to its prompt; PAPER.md §1.9."""
    dilations: Annotated[int, Field(ge=0, le=50)] = 3
    """Times that the masks grow by a square of 4×4 pixels before Stable Diffusion, at `side`; PAPER.md §1.9."""
    retries: Annotated[int, Field(ge=0, le=20)] = 2
    """Further seeds that Stable Diffusion tries when the guard finds a leak; not stated by the paper."""
    instances: bool = True
    """Paint out people and things of the subjects' classes that nobody named, too. The paper paints out the named ones only."""
    guard: Literal["nanodet"] = "nanodet"
    """The detector that looks at the result. nanodet: COCO's 80 classes."""
    dilate: Annotated[int, Field(ge=0, le=100)] = 10
    """plate: pixels the masks grow, at a long side of 640 px; the paper dilates without a figure, MP by about 6 at 512 px."""
    shadow: Annotated[int, Field(ge=0, le=100)] = 6
    """plate: pixels they grow further downwards, for the dark rim below feet; not stated by the paper. Above 0 a shadow that can
    be seen on even ground is removed, too (`traces.shadow`)."""
    saliency: Literal["u2netp", "u2net", "none"] = "u2netp"
    """plate: what sees the rest of what the masks cut off, held things, hair and shoes, so that it leaves with them
    (`traces.belongings`); not stated by the paper."""
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
    max_alike: Annotated[float, Field(ge=0, le=1)] = 0.8
    """Cosine of EfficientNet-Lite2's embeddings of a part of the hole before and after, above which it is a leak; 1: never. On
    panda70m-mini 0.40 to 0.70 for 18 PatchMatch fillings and 16 results of the subjects' holes; above 0.8 are 17 of 18 with the
    subject moved by a sixth of its width, 34 of 54 with half of it left. Of what stands out on 26 other frames 4 fillings (of
    what is like its surroundings: a hillside, ruins), 26 moved, 41 of 78 halves. Not measured with Stable Diffusion: in
    `paper*.yaml` 1."""
    on_leak: Literal["omit", "reject"] = "omit"
    """A clip without a clean background, for whatever reason: keep it without the member, or reject it."""
    quality: Annotated[int, Field(ge=1, le=100)] = 95
    """JPEG quality of the result."""

    resources = Resources(batch=BATCH, memory=MEMORY["plate"])
    reads = (f"frame{MIDDLE}.jpg", "_window.*.jpg", "extract_entities", "segment_entities")
    writes = (MEMBER,)

    def __post_init__(self) -> None:
        self.resources = Resources(batch=BATCH, memory=MEMORY[self.model])  # type: ignore[misc]

    def models(self) -> tuple[str, ...]:
        painter = ("stable-diffusion-2-inpainting",) if self.model == "stable-diffusion" and not self.weights else ()
        salient = () if self.model == "stable-diffusion" or self.saliency == "none" else (self.saliency,)
        return ("nanodet", "wordnet", "efficientnet-lite2", *salient, *painter)

    def window(self) -> Window:
        return Window(FRAMES, LONG_SIDE)

    def units(self) -> int:
        return IN_HAND if self.share and self.model == "stable-diffusion" else 1

    def load(self) -> None:
        import cv2

        from curation.models import plate, traces
        from curation.models.efficientnet import EfficientNet
        from curation.models.nanodet import NanoDet
        from curation.models.u2net import U2Net

        cv2.setNumThreads(1)
        self._cv2, self._plate, self._traces, self._detect = cv2, plate, traces, NanoDet(store.path("nanodet"))
        self._look = EfficientNet(store.path("efficientnet-lite2"))
        self._salient = U2Net(store.path(self.saliency)) if self.model == "plate" and self.saliency != "none" else None
        if self.model == "stable-diffusion":
            from curation.models import device
            from curation.models.stable_diffusion import StableDiffusion

            folder = Path(self.weights).expanduser() if self.weights else store.path("stable-diffusion-2-inpainting")
            self._diffusion = StableDiffusion(
                folder, device.pick(self.share), batch=BATCH, side=self.side, steps=self.steps, guidance=self.guidance
            )

    def process(self, sample: Sample) -> Sample:
        """By the plate."""
        meta = self._meta(sample)
        made = self._scene(sample, meta)
        result = self._settle(sample, meta, self._recover(made, meta) if isinstance(made, Scene) else made)
        if isinstance(result, Reject):
            raise result
        return result

    def process_batch(self, samples: Sequence[Sample]) -> Sequence[Result]:
        if self.model == "plate":
            return super().process_batch(samples)
        metas = [self._meta(sample) for sample in samples]
        made = [self._scene(sample, meta) for sample, meta in zip(samples, metas, strict=True)]
        scenes = {i: scene for i, scene in enumerate(made) if isinstance(scene, Scene)}
        done = {i: jpeg for i, jpeg in enumerate(made) if not isinstance(jpeg, Scene)}
        done |= self._diffuse(scenes, [sample.key for sample in samples], metas)
        return [self._settle(sample, meta, done[i]) for i, (sample, meta) in enumerate(zip(samples, metas, strict=True))]

    def _meta(self, sample: Sample) -> dict[str, Any]:
        meta: dict[str, Any] = {"model": self.model, "frame": MIDDLE, "method": "none", "member": None, "reason": None}
        meta |= {"hole": 0.0, "instances": 0, "coverage": 0.0, "frames": 0, "likeness": 0.0, "invented": 0.0}
        meta |= {"held": 0.0, "shadow": 0.0, "leaks": {}, "alike": {}}
        sample.meta[self.name] = meta
        return meta

    def _settle(self, sample: Sample, meta: dict[str, Any], encoded: bytes | None) -> Sample | Reject:
        if encoded is not None:
            sample.files[MEMBER] = encoded
            meta["member"] = MEMBER
        elif self.on_leak == "reject":
            return Reject(f"background_{meta['reason']}")
        return sample

    def _scene(self, sample: Sample, meta: dict[str, Any]) -> Scene | bytes | None:
        """What is to be painted; or the JPEG when nothing is; or None with `meta["reason"]` set."""
        lose = removal(sample, self._class)
        if lose.lost:
            meta["reason"] = "subject_not_localised"
            return None
        frame = from_jpeg(sample.files[f"frame{MIDDLE}.jpg"])
        window = [from_jpeg(sample.files[name]) for name in sorted(sample.files) if fnmatchcase(name, "_window.*.jpg")]
        shape = self._work_shape(frame, window)
        core = self._core(frame, window, shape, lose, meta)
        if lose.unseen and not meta["instances"]:
            meta["reason"] = "subject_not_localised"
            return None
        if not core.any():
            meta["method"] = "frame"
            return sample.files[f"frame{MIDDLE}.jpg"]
        return Scene(frame, window, core, lose, prompt(sample, self.prompt == "background"))

    def _recover(self, scene: Scene, meta: dict[str, Any]) -> bytes | None:
        """The JPEG with the hole filled by the plate, or None with `meta["reason"]` set."""
        core, labels = scene.core, scene.removal.labels
        small = scene.frame
        if small.shape[:2] != core.shape:
            small = self._cv2.resize(small, core.shape[1::-1], interpolation=self._cv2.INTER_AREA)
        others = self._others([image for image in scene.window if image.shape == small.shape], labels | {"person"})
        core, hole = self._hole(small, core, meta)
        painted = self._clean(small, core, hole, others, labels | {"person"}, meta)
        return None if painted is None else to_jpeg(self._paste(scene.frame, painted, hole)[0], self.quality)

    def _diffuse(self, scenes: dict[int, Scene], keys: Sequence[str], metas: Sequence[dict[str, Any]]) -> dict[int, bytes | None]:
        """The JPEGs with the holes filled by Stable Diffusion; with other seeds those in which something is found again."""
        done: dict[int, bytes | None] = dict.fromkeys(scenes)
        holes = {i: self._plate.fill_holes(self._plate.dilate_square(scene.core, self.dilations)) for i, scene in scenes.items()}
        for attempt in range(1 + self.retries):
            if not (left := [i for i in scenes if done[i] is None]):
                break
            frames, prompts = [scenes[i].frame for i in left], [scenes[i].prompt for i in left]
            seeds = [seed(keys[i], attempt) for i in left]
            for i, image in zip(left, self._diffusion(frames, [holes[i] for i in left], prompts, seeds), strict=True):
                whole, hole = self._paste(scenes[i].frame, image, holes[i])
                labels, share = scenes[i].removal.labels | {"person"}, round(float(hole.mean()), 4)
                leaked = self._leaked(f"stable-diffusion.{attempt}", scenes[i].frame, whole, hole, labels, metas[i])
                metas[i] |= {"prompt": scenes[i].prompt, "hole": share, "reason": "leaked"}
                if not leaked:
                    metas[i] |= {"method": "stable-diffusion", "invented": share, "reason": None}
                    done[i] = to_jpeg(whole, self.quality)
        return done

    def _paste(self, frame: np.ndarray, painted: np.ndarray, hole: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The frame at its own size with the hole from `painted`, and that hole; outside it no pixel changes."""
        native = resized(hole, frame.shape)
        patch = self._plate.enlarge(painted, frame.shape)
        return self._plate.paste(frame, patch, native, feather=self._pixels(frame.shape, FEATHER)), native

    def _class(self, label: str) -> str:
        """A detection's label as NanoDet's class where there is one: open-vocabulary backends label by the word itself."""
        from curation.models.nanodet import COCO

        return label if label in COCO else self._names.to_coco(label) or label

    @cached_property
    def _names(self) -> WordNet:
        from curation.models.wordnet import WordNet

        return WordNet(store.path("wordnet"))

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
            if not self._leaked(method, frame, painted, hole, labels, meta):
                meta |= {"method": method, "invented": round(float(rest.mean()), 4), "reason": None}
                return painted
            meta["reason"] = "leaked"
        return None

    def _leaked(
        self, method: str, before: np.ndarray, after: np.ndarray, hole: np.ndarray, labels: set[str], meta: dict[str, Any]
    ) -> bool:
        """Whether what was in the hole still is: found by the detector, or like what was there in one of the hole's parts."""
        leak = leak_score(self._detect(after, LEAST_LEAK, labels), hole)
        crops = [patch(image, box) for image in (before, after) for box in parts(hole)]
        was, now = np.split(self._look(crops).embedding, 2)
        alike = float((was * now).sum(1).max())
        meta["leaks"][method], meta["alike"][method] = round(leak, 4), round(alike, 4)
        return leak >= self.leak_score or alike > self.max_alike

    def _core(
        self, frame: np.ndarray, window: list[np.ndarray], shape: tuple[int, ...], lose: Removal, meta: dict[str, Any]
    ) -> np.ndarray:
        """What is to be removed, at working size: the named masks, the boxes of those without a mask, and further instances.

        Further instances are what the detector finds of the subjects' classes: a crowd is not named one by one, but a clean
        background has nobody in it. The paper paints out the named ones only. A subject that is missing on this frame is
        looked for at a lower score, here and on the window frames before and after it: mostly the detector missed it.
        """
        least = self.hide_score if lose.unseen else self.instance_score if self.instances else 1.0
        found = [d.box for d in self._detect(frame, least, lose.subjects)]
        if lose.unseen:
            beside = sorted({max(0, len(window) // 2 - 1), (len(window) + 1) // 2} & set(range(len(window))))
            scale = frame.shape[1] / shape[1]
            found += [np.multiply(d.box, scale) for i in beside for d in self._detect(window[i], self.hide_score, lose.subjects)]
        further = [box for box in found if not (iou(box, lose.boxes) > 0.4).any()]
        meta["instances"] = len(further)
        core = boxes_mask([*lose.unmasked, *further], frame.shape, grow=0.03)
        for mask in lose.masks:
            core |= mask
        return resized(core, shape)

    def _hole(self, frame: np.ndarray, core: np.ndarray, meta: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """The core with what belongs to it, if it is not too large anyway, and the hole: that and its shadow, grown."""
        reach, down = self._pixels(core.shape, self.dilate), self._pixels(core.shape, self.shadow)
        shadow = np.zeros_like(core)
        if core.mean() <= self.max_invented:
            held = self._traces.belongings(self._salient(frame), core) if self._salient else shadow
            core = core | held
            shadow = self._traces.shadow(frame, core, reach) if self.shadow else shadow
            meta |= {"held": round(float(held.mean()), 4), "shadow": round(float(shadow.mean()), 4)}
        return core, self._plate.fill_holes(self._plate.dilate(core | shadow, reach, down))

    def _others(self, window: list[np.ndarray], labels: set[str]) -> list[Hidden]:
        return hidden(window, [self._detect(image, self.hide_score, labels | MOVERS) for image in window], labels)

    def _work_shape(self, frame: np.ndarray, window: list[np.ndarray]) -> tuple[int, ...]:
        """Height and width at which is painted. plate: those of the window frames; without any at most `LONG_SIDE`."""
        if self.model == "stable-diffusion":
            return (self.side, self.side)
        height, width = frame.shape[:2]
        scale = min(1.0, LONG_SIDE / max(height, width))
        return window[0].shape[:2] if window else (round(height * scale), round(width * scale))

    def _pixels(self, shape: tuple[int, ...], knob: int) -> int:
        return round(knob * max(shape[:2]) / LONG_SIDE)
