"""What stands still over what moves: borders, frames, overlaid pictures, text; and how flat and square a picture is."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from curation.models import rectangle

STILL = 3.0
"""Grey levels (standard deviation over time) below which a pixel stands still: what codecs leave."""
LASTS = 0.85
"""Share of the pictures in which an edge that stays is seen."""
AROUND = 5
"""Pixels around an edge in which something moves, for it to lie over what moves."""
KEEPS, CHANGES, NEARBY = 5.0, 10.0, 21
"""Grey levels (standard deviation over time) below which a pixel of a logo stays, and above which others near it change, in a
square of so many pixels. By eye at a long side of 640 px on 20 clips of panda70m-mini: the logos on people are seen in both that
have one; 8 and 15 do as well, 6 and 20 miss one."""
PLAIN = 12.0
"""Grey levels (standard deviation) below which a border is of one colour."""
TEXT_SIDE = 640
TEXT_HEIGHT = (5, 48)
"""Pixels of a line of text at `TEXT_SIDE`."""


def measures(pictures: Sequence[np.ndarray], greys: Sequence[np.ndarray]) -> dict[str, float]:
    """Of evenly spaced uint8 RGB pictures of one clip, of one size, and of these `shrunk`. All are shares: of the frame, of its
    edges, of its sides."""
    detail = rectangle.detail(greys)
    return _standing(greys) | rectangle.measures(greys, detail) | _sharpness(detail) | _colours(pictures) | _text(pictures)


def _standing(greys: Sequence[np.ndarray]) -> dict[str, float]:
    stack = np.stack(greys).astype(np.float32)
    spread, mean = stack.std(axis=0), stack.mean(axis=0)
    moves = cv2.morphologyEx((spread > STILL).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    edges = np.stack([cv2.Canny(grey, 60, 150) > 0 for grey in greys])
    stays = _lasting(edges)
    around = cv2.boxFilter(moves.astype(np.float32), -1, (2 * AROUND + 1, 2 * AROUND + 1))
    over = stays & (around > 0.25)
    static = {"moving": float(moves.mean()), "static_edges": float(stays.sum() / max(1.0, edges.sum(axis=(1, 2)).mean()))}
    static |= {"overlaid_edges": float(over.sum() / max(1.0, edges.sum(axis=(1, 2)).mean()))}
    static |= {f"overlaid_{name}": value for name, value in _lines(over).items()}
    static |= {f"static_{name}": value for name, value in _lines(stays).items()}
    return static | _border(moves, mean)


def overlaid(greys: Sequence[np.ndarray]) -> np.ndarray:
    """Where a logo or a caption lies over what moves: bool H×W of evenly spaced grey uint8 pictures of one clip, of one size.

    An edge stays, a pixel beside it keeps its grey, and near it others change. A shirt's pattern, whose edges are everywhere
    where one was, does not keep its greys.
    """
    spread = np.stack(greys).astype(np.float32).std(axis=0)
    keeps = cv2.erode(spread, np.ones((3, 3), np.uint8)) < KEEPS
    changes = cv2.boxFilter((spread > CHANGES).astype(np.float32), -1, (NEARBY, NEARBY)) > 0.25
    return _lasting(np.stack([cv2.Canny(grey, 60, 150) > 0 for grey in greys])) & keeps & changes


def _lasting(edges: np.ndarray) -> np.ndarray:
    """Where edges, bool [N, H, W], stay."""
    near = np.stack([cv2.dilate(edge.astype(np.uint8), np.ones((3, 3), np.uint8)) for edge in edges]).mean(axis=0)
    return (near >= LASTS) & (edges.mean(axis=0) >= LASTS / 2)


def _lines(edges: np.ndarray) -> dict[str, float]:
    """How much of the frame's height and width the longest straight upright and level edges take, and how many are long."""
    found = {}
    for name, axis in (("upright", 0), ("level", 1)):
        profile = edges.astype(np.float32).sum(axis=axis)
        profile = np.convolve(profile, np.ones(2), "same")[3:-3] / edges.shape[axis]
        found[name] = float(min(1.0, profile.max(initial=0.0)))
        found[f"{name}_long"] = float((profile > 0.4).sum() / 8)
    return found


def _border(moves: np.ndarray, mean: np.ndarray) -> dict[str, float]:
    """Around the smallest rectangle that holds what moves: the share of the frame that stands still there, textured or of one
    colour, and how full that rectangle is."""
    height, width = moves.shape
    rows, columns = np.flatnonzero(moves.mean(axis=1) > 0.02), np.flatnonzero(moves.mean(axis=0) > 0.02)
    if not rows.size or not columns.size:
        return {"static_border": 1.0, "textured_border": float(mean.std() > PLAIN), "filled": 0.0, "inner": 0.0}
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    inner = (bottom - top) * (right - left) / (height * width)
    strips = (mean[:top], mean[bottom:], mean[top:bottom, :left], mean[top:bottom, right:])
    textured = sum(strip.size for strip in strips if strip.size and strip.std() > PLAIN) / mean.size
    filled = float(moves[top:bottom, left:right].mean())
    return {"static_border": float(1 - inner), "textured_border": float(textured), "filled": filled, "inner": float(inner)}


def _sharpness(detail: np.ndarray) -> dict[str, float]:
    """How much blurrier the sides are than the middle, and how sudden the step to them is, at the same place on both sides."""
    found = {}
    for name, axis in (("upright", 0), ("level", 1)):
        profile = np.log(detail.mean(axis=axis) + 0.5)
        half = len(profile) // 2
        both = np.minimum.reduce([np.array(_steps(profile)), np.array(_steps(profile[::-1]))])
        found[f"blur_step_{name}"] = float(both[: half - 4].max(initial=0.0))
    return found


def _steps(profile: np.ndarray) -> list[float]:
    """At each place, by how much the median on its inner side exceeds that on its outer side (of the half at the beginning)."""
    half = len(profile) // 2
    wide = max(4, half // 6)
    return [
        float(np.median(profile[at : at + wide]) - np.median(profile[max(0, at - wide) : at])) if at >= 4 else 0.0
        for at in range(half)
    ]


def _colours(pictures: Sequence[np.ndarray]) -> dict[str, float]:
    rows = []
    for picture in pictures[:: max(1, len(pictures) // 4)]:
        small = (
            cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_NEAREST) if max(picture.shape) > 480 else picture
        )
        bins = (small >> 4).astype(np.int32)
        counts = np.sort(np.bincount((bins[..., 0] * 256 + bins[..., 1] * 16 + bins[..., 2]).ravel(), minlength=4096))[::-1]
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        square = np.ones((3, 3), np.uint8)
        flat = cv2.dilate(grey, square).astype(np.int16) - cv2.erode(grey, square)
        dx, dy = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
        strong = np.hypot(dx, dy) > 120
        axis = np.minimum(np.abs(dx), np.abs(dy)) < 0.1 * np.maximum(np.abs(dx), np.abs(dy))
        total = counts.sum()
        rows.append(
            {
                "one_colour": counts[0] / total,
                "few_colours": counts[:8].sum() / total,
                "flat": (flat <= 3).mean(),
                "square_edges": (strong & axis).sum() / max(1, strong.sum()),
                "strong_edges": strong.mean(),
                "saturation": cv2.cvtColor(small, cv2.COLOR_RGB2HSV)[..., 1].mean() / 255,
            }
        )
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def _text(pictures: Sequence[np.ndarray]) -> dict[str, float]:
    """`text_share`: of the frame, in lines that look like text; the median over some pictures."""
    shares = [text_share(picture) for picture in pictures[:: max(1, len(pictures) // 4)]]
    return {"text_share": float(np.median(shares))}


def text_share(picture: np.ndarray) -> float:
    """Share of the area of a uint8 RGB picture under what looks like lines of text: close strong strokes, wider than high. No
    letter is read."""
    scale = TEXT_SIDE / max(picture.shape)
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    if scale < 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    strokes = cv2.morphologyEx(grey, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    _, ink = cv2.threshold(strokes, 48, 1, cv2.THRESH_BINARY)
    lines = cv2.morphologyEx(ink, cv2.MORPH_CLOSE, np.ones((1, 9), np.uint8))
    lines = cv2.morphologyEx(lines, cv2.MORPH_OPEN, np.ones((3, 5), np.uint8))
    _, _, boxes, _ = cv2.connectedComponentsWithStats(lines)
    area = 0
    for left, top, width, height, size in boxes[1:]:
        part = ink[top : top + height, left : left + width]
        crossings = np.abs(np.diff(part.astype(np.int8), axis=1)).sum() / (2 * height)
        is_line = TEXT_HEIGHT[0] <= height <= TEXT_HEIGHT[1] and width >= 2 * height and size > 0.55 * width * height
        if is_line and crossings > 0.6 * width / height:
            area += int(width * height)
    return area / lines.size
