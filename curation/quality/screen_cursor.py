"""The mouse cursor of a made-up screen: where it goes, how it looks."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.quality.screen_kit import Colour, Image, Kit, Size

POINTERS = (
    (
        ((0, 0), (0, 17), (4, 13), (7, 20), (10, 19), (7, 12), (12, 12)),
        ((0, 0), (0, 17), (4, 13), (7, 20), (10, 19), (7, 12), (12, 12)),
        ((4, 0), (6, 0), (6, 8), (8, 7), (16, 9), (16, 16), (13, 22), (6, 22), (0, 13), (1, 11), (4, 13)),
        ((0, 0), (6, 0), (4, 2), (4, 16), (6, 18), (0, 18), (2, 16), (2, 2)),
    ),
    (
        ((0, 0), (0, 24), (6, 17), (18, 17)),
        ((0, 0), (4, 16), (9, 9), (16, 4)),
        ((8, 0), (10, 8), (18, 10), (10, 12), (8, 20), (6, 12), (0, 10), (6, 8)),
    ),
)
"""Outlines of cursors at a screen height of 720 pixels: arrow, hand, text beam; held out: wide arrow, dart, star."""


def eased(u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Minimum jerk from 0 to 1, as a hand moves."""
    u = np.clip(u, 0, 1)
    return u**3 * (10 - 15 * u + 6 * u**2)


def wander(
    rng: np.random.Generator, times: NDArray[np.float64], size: Size, busy: float
) -> tuple[NDArray[np.float64], list[float]]:
    """Where the cursor is at each frame [N, 2], and when it clicks: moves as a hand makes them, with pauses; at least one."""
    at = rng.uniform(0.15, 0.85, 2) * size
    path = np.tile(at, (len(times), 1))
    now, clicks = min(rng.exponential(3 * (1 - busy) + 0.2), rng.uniform(0.1, 0.6) * times[-1]), []
    while now < times[-1]:
        far = rng.normal(0, 0.08, 2) if rng.random() < 0.6 else rng.normal(0, 0.3, 2)
        goal = np.clip(at + far * size, 2, np.array(size) * 0.98)
        span = rng.uniform(0.3, 0.6) + rng.uniform(0.3, 1.2) * float(np.hypot(*(goal - at))) / size[0]
        u, bend = (times - now) / span, rng.uniform(-0.15, 0.15)
        side = (goal - at)[::-1] * (bend, -bend)
        ways = at + eased(u)[:, None] * (goal - at) + np.sin(np.pi * eased(u))[:, None] * side
        path[times >= now] = ways[times >= now]
        now, at = now + span, goal
        if rng.random() < 0.5:
            clicks.append(now)
        now += rng.exponential(0.3 + 4 * (1 - busy))
    return path, clicks


@dataclass(frozen=True)
class Pointer:
    """How the cursor looks: its outline, `scale`, colours, and what shows where it is: nothing, a disc or a ring."""

    outlines: tuple[tuple[tuple[int, int], ...], ...]
    scale: float
    fill: Colour
    edge: Colour
    halo: float
    glow: Colour
    rings: bool
    hollow: bool

    @classmethod
    def draw(cls, kit: Kit, size: Size) -> Pointer:
        scale = min(size) / 720 * kit.rng.choice((0.9, 1.0, 1.3, 1.8, 2.6))
        white = kit.chance(0.6)
        fill, edge = ((255, 255, 255), (0, 0, 0)) if white else ((0, 0, 0), (255, 255, 255))
        if kit.unseen and kit.chance(0.5):
            fill = kit.hue()
        halo = float(kit.rng.uniform(14, 34)) if kit.chance(0.3) else 0
        return cls(
            POINTERS[kit.unseen],
            float(scale),
            fill,
            edge,
            halo,
            kit.hue() if kit.unseen else (255, 220, 40),
            kit.chance(0.3),
            kit.chance(0.5),
        )

    def put(self, image: Image, x: float, y: float, shape: int, since_click: float) -> None:
        """Draw it with its tip at (x, y); a ring grows for 0.4 s from a click on."""
        if self.halo:
            self._halo(image, int(x), int(y), int(self.halo * self.scale))
        if self.rings and 0 <= since_click < 0.4:
            radius = int((8 + 50 * since_click) * self.scale)
            cv2.circle(image, (int(x), int(y)), radius, self.glow, max(int(3 * self.scale), 1), cv2.LINE_AA)
        outline = np.array(self.outlines[shape % len(self.outlines)])
        points = ((outline * self.scale + (x, y)) * 16).astype(np.int32)
        cv2.fillPoly(image, [points], self.fill, cv2.LINE_AA, 4)
        cv2.polylines(image, [points], True, self.edge, max(round(1.2 * self.scale), 1), cv2.LINE_AA, 4)

    def _halo(self, image: Image, x: int, y: int, radius: int) -> None:
        top, left = max(y - radius, 0), max(x - radius, 0)
        part = image[top : y + radius + 1, left : x + radius + 1]
        if part.size:
            disc = cv2.circle(part.copy(), (x - left, y - top), radius, self.glow, 3 if self.hollow else -1, cv2.LINE_AA)
            part[:] = cv2.addWeighted(part, 0.6, disc, 0.4, 0)
