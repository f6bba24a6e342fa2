"""Examples of the five classes with known truth, out of a user's own clips: as they are, dressed, and made undesirable."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import cv2
import numpy as np

from curation.media.encode import CODECS, worn
from curation.quality import framed, motionless, screens
from curation.quality.motionless import Rng, Size, filled
from curation.stages.score_quality import CLASSES, DESIRABLE

FRAMES = 32
"""Pictures of a clip that examples are made of, evenly spaced; every second one is looked at."""
SIZES: tuple[Size, ...] = ((640, 360), (640, 360), (640, 360), (480, 360), (640, 480), (360, 640), (426, 240), (640, 272))
STILL, SLIGHT, INSIDE, SCREEN = CLASSES[1:]
UNSEEN_CODECS = ("libvpx", "mpeg2video")


def seeded(*parts: object) -> Rng:
    """A generator of its own for these words and numbers."""
    return np.random.default_rng(list(hashlib.sha256(repr(parts).encode()).digest()))


def example(rng: Rng, label: str, clips: Sequence[np.ndarray], unseen: bool = False) -> np.ndarray:
    """A clip of class `label`, uint8 RGB [FRAMES, H, W, 3] with even sides, made of `clips` (uint8 RGB [FRAMES, H, W, 3] of any
    size, the first is the one it is about). `unseen`: by ways and codecs that are never used otherwise, to be tested on."""
    size = SIZES[int(rng.integers(len(SIZES)))]
    views = [view(rng, clip) for clip in clips]
    if label == DESIRABLE:
        clip = np.stack([filled(frame, size, 1.0) for frame in views[0]])
        clip = framed.playing(rng, clip) if rng.random() < 0.04 else clip
    elif label == INSIDE:
        clip = framed.screen_in_screen(rng, views, size, unseen)
    else:
        pictures = [shown[int(rng.integers(len(shown)))] for shown in views]
        if label == STILL:
            clip = motionless.still(rng, pictures, size, FRAMES, unseen)
        elif label == SLIGHT:
            clip = motionless.slight(rng, pictures[:1], size, FRAMES, unseen)
        else:
            clip = screens.recording(rng, pictures, size, FRAMES, float(rng.uniform(2, 20)), unseen)
    return coded(rng, dressed(rng, clip, bars=label != INSIDE), unseen)


def view(rng: Rng, clip: np.ndarray) -> np.ndarray:
    """A stretch of a clip, of half of it at least, cropped a little and perhaps mirrored; of as many pictures."""
    count = len(clip)
    length = rng.uniform(0.5, 1.0) * (count - 1)
    start = rng.uniform(0, count - 1 - length)
    shown = clip[np.rint(np.linspace(start, start + length, count)).astype(int)]
    height, width = clip.shape[1:3]
    tall, wide = (round(side * rng.uniform(0.75, 1.0)) for side in (height, width))
    top, left = int(rng.integers(0, height - tall + 1)), int(rng.integers(0, width - wide + 1))
    shown = shown[:, top : top + tall, left : left + wide]
    return shown[:, :, ::-1] if rng.random() < 0.5 else shown


def dressed(rng: Rng, clip: np.ndarray, bars: bool) -> np.ndarray:
    """With what clips of every class wear: bars of one colour, subtitles, a logo, a lower third, other colours, noise."""
    if rng.random() < 0.15:
        clip = graded(rng, clip)
    if rng.random() < 0.18 and bars:
        clip = framed.barred(rng, clip)
    for likely, way in ((0.25, framed.subtitled), (0.2, framed.branded), (0.1, framed.captioned)):
        if rng.random() < likely:
            clip = way(rng, clip)
    return motionless.noisy(rng, clip, rng.uniform(0.5, 4)) if rng.random() < 0.2 else clip


def graded(rng: Rng, clip: np.ndarray) -> np.ndarray:
    """With other contrast, brightness and tint, the same for all pictures."""
    levels = np.arange(256, dtype=np.float32) / 255
    table = [np.clip(levels ** rng.uniform(0.7, 1.4) * rng.uniform(0.8, 1.15) + rng.uniform(-0.05, 0.05), 0, 1) for _ in range(3)]
    if rng.random() < 0.15:
        clip = np.repeat(clip.mean(axis=3, keepdims=True), 3, axis=3).astype(np.uint8)
    table = [table[0]] * 3 if rng.random() < 0.5 else table
    return np.stack([(255 * table[c]).astype(np.uint8)[clip[..., c]] for c in range(3)], axis=-1)


def coded(rng: Rng, clip: np.ndarray, unseen: bool) -> np.ndarray:
    """As it comes out of a codec at some loss, perhaps of a smaller size before."""
    clip = clip[:, : clip.shape[1] // 2 * 2, : clip.shape[2] // 2 * 2]
    height, width = clip.shape[1:3]
    if rng.random() < 0.3:
        scale = rng.uniform(0.5, 0.95)
        small = round(width * scale), round(height * scale)
        clip = np.stack([cv2.resize(cv2.resize(f, small, interpolation=cv2.INTER_AREA), (width, height)) for f in clip])
    names = [name for name in CODECS if (name in UNSEEN_CODECS) == unseen]
    name = "libx264" if rng.random() < 0.5 and not unseen else names[int(rng.integers(len(names)))]
    return worn(clip, name, float(rng.uniform(0, 1)))
