"""Reject clips that teach a video model nothing: stills, slight motion, pictures in pictures, screen recordings."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol

import numpy as np
from pydantic import Field

from curation.faults import one_line
from curation.media.members import from_jpeg
from curation.models.quality import DESIRABLE, KIND, QualityFilter, Rule, looked_at, measures, plain
from curation.sample import Sample
from curation.stage import IN_HAND, Reject, Resources, Result, Stage, Window
from curation.store import store

CLASSES = (DESIRABLE, "still_foreground_image", "slight_motion", "screen_in_screen", "computer_screen_recording")
"""PAPER.md §1.2."""
FRAMES, SIDE = 16, 640
"""VideoMAE sees 16 frames (PAPER.md §3), at 224 px; the side is not stated by the paper."""
WEAK = "low_desirable_score"
"""Desirable more than anything else, and still below the threshold: Panda-70M's name for it (PAPER.md §2)."""
SMALL = Path(__file__).parents[1] / "models/quality_filter"
"""The filter that comes along: config.json, model.safetensors and its card, README.md."""
MEASURES = {"residual_motion": "residual", "static_border": "static_border", "text_share": "text_share"}
"""Plain measures that are recorded, and what `models.motion` and `models.layout` call them."""
Class = Literal["still_foreground_image", "slight_motion", "screen_in_screen", "computer_screen_recording"]
Clip = Sequence[np.ndarray]
"""Frames, uint8 RGB [H, W, 3] of one size, in order of time."""


@dataclass(kw_only=True)
class ScoreQuality(Stage):
    """Classify each clip, or take Panda-70M's published label, and keep what is desirable (PAPER.md §1.2).

    The filter sees frames of sample_frames' window, evenly spaced; nothing is decoded here. Metadata: `label`, the likeliest
    class; `source`, "label" or "model"; from the model also `probabilities`, by class, `frames`, the indices of those it saw, and
    of these `residual_motion`, the share of pixels that move otherwise than the camera explains (median over neighbours),
    `static_border`, the share of the frame around all that moves, and `text_share`, that under what looks like text.
    A clip is rejected with its class as the reason. It may stand under `plan:` and under `clips:`: who is judged by a label while
    planning is never opened, and not judged again.
    """

    resources: ClassVar[Resources] = Resources(batch=8, memory=3.0)  # GB, estimated: 0.35 of ViT-B, torch and CUDA beside it
    reads: ClassVar[tuple[str, ...]] = ("_window.*.jpg",)
    twice: ClassVar[bool] = True

    labels_from: Literal["auto", "model", "input", "panda70m"] = "auto"
    """Who judges. auto: the `desirable_filtering` that came with the input, without one the filter. model: the filter, always.
    input: that label, and who has none passes: for `plan:`. panda70m: that label, and who has none is rejected
    (`no_quality_label`)."""
    weights: str | None = None
    """Folder of a filter that `curation train-filter` has made, or of any VideoMAE fine-tuned to the five classes, as
    transformers saves it; none is published. null: the small filter that comes along."""
    min_desirable: Annotated[float, Field(ge=0, le=1)] | None = None
    """Least probability of `desirable`. null: what the filter was calibrated to, 0.5 when it does not say; not stated by the
    paper."""
    rejects: list[Class] | None = None
    """Classes that reject a clip; the others are recorded. null: those of which the filter is sure enough by its own account, all
    four when it does not say."""

    def __post_init__(self) -> None:
        if not self._asks_filter:
            self.reads = ("caption",)  # type: ignore[misc] # the labels come with it, before any video is opened
            self.resources = Resources(batch=8, memory=0.25)  # type: ignore[misc]
        elif self._is_small:
            self.resources = Resources(batch=8, memory=0.6)  # type: ignore[misc]

    @property
    def _asks_filter(self) -> bool:
        return self.labels_from in ("auto", "model")

    @property
    def _is_small(self) -> bool:
        return self.weights is None or _kind(Path(self.weights).expanduser()) == "small"

    def models(self) -> tuple[str, ...]:
        return ("efficientnet-lite2",) if self._asks_filter and self._is_small else ()

    def own_files(self) -> dict[str, str | Path]:
        return {"weights": self.weights or SMALL} if self._asks_filter else {}

    def window(self) -> Window:
        return Window(FRAMES, SIDE) if self._asks_filter else Window()

    def units(self) -> int:
        return IN_HAND if self.share else 1

    def load(self) -> None:
        if not self._asks_filter:
            return
        self._filter = _filter(self.weights, self.share)
        if missing := [name for name in CLASSES if name not in self._filter.classes]:
            known = ", ".join(self._filter.classes)
            raise store.StoreError(f"score_quality.weights: {self.weights} knows {known}, and so lacks {', '.join(missing)}")
        own = self._filter.rule
        least = own.min_desirable if self.min_desirable is None else self.min_desirable
        self._rule = Rule(least, own.rejects if self.rejects is None else tuple(self.rejects))

    def process_batch(self, samples: Sequence[Sample]) -> Sequence[Result]:
        """By the filter who is shown to it, the others by the label that came with them."""
        shown = [sample for sample in samples if self._is_shown(sample)]
        judged = dict(zip(map(id, shown), self._by_filter(shown) if shown else (), strict=True))
        return [judged.get(id(sample)) or self._by_label(sample) for sample in samples]

    def _is_shown(self, sample: Sample) -> bool:
        judged = sample.meta.get(self.name, {}).get("source") == "label"  # while planning
        return self._asks_filter and not judged and (self.labels_from == "model" or not _label(sample))

    def _by_filter(self, samples: Sequence[Sample]) -> list[Result]:
        chosen = [_spread(sample, self._filter.frames) for sample in samples]
        found = self._filter([pictures for _, pictures in chosen])
        results: list[Result] = []
        for sample, (indices, pictures), (shares, measured) in zip(samples, chosen, found, strict=True):
            known = measured or plain(pictures)
            facts = {"frames": indices} | {name: round(known[key], 4) for name, key in MEASURES.items()}
            results.append(self._judge(sample, shares, facts))
        return results

    def _by_label(self, sample: Sample) -> Sample | Reject:
        label = _label(sample)
        if not label:
            return Reject("no_quality_label") if self.labels_from == "panda70m" else sample
        sample.meta[self.name] = {"label": class_of(label), "source": "label"}
        return sample if class_of(label) == DESIRABLE else Reject(class_of(label))

    def _judge(self, sample: Sample, shares: Sequence[float], facts: dict[str, Any]) -> Result:
        by_class = {name: round(float(share), 4) for name, share in zip(self._filter.classes, shares, strict=True)}
        label = max(by_class, key=by_class.__getitem__)
        sample.meta[self.name] = {"label": label, "source": "model", "probabilities": by_class, **facts}
        reason = self._rule.reason(by_class)
        return sample if reason is None else Reject(WEAK if label == DESIRABLE else reason)


class Filter(Protocol):
    """What judges clips: `frames` of each, evenly spaced."""

    frames: int
    classes: tuple[str, ...]
    rule: Rule

    def __call__(self, clips: Sequence[Clip]) -> list[tuple[Sequence[float], dict[str, float]]]:
        """Of each clip the probabilities of `classes`, and the plain measures where it makes them."""


class Small:
    """The small filter and the network whose looks it needs."""

    frames = FRAMES

    def __init__(self, folder: Path):
        from curation.models.efficientnet import EfficientNet

        self._head = QualityFilter.load(folder)
        self.classes, self.rule = self._head.classes, self._head.rule
        self._looks = EfficientNet(store.path("efficientnet-lite2"))

    def __call__(self, clips: Sequence[Clip]) -> list[tuple[Sequence[float], dict[str, float]]]:
        found = [measures(clip, self._looks(looked_at(clip))) for clip in clips]
        return list(zip(self._head(found), found, strict=True))


class Large:
    """VideoMAE."""

    def __init__(self, folder: Path, share: float):
        from curation.models.device import pick
        from curation.models.videomae import VideoMAE

        self._network = VideoMAE(folder, pick(share))
        self.frames = self._network.frames
        self.classes = tuple(class_of(label) for label in self._network.labels)
        self.rule = Rule(**(self._network.rule or {"min_desirable": 0.5, "rejects": CLASSES[1:]}))

    def __call__(self, clips: Sequence[Clip]) -> list[tuple[Sequence[float], dict[str, float]]]:
        from curation.models.videomae import probabilities

        logits = self._network.logits([np.stack(clip) for clip in clips])
        return [(shares, {}) for shares in probabilities(logits).tolist()]


def _label(sample: Sample) -> str | None:
    return sample.meta["source"].get("desirable_filtering")


def class_of(label: str) -> str:
    """A checkpoint's or Panda-70M's label as the paper's class: `2_tiny_camera_movement` → `slight_motion`."""
    name = re.sub(r"^\d+_", "", re.sub(r"\W+", "_", label.strip().lower()))
    return "slight_motion" if name == "tiny_camera_movement" else name


def _kind(folder: Path) -> Literal["small", "large", "none"]:
    """Which filter a folder holds, by its config.json."""
    try:
        facts = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "none"
    return "small" if isinstance(facts, dict) and facts.get("kind") == KIND else "large"


def _filter(weights: str | None, share: float) -> Filter:
    """Raises `StoreError`, one line, when the folder is not what it should be."""
    folder = SMALL if weights is None else Path(weights).expanduser()
    if not (folder / "config.json").is_file():
        wanted = "what `curation train-filter` has made, or a VideoMAE fine-tuned to the classes of PAPER.md §1.2"
        raise store.StoreError(f"score_quality.weights: no config.json in {folder}: it should be {wanted}")
    try:
        return Small(folder) if _kind(folder) == "small" else Large(folder, share)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise store.StoreError(f"score_quality.weights: {folder} cannot be loaded: {one_line(error)}") from error


def _spread(sample: Sample, count: int) -> tuple[list[int], list[np.ndarray]]:
    """`count` evenly spaced frames of the window, some twice if it holds fewer: indices in the clip, and the pictures."""
    members = sorted(name for name in sample.files if fnmatchcase(name, "_window.*.jpg"))
    if not members:
        raise LookupError("sample_frames made no window of this clip, though score_quality asks for one")
    places = [round(i * (len(members) - 1) / max(1, count - 1)) for i in range(count)]
    pictures = {place: from_jpeg(sample.files[members[place]]) for place in places}
    window = sample.meta["sample_frames"]["window"]
    return [window[place] for place in places], [pictures[place] for place in places]
