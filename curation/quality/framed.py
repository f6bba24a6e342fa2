"""Pictures and clips laid over others, with known truth; and what desirable clips wear as well: bars, subtitles, logos.

Clips are uint8 RGB [F, H, W, 3]; sizes are (width, height). Everything is decided by the generator.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from curation.quality.motionless import Rng, Size, filled, resting

WORDS = (
    *("the", "of", "and", "world", "today", "news", "live", "best", "story", "water", "people", "first", "time", "street", "how"),
    *("music", "night", "house", "market", "city", "green", "season", "final", "match", "report", "garden", "never", "again"),
    "what",
)
FACES = ("sans", "serif", "italic")
Box = tuple[int, int, int, int]
"""Left, top, right, bottom."""


def screen_in_screen(rng: Rng, clips: Sequence[np.ndarray], size: Size, unseen: bool = False) -> np.ndarray:
    """Of the clips, of one length, one is laid over another, over a picture or a pattern, or beside others. `unseen`: split
    screens, a screen that stands in a scene and a webcam over a game are left to those."""
    ways = (split, standing, webcam) if unseen else (inset, inset, blurred_sides, template)
    return ways[int(rng.integers(len(ways)))](rng, clips, size)


def inset(rng: Rng, clips: Sequence[np.ndarray], size: Size) -> np.ndarray:
    """A clip or a still in a rectangle over a clip, a still or a pattern; with or without border and round corners."""
    lower, upper = _two(rng, clips)
    behind, front = _backdrop(rng, lower, size), _fit(upper, size)
    if rng.random() < 0.2:
        front = np.repeat(front[:1], len(front), axis=0)
    width, height = size
    share = rng.uniform(0.22, 0.45) if rng.random() < 0.6 else rng.uniform(0.5, 0.8)
    ratio = rng.choice([16 / 9, 4 / 3, 1.0, 9 / 16])
    tall = round(min(height * share, width * share / ratio))
    wide = round(tall * ratio)
    gap = round(rng.uniform(0.0, 0.06) * height)
    places = [(gap, gap), (width - wide - gap, gap), (gap, height - tall - gap), (width - wide - gap, height - tall - gap)]
    if share > 0.5 or rng.random() < 0.2:
        places = [((width - wide) // 2, (height - tall) // 2)]
    left, top = places[int(rng.integers(len(places)))]
    return laid(rng, behind, front, (left, top, left + wide, top + tall))


def blurred_sides(rng: Rng, clips: Sequence[np.ndarray], size: Size) -> np.ndarray:
    """A clip of another shape in the middle, itself blurred at its sides (or above and below)."""
    width, height = size
    clip = _any(rng, clips)
    behind = _blurred(_fit(clip, size), rng.uniform(4, 22), rng.uniform(0.5, 1.1))
    if rng.random() < 0.75:
        wide = round(rng.uniform(0.3, 0.75) * width)
        box = ((width - wide) // 2, 0, (width - wide) // 2 + wide, height)
    else:
        tall = round(rng.uniform(0.4, 0.75) * height)
        box = (0, (height - tall) // 2, width, (height - tall) // 2 + tall)
    return laid(rng, behind, clip, box, plain=rng.random() < 0.8)


def template(rng: Rng, clips: Sequence[np.ndarray], size: Size) -> np.ndarray:
    """A clip in a designed frame: a coloured or patterned ground with titles, panels, a ticker, a logo."""
    width, height = size
    clip = _any(rng, clips)
    ground = pattern(rng, size)
    left, right = (rng.uniform(0.02, 0.3, 2) * width).astype(int)
    top, bottom = (rng.uniform(0.02, 0.22, 2) * height).astype(int)
    box = (int(left), int(top), int(width - right), int(height - bottom))
    shown = np.repeat(ground[None], len(clip), axis=0)
    shown = laid(rng, shown, clip, box)
    if rng.random() < 0.5:
        shown = ticker(rng, shown, int(height - bottom), height)
    for _ in range(int(rng.integers(0, 4))):
        shown = lettered(rng, shown, (0, 0, width, max(14, int(top))))
    return shown


def split(rng: Rng, clips: Sequence[np.ndarray], size: Size) -> np.ndarray:
    """Two to four clips side by side, one above the other or in a grid; with or without a line between."""
    width, height = size
    across, down = [(2, 1), (2, 1), (1, 2), (3, 1), (2, 2)][int(rng.integers(5))]
    line = int(rng.choice([0, 0, 2, 4, 8]))
    shown = np.zeros((len(clips[0]), height, width, 3), np.uint8) + rng.choice([0, 255, 60]).astype(np.uint8)
    order = rng.permutation(len(clips))
    for place in range(across * down):
        column, row = place % across, place // across
        left, right = column * width // across + line * (column > 0), (column + 1) * width // across
        top, bottom = row * height // down + line * (row > 0), (row + 1) * height // down
        clip = clips[int(order[place % len(order)])]
        if place >= len(order):
            clip = clip[::-1, :, ::-1]
        shown[:, top:bottom, left:right] = _fit(clip, (right - left, bottom - top))
    return shown


def standing(rng: Rng, clips: Sequence[np.ndarray], size: Size) -> np.ndarray:
    """A clip on a screen that stands in a scene, seen at an angle: in perspective, with a dark frame."""
    width, height = size
    lower, upper = _two(rng, clips)
    behind = _fit(lower, size)
    behind = np.repeat(cv2.convertScaleAbs(behind[0], alpha=rng.uniform(0.4, 1.0))[None], len(behind), axis=0)
    front = _fit(upper, size)
    wide, tall = rng.uniform(0.4, 0.8) * width, rng.uniform(0.4, 0.8) * height
    left, top = rng.uniform(0, width - wide), rng.uniform(0, height - tall)
    corners = np.array([[left, top], [left + wide, top], [left + wide, top + tall], [left, top + tall]], np.float32)
    corners += (rng.uniform(-0.06, 0.06, (4, 2)) * (width, height)).astype(np.float32)
    plane = cv2.getPerspectiveTransform(np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32), corners)
    mask = cv2.fillConvexPoly(np.zeros((height, width), np.uint8), corners.astype(np.int32), 255)
    rim = cv2.dilate(mask, np.ones((9, 9), np.uint8))
    shown = []
    for scene, frame in zip(behind, front, strict=True):
        scene = np.where(rim[..., None] > 0, np.uint8(20), scene)
        shown.append(np.where(mask[..., None] > 0, cv2.warpPerspective(frame, plane, size), scene))
    return np.stack(shown)


def webcam(rng: Rng, clips: Sequence[np.ndarray], size: Size) -> np.ndarray:
    """A clip with a game's displays (bars, a map, numbers), and somebody's camera in a corner or at a side."""
    lower, face = _two(rng, clips)
    game = playing(rng, _fit(lower, size))
    width, height = size
    ratio = rng.choice([1.0, 4 / 3, 16 / 9])
    tall = round(min(rng.uniform(0.2, 0.35) * height, 0.5 * width / ratio))
    wide = round(tall * ratio)
    left, top = (int(rng.choice([0, width - wide])), int(rng.choice([0, (height - tall) // 2, height - tall])))
    return laid(rng, game, face, (left, top, left + wide, top + tall))


def playing(rng: Rng, clip: np.ndarray) -> np.ndarray:
    """With a game's displays over it."""
    height, width = clip.shape[1:3]
    drawn = clip.copy()
    colours = rng.integers(60, 256, (6, 3))
    bars = [
        (int(rng.integers(0, width * 3 // 4)), int(rng.choice([8, height - 24])), int(rng.integers(40, 140))) for _ in range(2)
    ]
    corner = (int(rng.choice([40, width - 40])), int(rng.choice([40, height - 40])))
    face, score = cv2.FontFace(str(rng.choice(FACES))), int(rng.integers(0, 9000))
    for at, frame in enumerate(drawn):
        for number, (left, top, wide) in enumerate(bars):
            cv2.rectangle(frame, (left, top), (left + wide, top + 9), (20, 20, 20), -1)
            full = int(wide * (0.5 + 0.5 * np.sin(at / 7 + number)))
            cv2.rectangle(frame, (left, top), (left + full, top + 9), colours[number].tolist(), -1)
        cv2.circle(frame, corner, 32, colours[2].tolist(), 2)
        cv2.circle(frame, (corner[0] + at % 9, corner[1]), 3, colours[3].tolist(), -1)
        cv2.putText(frame, str(score + 10 * (at // 5)), (width // 2, 24), (255, 255, 255), face, 18, 700)
    return drawn


def laid(rng: Rng, behind: np.ndarray, front: np.ndarray, box: Box, plain: bool = False) -> np.ndarray:
    """`front` cut to the box, over `behind`; `plain`: without border and round corners."""
    left, top, right, bottom = box
    wide, tall = right - left, bottom - top
    shown = behind.copy()
    mask = np.full((tall, wide), 255, np.uint8)
    if not plain and rng.random() < 0.3:
        radius = round(rng.uniform(0.05, 0.5) * min(wide, tall))
        mask[:] = 0
        cv2.rectangle(mask, (radius, 0), (wide - radius, tall), 255, -1)
        cv2.rectangle(mask, (0, radius), (wide, tall - radius), 255, -1)
        for x in (radius, wide - radius - 1):
            for y in (radius, tall - radius - 1):
                cv2.circle(mask, (x, y), radius, 255, -1)
    elif not plain and rng.random() < 0.5:
        line, colour = int(rng.integers(1, 8)), [int(v) for v in rng.choice([0, 255, int(rng.integers(256))], 3)]
        for frame in shown:
            cv2.rectangle(frame, (left - line, top - line), (right + line - 1, bottom + line - 1), colour, -1)
    area, share = shown[:, top:bottom, left:right], mask[..., None] > 127
    area[:] = np.where(share, _fit(front, (wide, tall)), area)
    return shown


def barred(rng: Rng, clip: np.ndarray) -> np.ndarray:
    """With bars of one colour above and below, or at the sides: a clip of another shape, as players show it."""
    height, width = clip.shape[1:3]
    colour = [0, 0, 0] if rng.random() < 0.8 else [int(v) for v in rng.choice([255, 16, 235], 1).repeat(3)]
    shown = np.zeros_like(clip) + np.array(colour, np.uint8)
    if rng.random() < 0.6:
        tall = round(rng.uniform(0.55, 0.92) * height)
        top = (height - tall) // 2
        shown[:, top : top + tall] = _fit(clip, (width, tall))
    else:
        wide = round(rng.uniform(0.35, 0.9) * width)
        left = (width - wide) // 2
        shown[:, :, left : left + wide] = _fit(clip, (wide, height))
    return shown


def subtitled(rng: Rng, clip: np.ndarray) -> np.ndarray:
    """With a line of text below that changes from time to time, on a box or with an outline."""
    shown = clip.copy()
    height, width = clip.shape[1:3]
    face, tall = cv2.FontFace(str(rng.choice(FACES))), round(rng.uniform(0.045, 0.085) * height)
    colour = (255, 255, 255) if rng.random() < 0.6 else (255, 235, 60)
    changes = np.sort(rng.integers(0, len(clip), int(rng.integers(0, 4))))
    texts = [words(rng, int(rng.integers(2, 8))) for _ in range(len(changes) + 1)]
    boxed, foot = rng.random() < 0.3, round(height * rng.uniform(0.84, 0.95))
    for at, frame in enumerate(shown):
        text = texts[int(np.searchsorted(changes, at, "right"))]
        _centred(frame, text, foot, face, tall, colour, boxed)
    return shown


def branded(rng: Rng, clip: np.ndarray) -> np.ndarray:
    """With a small logo or name in a corner."""
    shown = clip.copy()
    height, width = clip.shape[1:3]
    face, tall = cv2.FontFace(str(rng.choice(FACES))), round(rng.uniform(0.035, 0.07) * height)
    text = words(rng, 1).upper()
    x, y = int(rng.choice([10, width - 12 * len(text) - 30])), int(rng.choice([tall + 10, height - 12]))
    share = rng.uniform(0.3, 1.0)
    for frame in shown:
        over = frame.copy()
        cv2.putText(over, text, (x, y), (255, 255, 255), face, tall, 700)
        if tall % 2:
            cv2.circle(over, (x + 8, y + 2 - tall), tall // 2, (230, 40, 40), -1)
        frame[:] = cv2.addWeighted(frame, 1 - share, over, share, 0)
    return shown


def captioned(rng: Rng, clip: np.ndarray) -> np.ndarray:
    """With a lower third: a name on a coloured bar, over a clip that fills the frame."""
    height, width = clip.shape[1:3]
    top = round(height * rng.uniform(0.72, 0.85))
    left, right = round(width * rng.uniform(0.0, 0.1)), round(width * rng.uniform(0.4, 1.0))
    shown = clip.copy()
    begins, ends = sorted(rng.integers(0, len(clip), 2))
    if rng.random() < 0.5:
        begins, ends = 0, len(clip)
    bar = np.array(rng.integers(0, 256, 3), np.float32)
    area = shown[begins:ends, top : top + height // 9, left:right]
    area[:] = (0.2 * area + 0.8 * bar).astype(np.uint8)
    face, text = cv2.FontFace(str(rng.choice(FACES))), words(rng, 3).title()
    for frame in shown[begins:ends]:
        cv2.putText(frame, text, (left + 8, top + height // 13), (255, 255, 255), face, height // 18, 700)
    return shown


def ticker(rng: Rng, clip: np.ndarray, top: int, bottom: int) -> np.ndarray:
    """With a band of text that runs through."""
    shown = clip.copy()
    height, width = bottom - top, clip.shape[2]
    if height < 10:
        return shown
    ground, pace = [int(v) for v in rng.integers(0, 256, 3)], rng.uniform(1, 12)
    tape = np.zeros((height, 4 * width, 3), np.uint8) + np.array(ground, np.uint8)
    tall = min(round(height * 0.6), 28)
    ink = (255, 255, 255) if sum(ground) < 400 else (10, 10, 10)
    cv2.putText(tape, words(rng, 60), (0, (height + tall) // 2), ink, cv2.FontFace(str(rng.choice(FACES))), tall, 600)
    for at, frame in enumerate(shown):
        start = round(at * pace)
        frame[top:bottom] = tape[:, start : start + width]
    return shown


def lettered(rng: Rng, clip: np.ndarray, box: Box) -> np.ndarray:
    """With a line of text that stands in the box."""
    shown = clip.copy()
    left, top, right, bottom = box
    tall = max(10, min(40, round((bottom - top) * rng.uniform(0.4, 0.8))))
    x, y = int(rng.integers(left, max(left + 1, right - 60))), min(bottom - 2, top + tall + 2)
    colour, face, text = [int(v) for v in rng.integers(0, 256, 3)], cv2.FontFace(str(rng.choice(FACES))), words(rng, 4)
    for frame in shown:
        cv2.putText(frame, text, (x, y), colour, face, tall, 600)
    return shown


def pattern(rng: Rng, size: Size) -> np.ndarray:
    """A designed ground: a gradient with stripes, dots, rings, blotches or noise of paper."""
    width, height = size
    ends = rng.integers(0, 256, (2, 3)).astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    xs, ys = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    share = (np.cos(angle) * xs + np.sin(angle) * ys) / 2.83 + 0.5
    ground = ends[0] + share[..., None] * (ends[1] - ends[0])
    kind, pitch = int(rng.integers(5)), rng.uniform(8, 60)
    if kind == 0:
        ground += rng.uniform(8, 40) * (np.sin(2 * np.pi * (xs * width + ys * height) / 2 / pitch) > 0)[..., None]
    elif kind == 1:
        dots = np.hypot((xs * width / 2) % pitch - pitch / 2, (ys * height / 2) % pitch - pitch / 2) < pitch / 4
        ground += rng.uniform(-40, 40) * dots[..., None]
    elif kind == 2:
        coarse = rng.normal(0, 1, (6, 8)).astype(np.float32)
        ground += rng.uniform(10, 50) * cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)[..., None]
    elif kind == 3:
        ground += rng.uniform(8, 40) * (np.sin(np.hypot(xs, ys) * width / pitch) > 0)[..., None]
    else:
        ground += rng.normal(0, rng.uniform(2, 12), (height, width, 1))
    return np.clip(ground, 0, 255).astype(np.uint8)


def words(rng: Rng, count: int) -> str:
    return " ".join(rng.choice(WORDS, count))


def _centred(frame: np.ndarray, text: str, foot: int, face: cv2.FontFace, tall: int, colour: Sequence[int], boxed: bool) -> None:
    width = frame.shape[1]
    box = cv2.getTextSize((width, frame.shape[0]), text, (0, 0), face, tall, 600)
    wide = int(box[2])
    if wide > 0.95 * width:
        tall = int(tall * 0.95 * width / wide)
        wide = int(0.95 * width)
    x = max(2, (width - wide) // 2)
    if boxed:
        cv2.rectangle(frame, (x - 6, foot - tall - 4), (x + wide + 6, foot + 8), (0, 0, 0), -1)
    else:
        for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            cv2.putText(frame, text, (x + dx, foot + dy), (0, 0, 0), face, tall, 600)
    cv2.putText(frame, text, (x, foot), colour, face, tall, 600)


def _backdrop(rng: Rng, clip: np.ndarray, size: Size) -> np.ndarray:
    clip = _fit(clip, size)
    kind = rng.random()
    if kind < 0.45:
        return clip
    if kind < 0.65:
        return resting(rng, clip[0], size, len(clip))
    if kind < 0.8:
        return _blurred(clip, rng.uniform(5, 20), rng.uniform(0.5, 1.1))
    return np.repeat(pattern(rng, size)[None], len(clip), axis=0)


def _blurred(clip: np.ndarray, radius: float, light: float) -> np.ndarray:
    made = []
    for frame in clip:
        small = cv2.resize(frame, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
        soft = cv2.resize(cv2.GaussianBlur(small, (0, 0), radius / 4), frame.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        made.append(cv2.convertScaleAbs(soft, alpha=light))
    return np.stack(made)


def _fit(clip: np.ndarray, size: Size) -> np.ndarray:
    return np.stack([filled(frame, size, 1.0) for frame in clip])


def _any(rng: Rng, clips: Sequence[np.ndarray]) -> np.ndarray:
    return clips[int(rng.integers(len(clips)))]


def _two(rng: Rng, clips: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """One to lie below and one above: two clips where there are two."""
    below, above = rng.permutation(len(clips))[:2] if len(clips) > 1 else (0, 0)
    return clips[int(below)], clips[int(above)]
