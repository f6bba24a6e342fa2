"""Looks of screens that show charts, and slides that may."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np

from curation.quality.screen_kit import Clock, Image, Kit, Size, blit, box, cover, mix


def chart(kit: Kit, width: int, height: int, grown: float, seed: int | None = None, kind: int | None = None) -> Image:
    """Bars, lines, candles, an area, or a cake, drawn up to `grown` of it: [0, 1]. The same seed draws the same chart."""
    rng = np.random.default_rng(kit.rng.integers(2**31) if seed is None else seed)
    image, kind = kit.sheet(width, height), int(rng.integers(5)) if kind is None else kind
    count, floor, roof, left = (
        int(rng.integers(5, 12)) if kind == 0 else int(rng.integers(24, 70)),
        height - kit.px * 2,
        kit.px,
        kit.px * 3,
    )
    if kind == 4:
        angle, radius = -90.0, max(min(width, height), 0) * 2 // 5
        for i, share in enumerate(rng.dirichlet([2] * 5)):
            end = angle + 360 * share * grown
            cv2.ellipse(image, (width // 2, height // 2), (radius, radius), 0, angle, end, kit.hues[i], -1, cv2.LINE_AA)
            angle = end
        return image
    for i in range(5):
        y = roof + (floor - roof) * i // 4
        cv2.line(image, (left, y), (width - 4, y), kit.line, 1)
        kit.write(image, str(int(rng.integers(1, 20)) * 10), 2, y - kit.px * 0.6, kit.dim, max(int(kit.px * 0.8), 6))
    steps = rng.normal(0, 1, count).cumsum() if kind else rng.uniform(0.2, 1, count)
    values = (steps - steps.min() + 0.1) / (np.ptp(steps) + 0.2) if kind else steps
    xs = np.linspace(left + 2, width - 6, count + 1).astype(int)
    ys = (floor - (floor - roof) * values * (grown if kind == 0 else 1)).astype(int)
    last = max(int(count * grown), 2)
    if kind in (1, 2):
        line = np.stack([xs[:last], ys[:last]], 1)
        if kind == 2:
            cv2.fillPoly(
                image, [np.concatenate([line, [[xs[last - 1], floor], [xs[0], floor]]])], mix(kit.paper, kit.hues[1], 0.4)
            )
        cv2.polylines(image, [line], False, kit.hues[0], max(kit.px // 7, 1), cv2.LINE_AA)
        return image
    _bars(kit, image, xs, ys, floor, last, kind == 3, rng)
    return image


def _bars(
    kit: Kit, image: Image, xs: np.ndarray, ys: np.ndarray, floor: int, last: int, candles: bool, rng: np.random.Generator
) -> None:
    for i in range(1 if candles else 0, last):
        wide = max(int((xs[i + 1] - xs[i]) * 0.7), 1)
        if not candles:
            box(image, int(xs[i]), int(ys[i]), wide, floor - int(ys[i]), kit.hues[0])
            continue
        up, low, high = ys[i] < ys[i - 1], min(ys[i], ys[i - 1]), max(ys[i], ys[i - 1])
        colour = (30, 160, 110) if up else (220, 60, 60)
        reach = int(rng.integers(2, 12)), int(rng.integers(2, 12))
        cv2.line(image, (int(xs[i]) + wide // 2, int(low) - reach[0]), (int(xs[i]) + wide // 2, int(high) + reach[1]), colour, 1)
        box(image, int(xs[i]), int(low), wide, max(int(high - low), 1), colour)


def _slide(kit: Kit, width: int, height: int, shown: int, seed: int) -> Image:
    """A slide with its first `shown` points: bullets, a picture, a chart, or boxes with arrows. The same seed, the same slide."""
    kit = replace(kit, rng=np.random.default_rng(seed))
    back, px = kit.sheet(width, height), max(height // kit.between(18, 24), 4)
    if kit.chance(0.3):
        box(back, 0, 0, width, px * 4, kit.hues[0])
    elif kit.chance(0.4):
        box(back, 0, 0, px // 2, height, kit.hues[1])
    left, kind = width // kit.between(10, 20), kit.between(0, 5)
    kit.write(back, kit.filled(width * kit.rng.uniform(0.3, 0.7), px * 2), left, px, kit.ink, px * 2, bold=True)
    inner = width - 2 * left if kind == 0 else width // 2 - left
    if kind == 4:
        return _boxes(kit, back, left, px * 6, px, shown)
    if kind in (1, 2):
        w, h = width // 2 - left, height - px * 8
        blit(back, kit.picture(w, h) if kind == 1 else chart(replace(kit, px=px), w, h, 1.0, seed), width // 2, px * 5)
    y, mark = px * 5, str(kit.rng.choice(("•", "–", "→", "1.")))
    for _ in range(shown):
        text, lead = kit.filled(inner * kit.rng.uniform(0.5, 0.9), int(px * 1.2)), kit.between(0, 2) * px
        kit.write(back, mark, left + lead, y, kit.hues[0], int(px * 1.2))
        kit.write(back, text, left + lead + px * 1.5, y, px=int(px * 1.2))
        y += int(px * 2.1)
    kit.write(back, kit.phrase(2, 5), left, height - px * 1.6, kit.dim, int(px * 0.8))
    return back


def _boxes(kit: Kit, back: Image, left: int, top: int, px: int, shown: int) -> Image:
    wide, tall = back.shape[1] // 5, px * 4
    for i in range(shown + 1):
        x, y = left + i % 3 * (wide + px * 3), top + i // 3 * (tall + px * 2)
        box(back, x, y, wide, tall, kit.hues[i % 8], px // 2, kit.line)
        kit.write(
            back,
            kit.filled(wide - px * 2),
            x + px // 2,
            y + px,
            (255, 255, 255) if sum(kit.hues[i % 8]) < 450 else (0, 0, 0),
            px,
            bold=True,
        )
        if i % 3:
            cv2.arrowedLine(
                back, (x - px * 3, y + tall // 2), (x - 4, y + tall // 2), kit.ink, max(px // 8, 1), cv2.LINE_AA, tipLength=0.2
            )
    return back


def slides(kit: Kit, size: Size, clock: Clock) -> Iterator[Image]:
    """Slides: points appear, slides follow by a cut, a push or a fade; full, or in the program that makes them."""
    (width, height), made = size, kit.chance(0.35)
    side = width // 6 if made else 0
    w, h = (int((width - side) * 0.94), int((width - side) * 0.94 * 9 / 16)) if made else (width, height)
    seeds, counts = kit.rng.integers(2**31, size=9), kit.rng.integers(3, 7, 9)
    points = [(i, n) for i, count in enumerate(counts) for n in range(1, count + 1)]
    shown = kit.between(1, 9) + clock.steps(kit.rng.uniform(0.25, 1.4))
    manner, last, before, since = kit.rng.integers(3), (-1, -1), None, 9
    image = now = kit.sheet(w, h)
    ground = _maker(kit, size, side, [_slide(kit, w, h, 4, int(seed)) for seed in seeds[:6]]) if made else now
    for count in shown:
        point = points[min(int(count), len(points) - 1)]
        if point != last:
            since, before = (0, now) if point[0] != last[0] and last[0] >= 0 else (9, now)
            last, now = point, _slide(kit, w, h, point[1], int(seeds[point[0]]))
        u, since = min((since + 1) / 5, 1.0), since + 1
        image = now if manner == 0 or u == 1 or before is None else _passed(before, now, u, manner == 1)
        if made:
            ground[kit.px : kit.px + h, side + width // 60 : side + width // 60 + w] = image[: len(ground) - kit.px]
        yield ground if made else image


def _passed(before: Image, now: Image, u: float, push: bool) -> Image:
    if push:
        x = int(u * now.shape[1])
        return np.concatenate([before[:, x:], now[:, :x]], 1)
    return cv2.addWeighted(before, 1 - u, now, u, 0).astype(np.uint8)


def _maker(kit: Kit, size: Size, side: int, slides_: list[Image]) -> Image:
    ground, each = kit.sheet(*size, kit.soft), side * 3 // 4
    for i, one in enumerate(slides_):
        y = kit.px + i * (each * 9 // 16 + kit.px)
        kit.write(ground, str(i + 1), 4, y)
        blit(ground, cover(one, (each, each * 9 // 16)), side // 5, y)
    return ground


def dashboard(kit: Kit, size: Size, clock: Clock) -> Iterator[Image]:
    """Panels with charts and figures; one or two of the charts grow."""
    (width, height), px = size, kit.px
    ground, gap = kit.sheet(width, height, kit.soft), max(px // 2, 2)
    side = px * 9 if kit.chance(0.4) else 0
    for y in range(px, height if side else 0, px * 2):
        kit.icon(ground, px // 2, y, px, kit.dim)
        kit.write(ground, kit.filled(px * 6), px * 2, y)
    top = gap
    if kit.chance(0.7):
        top = _figures(kit, ground, side, gap)
    columns, rows = (1, 1) if kit.chance(0.2) else (kit.between(1, 4), kit.between(1, 4))
    w, h = (width - side - gap) // columns, (height - top) // rows
    panels = [(side + gap + c * w, top + r * h) for r in range(rows) for c in range(columns)]
    seeds, kinds = kit.rng.integers(2**31, size=len(panels)), [3 if len(panels) == 1 else None for _ in panels]
    inner, bar = (w - gap - 2, h - gap - px * 2), int(px * 1.6)
    for (x, y), seed, kind in zip(panels, seeds, kinds, strict=True):
        box(ground, x, y, w - gap, h - gap, kit.paper, 4, kit.line)
        kit.write(ground, kit.filled(w * 0.6), x + px // 2, y + px * 0.2, bold=True)
        blit(ground, chart(kit, *inner, 1.0, int(seed), kind), x + 1, y + bar)
    speed, begun = kit.rng.uniform(0.03, 0.5), kit.rng.uniform(0.05, 0.6)
    live = kit.between(0, len(panels))
    for grown in np.clip(begun + clock.active * speed, 0, 1):
        blit(ground, chart(kit, *inner, float(grown), int(seeds[live]), kinds[live]), panels[live][0] + 1, panels[live][1] + bar)
        yield ground


def _figures(kit: Kit, ground: Image, side: int, gap: int) -> int:
    """A row of tiles with a number each; the y below it."""
    px, count = kit.px, kit.between(3, 7)
    wide = (ground.shape[1] - side - gap) // count
    for i in range(count):
        x = side + gap + i * wide
        box(ground, x, gap, wide - gap, px * 5, kit.paper if kit.chance(0.8) else kit.hue(), 4, kit.line)
        kit.write(ground, kit.filled(wide - 3 * px), x + px // 2, gap + px * 0.4, kit.dim)
        kit.write(ground, kit.number(), x + px // 2, gap + px * 1.7, kit.ink, px * 2, bold=True)
    return gap * 2 + px * 5
