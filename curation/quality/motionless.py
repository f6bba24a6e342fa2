"""Clips without motion of their own, with known truth: still pictures that are animated, and pictures that only tremble.

Pictures are uint8 RGB [H, W, 3], clips uint8 RGB [F, H, W, 3]; sizes are (width, height). Everything is decided by the generator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

Rng = np.random.Generator
Size = tuple[int, int]
Move = tuple[float, float, float, float]
"""Of a camera over a picture: zoom (1 shows it whole), shift to the right and down as shares of what zoom leaves, degrees."""


def still(rng: Rng, pictures: Sequence[np.ndarray], size: Size, count: int, unseen: bool = False) -> np.ndarray:
    """An animation of one picture or several: pans, zooms, turns, cross-fades, a cut-out that moves over its own picture, a depth
    that is made up. `unseen`: cut-outs, depth and turns are left to those."""
    ways = (parallax, depth, turned) if unseen else (panned, panned, slides)
    clip = _pick(rng, ways)(rng, pictures, size, count)
    return floating(rng, clip) if rng.random() < 0.2 else clip


def slight(rng: Rng, pictures: Sequence[np.ndarray], size: Size, count: int, unseen: bool = False) -> np.ndarray:
    """One picture that hardly moves: a hand's tremble, a breath, noise, flicker, an exposure that changes slowly, a patch that
    moves a little. `unseen`: breath and patch are left to those."""
    picture = filled(_any(rng, pictures), size, 1.06)
    ways = (breath, patch) if unseen else (tremble, resting)
    clip = _pick(rng, ways)(rng, picture, size, count)
    if rng.random() < 0.5:
        clip = exposed(rng, clip)
    return noisy(rng, clip, rng.uniform(0.5, 5)) if rng.random() < 0.7 else clip


def panned(rng: Rng, pictures: Sequence[np.ndarray], size: Size, count: int, turn: float = 0.0) -> np.ndarray:
    """One camera move over one picture, at an even pace or easing in and out; sometimes it rests before or after."""
    picture = _any(rng, pictures)
    near, far = 1 + rng.uniform(0.0, 0.15), 1 + rng.uniform(0.08, 0.9)
    zooms = (near, far) if rng.random() < 0.5 else (far, near)
    if rng.random() < 0.35:
        zooms = (max(zooms), max(zooms) * (1 + rng.uniform(-0.03, 0.03)))  # a pan
    start, end = rng.uniform(-1, 1, 2), rng.uniform(-1, 1, 2)
    if np.abs(start - end).max() < 0.7:
        end = -start
    if rng.random() < 0.3:
        start = end = rng.uniform(-0.4, 0.4, 2)  # a zoom
        zooms = zooms if abs(zooms[0] - zooms[1]) > 0.1 else (1.0, 1.3)
    angles = rng.uniform(-turn, turn, 2)
    return moved(picture, size, [(z, x, y, a) for z, x, y, a in _path(rng, count, zooms, start, end, angles)])


def turned(rng: Rng, pictures: Sequence[np.ndarray], size: Size, count: int) -> np.ndarray:
    return panned(rng, pictures, size, count, turn=rng.uniform(4, 15))


def slides(rng: Rng, pictures: Sequence[np.ndarray], size: Size, count: int) -> np.ndarray:
    """Two or three pictures, each moving on its own, one fading or wiping into the next."""
    shown = 2 if len(pictures) < 3 or rng.random() < 0.6 else 3
    parts = [panned(rng, pictures, size, count) for _ in range(shown)]
    length = count / shown
    fade = rng.uniform(0.15, 0.6) * length
    wipe = rng.random() < 0.25
    clip = parts[0].copy()
    for number, part in enumerate(parts[1:], 1):
        for at in range(count):
            share = float(np.clip((at - number * length) / fade + 0.5, 0, 1))
            if wipe:
                edge = round(share * size[0])
                clip[at, :, :edge] = part[at, :, :edge]
            elif share:
                clip[at] = cv2.addWeighted(clip[at], 1 - share, part[at], share, 0)
    return clip


def parallax(rng: Rng, pictures: Sequence[np.ndarray], size: Size, count: int) -> np.ndarray:
    """A cut-out of a picture moves over the blurred picture itself, at another pace."""
    picture = filled(_any(rng, pictures), (round(size[0] * 1.3), round(size[1] * 1.3)), 1.0)
    mask = blob(rng, picture.shape[1], picture.shape[0])
    hole = cv2.dilate(mask, np.ones((15, 15), np.uint8))
    behind = cv2.GaussianBlur(picture, (0, 0), 12)
    background = np.where(hole[..., None] > 0, behind, picture)
    back = moved(background, size, _walk(rng, count, rng.uniform(0.03, 0.12)))
    walk = _walk(rng, count, rng.uniform(0.12, 0.4))
    front, alpha = moved(picture, size, walk), moved(np.repeat(mask[..., None], 3, 2), size, walk)
    share = cv2.GaussianBlur(alpha.reshape(-1, *alpha.shape[2:]), (3, 3), 0).reshape(alpha.shape).astype(np.float32) / 255
    return (back + share * (front.astype(np.float32) - back)).astype(np.uint8)


def depth(rng: Rng, pictures: Sequence[np.ndarray], size: Size, count: int) -> np.ndarray:
    """A picture bent by a smooth made-up depth while a camera sways before it."""
    picture = filled(_any(rng, pictures), size, 1.12)
    height, width = picture.shape[:2]
    coarse = rng.uniform(0, 1, (4, 5)).astype(np.float32) + np.linspace(0, rng.uniform(0, 2), 4, dtype=np.float32)[:, None]
    relief = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    relief = (relief - relief.mean()) / (np.ptp(relief) + 1e-3)
    reach, phase = rng.uniform(0.02, 0.06) * width, rng.uniform(0, 2 * np.pi)
    turns, tilt = rng.uniform(0.3, 1.2), rng.uniform(-1, 1)
    xs, ys = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    clip = []
    for at in range(count):
        shift = relief * np.float32(reach * np.sin(phase + 2 * np.pi * turns * at / count))
        bent = cv2.remap(picture, xs + shift, ys + shift * np.float32(tilt), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        clip.append(_middle(bent, size))
    return np.stack(clip)


def tremble(rng: Rng, picture: np.ndarray, size: Size, count: int) -> np.ndarray:
    """The shake of a hand: up to a pixel or two, smooth over time."""
    reach = rng.uniform(0.1, 2.0)
    steps = cv2.GaussianBlur(rng.normal(0, 1, (count, 2)).astype(np.float32), (1, 5), rng.uniform(0.3, 2.0))
    steps *= reach / (np.abs(steps).max() + 1e-6)
    return np.stack([_shifted(picture, size, dx, dy) for dx, dy in steps])


def resting(rng: Rng, picture: np.ndarray, size: Size, count: int) -> np.ndarray:
    """Nothing moves."""
    return np.repeat(_middle(picture, size)[None], count, axis=0)


def breath(rng: Rng, picture: np.ndarray, size: Size, count: int) -> np.ndarray:
    """A slow zoom by a percent or less, or a drift of a few pixels."""
    zoom, drift = rng.uniform(-0.01, 0.01), rng.uniform(-2.5, 2.5, 2)
    rows = []
    for at in range(count):
        share = at / max(1, count - 1)
        rows.append(_shifted(picture, size, share * drift[0], share * drift[1], 1 + share * zoom))
    return np.stack(rows)


def patch(rng: Rng, picture: np.ndarray, size: Size, count: int) -> np.ndarray:
    """A small part sways by a few pixels (a leaf, a lamp, an eye that blinks), the rest is still."""
    clip = resting(rng, picture, size, count)
    width, height = size
    side = round(rng.uniform(0.03, 0.12) * min(size))
    left, top = int(rng.integers(side, width - 2 * side)), int(rng.integers(side, height - 2 * side))
    mask = cv2.GaussianBlur(np.pad(np.ones((side, side), np.float32), side), (0, 0), side / 4)[..., None]
    area = clip[0, top - side : top + 2 * side, left - side : left + 2 * side].astype(np.float32)
    reach, pace, phase = rng.uniform(0.5, 4), rng.uniform(0.5, 6), rng.uniform(0, 6)
    for at in range(count):
        dx = reach * np.sin(phase + 2 * np.pi * pace * at / count)
        there = cv2.warpAffine(
            area, np.array([[1, 0, dx], [0, 1, dx / 2]], np.float32), area.shape[1::-1], borderMode=cv2.BORDER_REFLECT
        )
        mixed = mask * there + (1 - mask) * area
        clip[at, top - side : top + 2 * side, left - side : left + 2 * side] = mixed.astype(np.uint8)
    return clip


def exposed(rng: Rng, clip: np.ndarray) -> np.ndarray:
    """Brightness that drifts or flickers by some percent."""
    count = len(clip)
    drift = rng.uniform(-0.12, 0.12) * np.linspace(0, 1, count) + rng.uniform(0, 0.02) * rng.normal(0, 1, count)
    return np.stack([cv2.convertScaleAbs(frame, alpha=1 + change) for frame, change in zip(clip, drift, strict=True)])


def noisy(rng: Rng, clip: np.ndarray, level: float) -> np.ndarray:
    """With a camera's noise of `level` grey levels."""
    coarse = rng.random() < 0.3
    height, width = clip.shape[1:3]
    made = []
    for frame in clip:
        shape = (height // 2, width // 2, 1) if coarse else (height, width, 1)
        grain = rng.normal(0, level, shape).astype(np.float32)
        if coarse:
            grain = cv2.resize(grain, (width, height))[..., None]
        made.append(np.clip(frame + grain, 0, 255).astype(np.uint8))
    return np.stack(made)


def floating(rng: Rng, clip: np.ndarray) -> np.ndarray:
    """With what templates of slide shows let drift over pictures: dust, snow, sparks, a leak of light."""
    count, height, width = clip.shape[:3]
    many = int(rng.integers(6, 60))
    places, pace = (
        rng.uniform(0, 1, (many, 2)) * (width, height),
        rng.normal(0, 1, (many, 2)) * rng.uniform(0.5, 5) + (0, rng.uniform(0, 4)),
    )
    colour = np.array([255, rng.integers(180, 256), rng.integers(120, 256)], np.float32)
    radius, strength = rng.uniform(1, 5), rng.uniform(0.2, 0.8)
    made = []
    for at, frame in enumerate(clip):
        light = np.zeros((height, width), np.float32)
        for x, y in (places + pace * at) % (width, height):
            cv2.circle(light, (int(x), int(y)), max(1, round(radius)), 1.0, -1)
        light = cv2.GaussianBlur(light, (0, 0), radius / 2)[..., None] * strength
        made.append((frame + light * (colour - frame)).astype(np.uint8))
    return np.stack(made)


def moved(picture: np.ndarray, size: Size, moves: Sequence[Move]) -> np.ndarray:
    """A camera that moves over a picture and never sees beyond it."""
    width, height = size
    whole = filled(picture, (max(width, picture.shape[1]), max(height, picture.shape[0])), 1.0)
    if whole.shape[1] > 3 * width:
        whole = cv2.resize(
            whole, None, fx=3 * width / whole.shape[1], fy=3 * width / whole.shape[1], interpolation=cv2.INTER_AREA
        )
    tall, wide = whole.shape[:2]
    fit = max(width / wide, height / tall)
    clip = []
    for zoom, x, y, angle in moves:
        rad = np.deg2rad(angle)
        zoom = zoom * (1 + 1.2 * abs(np.sin(rad)) * max(width / height, height / width))
        scale = fit * zoom
        room_x, room_y = (wide * scale - width) / 2, (tall * scale - height) / 2
        matrix = cv2.getRotationMatrix2D((wide / 2, tall / 2), angle, scale)
        matrix[:, 2] += (
            width / 2 - wide / 2 - x * room_x * np.cos(rad) ** 4,
            height / 2 - tall / 2 - y * room_y * np.cos(rad) ** 4,
        )
        clip.append(
            cv2.warpAffine(
                whole, matrix, size, flags=cv2.INTER_AREA if scale < 0.7 else cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
            )
        )
    return np.stack(clip)


def blob(rng: Rng, width: int, height: int) -> np.ndarray:
    """Something in the middle: uint8 [height, width], 255 inside a smooth outline."""
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    waves = sum(rng.uniform(-0.25, 0.25) / order * np.cos(order * angles + rng.uniform(0, 6)) for order in range(1, 6))
    radius = (1 + waves) * rng.uniform(0.15, 0.32) * min(width, height)
    centre = (width * rng.uniform(0.35, 0.65), height * rng.uniform(0.45, 0.7))
    outline = np.stack(
        [centre[0] + radius * np.cos(angles) * rng.uniform(0.7, 1.4), centre[1] + radius * np.sin(angles) * 1.3], axis=1
    )
    return cv2.fillPoly(np.zeros((height, width), np.uint8), [outline.astype(np.int32)], 255)


def _walk(rng: Rng, count: int, reach: float) -> list[Move]:
    angle = rng.uniform(0, 2 * np.pi)
    start = np.array([np.cos(angle), np.sin(angle)]) * 0.8
    zooms = 1 + rng.uniform(0.05, 0.1) + np.sort(rng.uniform(0, reach, 2))[:: rng.choice([-1, 1])]
    return [(z, x, y, 0.0) for z, x, y, _ in _path(rng, count, tuple(zooms), start, -start, np.zeros(2))]


def _path(rng: Rng, count: int, zooms: Sequence[float], start: np.ndarray, end: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """float [count, 4]."""
    share = np.linspace(0, 1, count)
    if rng.random() < 0.5:
        share = share * share * (3 - 2 * share)
    if rng.random() < 0.25:
        share = np.clip(share * rng.uniform(1, 1.5) - rng.uniform(0, 0.2), 0, 1)
    ends = np.array([[zooms[0], *start, angles[0]], [zooms[1], *end, angles[1]]])
    return ends[0] + share[:, None] * (ends[1] - ends[0])


def _any(rng: Rng, pictures: Sequence[np.ndarray]) -> np.ndarray:
    return pictures[int(rng.integers(len(pictures)))]


def _pick(rng: Rng, ways: Sequence[Callable[..., np.ndarray]]) -> Callable[..., np.ndarray]:
    return ways[int(rng.integers(len(ways)))]


def filled(picture: np.ndarray, size: Size, zoom: float) -> np.ndarray:
    """Scaled so that it covers `size` times `zoom`, and cut to that."""
    width, height = round(size[0] * zoom), round(size[1] * zoom)
    scale = max(width / picture.shape[1], height / picture.shape[0])
    wanted = max(width, round(picture.shape[1] * scale)), max(height, round(picture.shape[0] * scale))
    whole = cv2.resize(picture, wanted, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    return _middle(whole, (width, height))


def _middle(picture: np.ndarray, size: Size) -> np.ndarray:
    top, left = (picture.shape[0] - size[1]) // 2, (picture.shape[1] - size[0]) // 2
    return picture[top : top + size[1], left : left + size[0]]


def _shifted(picture: np.ndarray, size: Size, dx: float, dy: float, scale: float = 1.0) -> np.ndarray:
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), 0, scale)
    matrix[:, 2] += (size[0] / 2 - width / 2 + dx, size[1] / 2 - height / 2 + dy)
    return cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
