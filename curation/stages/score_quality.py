"""Reject clips that teach a video model nothing: stills, slight motion, pictures in pictures, screen recordings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from curation.faults import one_line
from curation.media.members import from_jpeg
from curation.sample import Sample
from curation.stage import IN_HAND, Reject, Resources, Result, Stage, Window
from curation.store import store

DESIRABLE = "desirable"
CLASSES = (DESIRABLE, "still_foreground_image", "slight_motion", "screen_in_screen", "computer_screen_recording")
"""PAPER.md §1.2."""
FRAMES, SIDE = 16, 640
"""VideoMAE sees 16 frames (PAPER.md §3), at 224 px; the side is not stated by the paper."""
WEAK = "low_desirable_score"
"""Desirable more than anything else, and still below the threshold: Panda-70M's name for it (PAPER.md §2)."""


@dataclass(kw_only=True)
class ScoreQuality(Stage):
    """Classify each clip by VideoMAE, or take Panda-70M's published label, and keep what is desirable (PAPER.md §1.2).

    The network sees frames of sample_frames' window, evenly spaced; nothing is decoded here. Metadata: `label`, the likeliest
    class; `source`, "label" or "model"; from the model also `probabilities`, by class, and `frames`, the indices of those it saw.
    A clip is rejected with its class as the reason. Without a network the stage may stand under `plan:`, so that no clip that is
    rejected by its label is opened.
    """

    resources: ClassVar[Resources] = Resources(batch=8, memory=3.0)  # GB, estimated: 0.35 of ViT-B, torch and CUDA beside it
    reads: ClassVar[tuple[str, ...]] = ("_window.*.jpg",)

    labels_from: Literal["auto", "model", "panda70m"] = "model"
    """Who judges: a network; the `desirable_filtering` of the input, without which a clip is rejected (`no_quality_label`); or
    with auto that where the input has it, else the network of `weights`, else nobody: the clip passes."""
    weights: str | None = None
    """Folder of a VideoMAE fine-tuned to the five classes, as transformers saves it. None is published: it is the user's own."""
    min_desirable: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Least probability of `desirable`; not stated by the paper."""

    def __post_init__(self) -> None:
        if not self._asks_network:
            self.reads = ("caption",)  # type: ignore[misc] # the labels come with it, before any video is opened
            self.resources = Resources(batch=8, memory=0.25)  # type: ignore[misc]

    @property
    def _asks_network(self) -> bool:
        return self.labels_from == "model" or (self.labels_from == "auto" and self.weights is not None)

    def window(self) -> Window:
        return Window(FRAMES, SIDE) if self._asks_network else Window()

    def units(self) -> int:
        return IN_HAND if self.share else 1

    def load(self) -> None:
        if self._asks_network:
            self._network = _network(self.weights, self.share)
            self._classes = [class_of(label) for label in self._network.labels]
            if missing := [name for name in CLASSES if name not in self._classes]:
                labels = ", ".join(self._network.labels)
                raise store.StoreError(f"score_quality.weights: {self.weights} knows {labels}, and so lacks {', '.join(missing)}")

    def process_batch(self, samples: Sequence[Sample]) -> Sequence[Result]:
        """By the network who is shown to it, the others by the label that came with them."""
        shown = [s for s in samples if self._asks_network and (self.labels_from == "model" or not _label(s))]
        judged = dict(zip(map(id, shown), self._by_network(shown) if shown else (), strict=True))
        return [judged.get(id(sample)) or self._by_label(sample) for sample in samples]

    def _by_network(self, samples: Sequence[Sample]) -> list[Result]:
        from curation.models.videomae import probabilities

        chosen = [_spread(sample, self._network.frames) for sample in samples]
        logits = self._network.logits([pictures for _, pictures in chosen])
        return [
            self._judge(sample, indices, shares)
            for sample, (indices, _), shares in zip(samples, chosen, probabilities(logits).tolist(), strict=True)
        ]

    def _by_label(self, sample: Sample) -> Sample | Reject:
        label = _label(sample)
        if not label:
            return sample if self.labels_from == "auto" else Reject("no_quality_label")
        sample.meta[self.name] = {"label": class_of(label), "source": "label"}
        return sample if class_of(label) == DESIRABLE else Reject(class_of(label))

    def _judge(self, sample: Sample, indices: list[int], shares: list[float]) -> Result:
        by_class = {name: round(share, 4) for name, share in zip(self._classes, shares, strict=True)}
        label = self._classes[int(np.argmax(shares))]
        sample.meta[self.name] = {"label": label, "source": "model", "probabilities": by_class, "frames": indices}
        if by_class[DESIRABLE] >= self.min_desirable:
            return sample
        return Reject(WEAK if label == DESIRABLE else label)


def _label(sample: Sample) -> str | None:
    return sample.meta["source"].get("desirable_filtering")


def class_of(label: str) -> str:
    """A checkpoint's or Panda-70M's label as the paper's class: `2_tiny_camera_movement` → `slight_motion`."""
    name = re.sub(r"^\d+_", "", re.sub(r"\W+", "_", label.strip().lower()))
    return "slight_motion" if name == "tiny_camera_movement" else name


def _network(weights: str | None, share: float) -> Any:
    """Raises `StoreError`, one line, when the folder is not what it should be."""
    wanted = "a folder with config.json and model.safetensors of a VideoMAE fine-tuned to the classes of PAPER.md §1.2"
    if weights is None:
        other = "or `labels_from: panda70m` where the input has Panda-70M's labels"
        raise store.StoreError(f"score_quality: no checkpoint is published, so set `weights` to {wanted}, {other}")
    folder = Path(weights).expanduser()
    if not (folder / "config.json").is_file():
        raise store.StoreError(f"score_quality.weights: no config.json in {folder}: it should be {wanted}")
    from curation.models.device import pick
    from curation.models.videomae import VideoMAE

    try:
        return VideoMAE(folder, pick(share))
    except (OSError, ValueError, KeyError) as error:
        raise store.StoreError(f"score_quality.weights: {folder} cannot be loaded: {one_line(error)}") from error


def _spread(sample: Sample, count: int) -> tuple[list[int], np.ndarray]:
    """`count` evenly spaced frames of the window, some twice if it holds fewer: indices in the clip, uint8 RGB [·, H, W, 3]."""
    members = sorted(name for name in sample.files if fnmatchcase(name, "_window.*.jpg"))
    if not members:
        raise LookupError("sample_frames made no window of this clip, though score_quality asks for one")
    places = [round(i * (len(members) - 1) / max(1, count - 1)) for i in range(count)]
    pictures = {place: from_jpeg(sample.files[members[place]]) for place in places}
    window = sample.meta["sample_frames"]["window"]
    return [window[place] for place in places], np.stack([pictures[place] for place in places])
