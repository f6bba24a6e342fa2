"""The examples the small filter is trained on, as measures: made once, kept in `OUTPUT/measures/`, a file for each video."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from curation.media.members import from_jpeg, to_jpeg
from curation.quality.examples import coded, dressed, example, seeded, view
from curation.quality.sources import Shot, labelled, pool
from curation.stages.sample_frames import WINDOW_QUALITY
from curation.stages.score_quality import CLASSES, DESIRABLE, FRAMES
from curation.store import store

if TYPE_CHECKING:
    from curation.models.efficientnet import EfficientNet

AS_IT_IS, MADE, UNSEEN = range(3)
"""Kinds of example: the clip as it is; made of it by ways and codecs that are trained on; by others."""
SEEN_EACH, UNSEEN_EACH = 8, 1
"""Examples made of a shot for each class."""
OTHERS = 2
"""Further clips that an example may be made of."""
VERSION = 2
"""Of examples and measures: another number, and none that was kept before is used."""


@dataclass(frozen=True)
class Measured:
    """`values`, float64 [N, measures]; of each example `label`, an index in CLASSES, `kind`, and `video`."""

    names: tuple[str, ...]
    values: np.ndarray
    label: np.ndarray
    kind: np.ndarray
    video: np.ndarray
    key: np.ndarray


def measured(shown: Sequence[Shot], part: dict[str, int], output: Path, seen: int = SEEN_EACH) -> Measured:
    """All examples of these shots, `seen` for each class by ways that are trained on. What one is made of comes from videos of
    one part, so that no video is in two."""
    from curation.console import counting

    store.fetch(["efficientnet-lite2"])
    (output / "measures").mkdir(parents=True, exist_ok=True)
    used = list(labelled(shown))
    tasks = [list(group) for _, group in groupby(used, lambda shot: shot.file)]
    raw = [[shot for shot in used if is_raw(shot) and part[shot.video] == part[group[0].video]] for group in tasks]
    tables: list[dict[str, np.ndarray]] = []
    with counting("shots", len(used)) as progress, pool() as workers:
        for group, table in zip(
            tasks, workers.map(_of_video, tasks, raw, [output] * len(tasks), [seen] * len(tasks)), strict=True
        ):
            progress.add(len(group))
            tables.append(table)
    names = tuple(str(name) for name in tables[0]["names"])
    joined = {name: np.concatenate([table[name] for table in tables]) for name in ("values", "label", "kind", "video", "key")}
    return Measured(names, **joined)


def is_raw(shot: Shot) -> bool:
    """Whether it moves like a video, so that examples can be made of it."""
    return shot.label in (None, DESIRABLE)


def jobs(shot: Shot, seen: int = SEEN_EACH) -> list[tuple[int, str, int]]:
    """Kind, label and number of each example of a shot."""
    own = [(AS_IT_IS, shot.label or DESIRABLE, 0)]
    if not is_raw(shot):
        return own + [(MADE, str(shot.label), number) for number in range(seen)]
    return (
        own
        + [(MADE, label, number) for label in CLASSES for number in range(seen)]
        + [(UNSEEN, label, number) for label in CLASSES for number in range(UNSEEN_EACH)]
    )


def pictures(shot: Shot, raw: Sequence[Shot], kind: int, label: str, number: int) -> np.ndarray:
    """uint8 RGB [32, H, W, 3] of one example, the same whenever it is asked for."""
    clip = shot.pictures()
    if kind == AS_IT_IS:
        return clip
    rng = seeded(shot.key, kind, label, number)
    if not is_raw(shot):
        return coded(rng, dressed(rng, view(rng, clip), bars=True), unseen=False)
    others = [other for other in raw if other.key != shot.key] or [shot]
    more = [others[int(rng.integers(len(others)))].pictures() for _ in range(OTHERS)]
    return example(rng, label, [clip, *more], unseen=kind == UNSEEN)


def looked_through(clip: np.ndarray) -> list[np.ndarray]:
    """The pictures of an example that score_quality would see, as it would see them."""
    places = [round(at * (len(clip) - 1) / (FRAMES - 1)) for at in range(FRAMES)]
    return [from_jpeg(to_jpeg(clip[place], WINDOW_QUALITY)) for place in places]


def _of_video(own: list[Shot], raw: list[Shot], output: Path, seen: int = SEEN_EACH) -> dict[str, np.ndarray]:
    known = repr((VERSION, seen, UNSEEN_EACH, [(s.key, s.label) for s in own], sorted(s.key for s in raw)))
    file = output / f"measures/{hashlib.sha256(known.encode()).hexdigest()[:24]}.npz"
    if not file.exists():
        table = _table(own, raw, seen)
        partial = file.with_suffix(".partial")
        with partial.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **table)
        partial.rename(file)
    with np.load(file, allow_pickle=False) as found:
        return dict(found)


@cache
def _looks() -> EfficientNet:
    """One for each process."""
    from curation.models.efficientnet import EfficientNet

    return EfficientNet(store.path("efficientnet-lite2"))


def _table(own: list[Shot], raw: list[Shot], seen: int) -> dict[str, np.ndarray]:
    from curation.models.quality import looked_at, measures

    looks = _looks()
    rows, facts = [], []
    for shot in own:
        for kind, label, number in jobs(shot, seen):
            clip = looked_through(pictures(shot, raw, kind, label, number))
            rows.append(measures(clip, looks(looked_at(clip))))
            facts.append((CLASSES.index(label), kind, shot.video, shot.key))
    labels, kinds, videos, keys = zip(*facts, strict=True)
    values = np.array([list(row.values()) for row in rows])
    table = {"label": np.array(labels), "kind": np.array(kinds), "video": np.array(videos), "key": np.array(keys)}
    return table | {"names": np.array(list(rows[0])), "values": values}
