"""What the quality filter is trained on: shots of a user's own clips, as evenly spaced pictures, and what is known of them.

They are taken from their sources once and kept in `OUTPUT/sources/`, one file for each video.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import numpy as np

from curation.inputs.files import InputError
from curation.inputs.open import open_input
from curation.inputs.rows import STAGE
from curation.limits import Limits
from curation.machine import cpus
from curation.media.members import from_jpeg
from curation.quality.examples import FRAMES
from curation.sample import Sample, Verdict
from curation.stage import Window, apply
from curation.stages.sample_frames import SampleFrames
from curation.stages.score_quality import CLASSES, SIDE, WEAK, class_of
from curation.stages.split_shots import SplitShots
from curation.store import store

LONGEST = 600.0
"""Seconds of a shot: longer than the run takes, so that little is lost."""
MOST_SHOTS = 12
"""Of one video: more of the same teach little."""


@dataclass(frozen=True)
class Shot:
    """`video`: what it comes from, never in training and validation both; `label`: by hand or Panda-70M's, None where nobody
    says: then it is taken for desirable. `place`: which of its video's in `file`."""

    key: str
    video: str
    label: str | None
    file: Path
    place: int

    def pictures(self) -> np.ndarray:
        """uint8 RGB [FRAMES, H, W, 3], evenly spaced over the shot."""
        with np.load(self.file, allow_pickle=False) as found:
            ends, data = found["ends"][self.place], found["jpegs"]
            starts = np.concatenate([[found["starts"][self.place]], ends[:-1]])
            shown = [from_jpeg(data[a:b].tobytes()) for a, b in zip(starts, ends, strict=True) if b > a]
        return np.stack([shown[round(at * (len(shown) - 1) / (FRAMES - 1))] for at in range(FRAMES)])


class Said(NamedTuple):
    """Of a clip by hand: its class, None for none, and the video it comes from, where that is not what the input says."""

    label: str | None
    video: str


def read_labels(path: Path) -> dict[str, Said]:
    """Of a CSV with the columns `key`, `label` and, if files are parts of one video, `video`. Raises `InputError`."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            if not {"key", "label"} <= set(rows.fieldnames or ()):
                raise InputError(
                    f"--labels {path}: its columns should be key and label, they are {', '.join(rows.fieldnames or ())}"
                )
            found = {}
            for number, row in enumerate(rows, 2):
                label = class_of(row["label"] or "") or None
                found[row["key"]] = Said(label, row.get("video") or "")
                if label not in (*CLASSES, WEAK, None):
                    raise InputError(f"--labels {path}:{number}: no class {row['label']!r}; known: {', '.join(CLASSES)}")
            return found
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"--labels {path}: cannot be read: {error}") from error


def shots(
    input: str, output: Path, labels: Path | None, videos: str | None, limit: int | None
) -> tuple[list[Shot], Counter[str]]:
    """Shots of an input that can be trained on, and what became of its clips, by reason. Raises `InputError`."""
    from curation.console import counting

    by_hand = read_labels(labels) if labels else {}
    clips: list[Sample] = []
    for sample in open_input(input, videos):
        clips.append(sample)
        if len(clips) == limit:
            break
    if missing := [key for key in by_hand if key not in {clip.key for clip in clips}]:
        raise InputError(f"--labels {labels}: {len(missing)} keys are no clips of the input, such as {missing[0]!r}")
    store.fetch(SplitShots().models())
    (output / "sources").mkdir(parents=True, exist_ok=True)
    alive = [_revived(clip) for clip in clips]
    became = Counter(clip.verdict.reason for clip in alive if not clip.alive)
    by_video = [list(group) for _, group in groupby((c for c in alive if c.alive), lambda c: c.meta["source"]["path"])]
    found: list[Shot] = []
    with counting("clips", sum(map(len, by_video))) as progress, pool() as workers:
        for group, (own, reasons) in zip(
            by_video, workers.map(_taken, by_video, [output] * len(by_video), [by_hand] * len(by_video)), strict=True
        ):
            progress.add(len(group))
            found += own
            became += reasons
    return found, became


def pool() -> ProcessPoolExecutor:
    """One process for each processor, none with threads of its own."""
    return ProcessPoolExecutor(cpus(), mp_context=get_context("spawn"), initializer=_alone)


def _alone() -> None:
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(parent_process(),), daemon=True).start()


def _end_with(parent: BaseProcess | None) -> None:
    """End this process when its parent does: one that was killed tells nobody."""
    if parent is not None:
        parent.join()
        os._exit(1)


def _revived(sample: Sample) -> Sample:
    """A clip without a caption is as good as any here."""
    if sample.verdict.stage == STAGE and sample.verdict.reason == "no_caption":
        sample.verdict = Verdict()
    return sample


def _taken(clips: list[Sample], output: Path, said: dict[str, Said]) -> tuple[list[Shot], Counter[str]]:
    """The shots of one video, from its file in `output` or from itself."""
    name = hashlib.sha256(json.dumps([clip.meta["source"] for clip in clips], sort_keys=True).encode()).hexdigest()[:24]
    file, facts = output / f"sources/{name}.npz", output / f"sources/{name}.json"
    if not facts.exists():
        kept, became = _pictures(clips)
        jpegs = [[s.files[name] for name in sorted(s.files) if name.startswith("_window.")] for s in kept]
        _save(file, jpegs)
        partial = facts.with_suffix(".partial")
        partial.write_text(
            json.dumps({"shots": [(s.key, s.meta["source"]["clip"]) for s in kept], "became": became}), encoding="utf-8"
        )
        partial.rename(facts)
    found = json.loads(facts.read_text(encoding="utf-8"))
    source = {clip.key: clip.meta["source"] for clip in clips}
    own = []
    for place, (key, clip) in enumerate(found["shots"]):
        label, video = said.get(clip, Said(None, ""))
        published = source[clip].get("desirable_filtering")
        label = label or (class_of(published) if published else None)
        own.append(Shot(key, video or source[clip]["video"] or source[clip]["path"], label, file, place))
    return own, Counter(found["became"])


@cache
def _stages() -> tuple[SplitShots, SampleFrames]:
    """Loaded once for each process."""
    split, frames = SplitShots(on_boundary="split", max_seconds=LONGEST), SampleFrames()
    split.limits = frames.limits = Limits()
    split.resolve()
    split.load()
    frames.serve(Window(FRAMES, SIDE))
    return split, frames


def _pictures(clips: list[Sample]) -> tuple[list[Sample], Counter[str]]:
    split, frames = _stages()
    done = apply(split, clips)
    became = Counter(s.verdict.reason for s in done if not s.alive)
    some = [s for s in done if s.alive]
    became["more_of_the_same"] = max(0, len(some) - MOST_SHOTS)
    done = apply(frames, some[:: max(1, -(-len(some) // MOST_SHOTS))])
    became += Counter(s.verdict.reason if not s.alive else "used" for s in done)
    return [s for s in done if s.alive], became


def _save(file: Path, jpegs: list[list[bytes]]) -> None:
    ends = np.cumsum([len(jpeg) for own in jpegs for jpeg in own]).astype(np.int64)
    most = max((len(own) for own in jpegs), default=0)
    table, starts, at = np.zeros((len(jpegs), most), np.int64), np.zeros(len(jpegs), np.int64), 0
    for row, own in enumerate(jpegs):
        starts[row] = ends[at - 1] if at else 0
        table[row] = np.pad(ends[at : at + len(own)], (0, most - len(own)), mode="edge")
        at += len(own)
    with file.open("wb") as stream:
        np.savez(stream, starts=starts, ends=table, jpegs=np.frombuffer(b"".join(b"".join(own) for own in jpegs), np.uint8))


def folds(shown: Iterable[Shot], count: int) -> dict[str, int]:
    """Video → which part it belongs to, of `count` of about as many shots each; by hash, so that it does not change with time."""
    sizes = Counter(shot.video for shot in shown)
    parts = [0] * count
    found = {}
    for video in sorted(sizes, key=lambda v: (-sizes[v], hashlib.sha256(v.encode()).digest())):
        found[video] = parts.index(min(parts))
        parts[found[video]] += sizes[video]
    return found


def labelled(shown: Iterable[Shot]) -> Iterator[Shot]:
    """Without those that Panda-70M was not sure of."""
    return (shot for shot in shown if shot.label != WEAK)
