"""Looks of screens that are programs: files, photos, forms, models in 3-D, timelines."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.quality.screen_kit import Clock, Colour, Image, Kit, Size, blit, box, cover, mix, scrolled, shade, wrapped


def files(kit: Kit, size: Size, clock: Clock) -> Iterator[Image]:
    """A file manager: a list with columns, or icons; the selection moves, sometimes it scrolls."""
    (width, height), px = size, kit.px
    side, listed = width // kit.between(4, 7), kit.chance(0.5)
    row = int(px * kit.rng.uniform(1.6, 2.2)) if listed else min(px * kit.between(7, 12), max(height // 2, px * 5))
    rows, columns = height * 3 // row, 1 if listed else max((width - side) // int(row * 1.1), 1)
    canvas = kit.sheet(width, rows * row)
    for i in range(rows * columns):
        x, y = side + px + i % columns * (width - side) // columns, i // columns * row
        if listed:
            kit.icon(canvas, x, y + row // 4, row // 2)
            kit.write(canvas, f"{kit.phrase(1, 3)}.{kit.rng.choice(('pdf', 'png', 'docx', 'zip', 'mp4'))}", x + row, y + px * 0.4)
            for share in (0.45, 0.65, 0.85):
                kit.write(canvas, kit.number(), side + (width - side) * share, y + px * 0.4, kit.dim)
        else:
            tile = row - px * 3
            if kit.chance(0.4):
                blit(canvas, kit.picture(tile, tile * 3 // 4), x, y + px // 2 + tile // 8)
            else:
                kit.icon(canvas, x + tile // 4, y + px // 2 + tile // 4, tile // 2, kit.hues[2] if kit.chance(0.6) else None)
            kit.write(canvas, kit.filled(row - px), x, y + row - px * 2, px=int(px * 0.9))
    bar = kit.sheet(side, height, kit.soft)
    for y in range(px // 2, height, int(px * 1.9)):
        kit.icon(bar, px // 2, y, px)
        kit.write(bar, kit.filled(side - px * 5), px * 2, y)
    chosen = np.cumsum(kit.rng.integers(1, 6, 500))[np.minimum(clock.steps(kit.rng.uniform(0.5, 3)), 499)] % (
        max(height // row, 1) * columns
    )
    offsets = scrolled(kit, clock, len(canvas) - height) if kit.chance(0.4) else np.zeros(len(chosen), int)
    for view, one, offset in zip(wrapped(canvas, offsets, kit, height), chosen, offsets, strict=True):
        x, wide = side + int(one) % columns * (width - side) // columns, (width - side) // columns
        shade(view, x, int(one) // columns * row - int(offset) % row, wide, row, kit.hues[0], 0.3)
        view[:, :side] = bar
        yield view


def gallery(kit: Kit, size: Size, clock: Clock) -> Iterator[Image]:
    """A photo viewer or editor: a large picture, small ones below, sliders at the side that change its light."""
    width, height = size
    side, strip = width // 5 if kit.chance(0.6) else 0, height // 6 if kit.chance(0.7) else 0
    w, h = width - side, height - strip
    ground = kit.sheet(width, height, mix(kit.soft, (40, 40, 40), kit.rng.uniform(0, 1)))
    photos = [kit.picture(int(w * 0.95), int(h * kit.rng.uniform(0.8, 0.95))) for _ in range(5)]
    for i, x in enumerate(range(w // 20, w - strip, strip * 3 // 2) if strip else ()):
        blit(ground, cover(photos[i % 5], (strip * 4 // 3, strip * 3 // 4)), x, h + strip // 8)
    labels = [kit.phrase(1, 2) for _ in range(12)]
    levels, edits = kit.rng.uniform(0.2, 0.8, 12), kit.chance(0.5)
    turns, speed = clock.steps(kit.rng.uniform(0.2, 1.2)), kit.rng.uniform(0.1, 0.8)
    for turn, way in zip(turns, clock.active * speed, strict=True):
        levels[3] = 0.5 + 0.4 * np.sin(way * 3)
        photo = photos[0 if edits else int(turn) % 5]
        box(ground, 0, 0, w, h, (30, 30, 30) if kit.dark else kit.line)
        shown = cv2.convertScaleAbs(photo, alpha=0.6 + 0.8 * levels[3]) if edits else photo
        blit(ground, shown.astype(np.uint8), (w - photo.shape[1]) // 2, (h - photo.shape[0]) // 2)
        if side:
            _sliders(kit, ground[:, w:], labels, levels)
        yield ground


def _sliders(kit: Kit, panel: Image, labels: list[str], levels: NDArray[np.float64]) -> None:
    px, wide = kit.px, panel.shape[1]
    panel[:] = kit.soft
    for i, (label, level) in enumerate(zip(labels, levels, strict=True)):
        y = px + i * px * 3
        kit.write(panel, label, px, y)
        kit.write(panel, f"{level * 100 - 50:.0f}", wide - px * 3, y, kit.dim)
        cv2.line(panel, (px, y + px * 2), (wide - px, y + px * 2), kit.dim, max(px // 6, 1))
        cv2.circle(panel, (px + int((wide - 2 * px) * level), y + px * 2), px // 2, kit.hues[0], -1, cv2.LINE_AA)


def settings(kit: Kit, size: Size, clock: Clock) -> Iterator[Image]:
    """A form: labels, fields that are typed into, boxes that are ticked, sections at the side."""
    (width, height), px = size, kit.px
    ground, side = kit.sheet(width, height), width // kit.between(4, 6)
    box(ground, 0, 0, side, height, kit.soft)
    for y in range(px, height, int(px * 2.4)):
        kit.icon(ground, px, y, px)
        kit.write(ground, kit.filled(side - px * 6), px * 3, y)
    shade(ground, 0, px // 2 + int(px * 2.4) * kit.between(0, 6), side, px * 2, kit.hues[0], 0.3)
    x, y, fields, ticks = side + px * 2, px, [], []
    kit.write(ground, kit.phrase(1, 3), x, y, kit.ink, int(px * 1.8), bold=True)
    y, wide = y + px * 4, int((width - side) * kit.rng.uniform(0.4, 0.85))
    while y < height - px * 4:
        kit.write(ground, kit.phrase(1, 4), x, y, bold=kit.chance(0.3))
        if kit.chance(0.55):
            box(ground, x, y + int(px * 1.5), wide, px * 2, kit.paper, 4, kit.dim)
            fields.append((x + px // 2, y + int(px * 1.9), kit.filled(wide * kit.rng.uniform(0.3, 0.8))))
            y += px * 5
        else:
            ticks.append((x + wide - px, y + px // 2))
            kit.write(ground, kit.filled(wide - px * 4), x, y + px * 1.4, kit.dim, int(px * 0.9))
            y += px * 4
    keys = [(fx, fy, text[: n + 1]) for fx, fy, text in fields for n in range(len(text))] or [(0, -99, "")]
    done, ons = clock.steps(kit.rng.uniform(4, 14)), clock.steps(kit.rng.uniform(0.4, 2))
    for count, on in zip(np.minimum(done, len(keys) - 1), ons, strict=True):
        image = ground.copy()
        for fx, fy, text in {key[1]: key for key in keys[: int(count) + 1]}.values():
            kit.write(image, text, fx, fy)
        for i, (tx, ty) in enumerate(ticks):
            _switch(kit, image, tx, ty, (i * 7 + (int(on) + i) // len(ticks)) % 2 == 0)
        yield image


def _switch(kit: Kit, image: Image, x: int, y: int, on: bool) -> None:
    px = kit.px
    box(image, x - px, y - px // 2, px * 2, px, kit.hues[0] if on else kit.line, px // 2)
    cv2.circle(image, (x + (px // 2 if on else -px // 2), y), px * 2 // 5, (255, 255, 255), -1, cv2.LINE_AA)


def installer(kit: Kit, size: Size, clock: Clock) -> Iterator[Image]:
    """A step of an installer: a picture or steps at the side, a bar that fills, lines of what is being done, buttons."""
    (width, height), px = size, kit.px
    ground, side = kit.sheet(width, height), width // 4
    if kit.chance(0.5):
        blit(ground, kit.picture(side, height), 0, 0)
    else:
        box(ground, 0, 0, side, height, kit.hues[1])
        for i in range(6):
            kit.write(ground, kit.phrase(1, 2), px, px * 3 * (i + 1), (255, 255, 255), bold=i == 2)
    x, wide = side + px * 2, width - side - px * 4
    kit.write(ground, kit.phrase(2, 4), x, px, kit.ink, int(px * 1.6), bold=True)
    y = kit.paragraph(ground, x, px * 4, wide, kit.between(2, 5)) + px
    for i in range(3):
        box(ground, width - px * 8 * (i + 1), height - px * 3, px * 7, px * 2, kit.soft, 3, kit.dim)
        kit.write(ground, kit.filled(px * 4), width - px * 8 * (i + 1) + px, height - px * 2.7)
    lines = [f"{kit.phrase(1, 1)}: {kit.word()}/{kit.word()}_{kit.number()}.dll" for _ in range(40)]
    listed, shown = y + px * 4, max((height - y - px * 8) // int(px * 1.4), 1)
    box(ground, x, listed, wide, int(shown * px * 1.4), kit.soft, 0, kit.line)
    for done in np.clip(kit.rng.uniform(0, 0.6) + clock.active * kit.rng.uniform(0.02, 0.3), 0, 1):
        box(ground, x, y, wide, px, kit.line, 3)
        box(ground, x, y, max(int(wide * done), 2), px, kit.hues[0], 3)
        box(ground, x, y + int(px * 1.5), wide, px * 2, kit.paper)
        kit.write(ground, f"{done:.0%}  {lines[int(done * 39)]}", x, y + px * 1.6, kit.dim)
        box(ground, x + 1, listed + 1, wide - 2, int(shown * px * 1.4) - 2, kit.soft)
        for i, line in enumerate(lines[: int(done * 39) + 1][-shown:]):
            kit.write(ground, line, x + px // 2, listed + i * px * 1.4, px=int(px * 0.9))
        yield ground


def _panel(kit: Kit, width: int, height: int) -> Image:
    """Properties: names, values, small fields."""
    panel, px = kit.sheet(width, height, kit.soft), kit.px
    y = px // 2
    while y < height - px:
        if kit.chance(0.15):
            box(panel, 0, y, width, int(px * 1.6), kit.line)
            kit.write(panel, kit.filled(width - px * 2), px // 2, y + px * 0.2, bold=True)
        else:
            kit.write(panel, kit.filled(width * 0.4), px // 2, y, kit.dim)
            box(panel, width // 2, y, width // 2 - px // 2, int(px * 1.4), kit.paper, 2, kit.line)
            kit.write(panel, kit.number() if kit.chance(0.7) else kit.word(), width // 2 + 4, y + px * 0.1, px=int(px * 0.9))
        y += int(px * 1.8)
    return panel


def _solid(kit: Kit) -> tuple[NDArray[np.float64], list[list[int]], list[Colour]]:
    """Points, faces and colours of some prisms that stand on the ground."""
    points: list[tuple[float, float, float]] = []
    faces, colours = [], []
    for _ in range(kit.between(1, 7)):
        n, radius, tall = kit.between(3, 16), kit.rng.uniform(0.15, 0.6), kit.rng.uniform(0.1, 1.2)
        cx, cy, taper, first = *kit.rng.uniform(-0.8, 0.8, 2), kit.rng.uniform(0.3, 1), len(points)
        for z, r in ((0.0, radius), (tall, radius * taper)):
            points += [(cx + r * np.cos(2 * np.pi * i / n), cy + r * np.sin(2 * np.pi * i / n), z) for i in range(n)]
        sides = [[first + i, first + (i + 1) % n, first + n + (i + 1) % n, first + n + i] for i in range(n)]
        faces += [*sides, [first + n + i for i in range(n)]]
        colours += [kit.hue() if kit.chance(0.5) else (150, 155, 160)] * (n + 1)
    return np.array(points), faces, colours


def modeller(kit: Kit, size: Size, clock: Clock) -> Iterator[Image]:
    """A program for models in 3-D: a view that is turned, of solids or wires on a grid; tools and properties around it."""
    (width, height), px = size, kit.px
    left, right = px * 3 if kit.chance(0.6) else 0, width // kit.between(4, 7)
    ground = kit.sheet(width, height, kit.soft)
    for y in range(px, height if left else 0, px * 2):
        kit.icon(ground, px, y, px)
    blit(ground, _panel(kit, right, height), width - right, 0)
    w, back, wires = width - left - right, kit.hue() if kit.chance(0.3) else (90, 95, 105), kit.chance(0.3)
    shades = np.array(
        [[mix(back, kit.paper, kit.rng.uniform(0, 0.9))], [mix(back, (30, 30, 30), kit.rng.uniform(0, 0.8))]], np.uint8
    )
    sky = cv2.resize(shades, (w, height), interpolation=cv2.INTER_LINEAR).astype(np.uint8)
    points, faces, colours = _solid(kit)
    lines = np.array([[(a, -2, 0), (a, 2, 0)] for a in np.linspace(-2, 2, 17)])
    grid = np.concatenate([lines, lines[..., [1, 0, 2]]]).reshape(-1, 3)
    start, speed, tilt, far = kit.rng.uniform(0, 6), kit.rng.uniform(-1.2, 1.2), kit.rng.uniform(0.3, 1.1), kit.rng.uniform(3, 5)
    for angle in start + clock.active * speed:
        view = sky.copy()
        flat, _ = _seen(grid, angle, tilt, far, w, height)
        cv2.polylines(view, list(flat.reshape(-1, 2, 2)), False, mix(back, (200, 200, 200), 0.3), 1, cv2.LINE_AA)
        flat, depth = _seen(points, angle, tilt, far, w, height)
        for face in sorted(range(len(faces)), key=lambda f: -depth[faces[f]].mean()):
            corners = flat[faces[face]]
            light = 0.55 + 0.4 * abs(np.sin(angle + face * 0.7))
            if not wires:
                cv2.fillPoly(view, [corners], mix((0, 0, 0), colours[face], light), cv2.LINE_AA)
            cv2.polylines(view, [corners], True, colours[face] if wires else (40, 40, 40), 1, cv2.LINE_AA)
        blit(ground, view, left, 0)
        yield ground


def _seen(
    points: NDArray[np.float64], angle: float, tilt: float, far: float, width: int, height: int
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Points of the world as pixels [N, 2], and how far away they are."""
    x, y = (
        points[:, 0] * np.cos(angle) - points[:, 1] * np.sin(angle),
        points[:, 0] * np.sin(angle) + points[:, 1] * np.cos(angle),
    )
    up, depth = points[:, 2] * np.cos(tilt) - y * np.sin(tilt), far + y * np.cos(tilt) + points[:, 2] * np.sin(tilt) * -1
    scale = 0.9 * max(width, height) / depth
    return np.stack([width / 2 + x * scale, height * 0.6 - up * scale], 1).astype(np.int32), depth


def timeline(kit: Kit, size: Size, clock: Clock) -> Iterator[Image]:
    """An editor of video or sound: a preview, tracks with clips and waves, a head that plays."""
    (width, height), px = size, kit.px
    ground, top = kit.sheet(width, height, kit.soft), int(height * kit.rng.uniform(0.3, 0.6))
    w = top * 14 // 9
    x = (width - w) // 2 if kit.chance(0.5) else width - w - px
    blit(ground, _panel(kit, max(x - px, 1), top), 0, 0)
    heads, row = px * 6, px * kit.between(3, 6)
    for y in range(top + px * 2, height, row):
        kit.write(ground, kit.filled(heads - px), px // 2, y + px * 0.4)
        _track(kit, ground, heads, y, row - 3)
    for tick in range(heads, width, px * 5):
        kit.write(ground, f"0:{(tick - heads) // px:02d}", tick, top + px * 0.4, kit.dim, int(px * 0.8))
    photos, speed = [kit.picture(w, top - px) for _ in range(4)], kit.rng.uniform(0.01, 0.12) * width
    for way in clock.active * speed + kit.between(0, width // 3):
        image = ground.copy()
        blit(image, photos[int(way) // max(width // 8, 1) % 4], x, px // 2)
        at = heads + int(way) % (width - heads)
        cv2.line(image, (at, top + px), (at, height), (230, 60, 60), max(px // 8, 1))
        cv2.circle(image, (at, top + px), px // 2, (230, 60, 60), -1, cv2.LINE_AA)
        kit.write(image, f"00:00:{way / px:05.2f}", px, top + px * 0.4, bold=True)
        yield image


def _track(kit: Kit, ground: Image, x: int, y: int, tall: int) -> None:
    hue, waves = kit.hue(), kit.chance(0.5)
    box(ground, x, y, ground.shape[1] - x, tall, kit.paper)
    while x < ground.shape[1] - kit.px * 2:
        wide = kit.between(kit.px * 3, kit.px * 24)
        box(ground, x, y, wide, tall, hue, 3, kit.ink)
        if waves:
            loud = kit.rng.uniform(0.05, 1, wide) * np.interp(
                np.arange(wide), np.linspace(0, wide, 9), kit.rng.uniform(0.1, 1, 9)
            )
            lines = [
                np.array([(x + i, y + tall / 2 - a * tall / 2.2), (x + i, y + tall / 2 + a * tall / 2.2)], np.int32)
                for i, a in enumerate(loud)
            ]
            cv2.polylines(ground, lines, False, mix(hue, (255, 255, 255), 0.6), 1)
        else:
            blit(ground, kit.picture(tall * 3 // 2, max(tall - 4, 1))[:, : max(wide - 4, 1)], x + 2, y + 2)
        kit.write(
            ground, kit.filled(wide - 10, int(kit.px * 0.8))[: wide // kit.px], x + 4, y, (255, 255, 255), int(kit.px * 0.8)
        )
        x += wide + kit.between(2, kit.px * 4)


def idle(kit: Kit, size: Size, clock: Clock) -> Iterator[Image]:
    """A start page: tiles of programs and a search line, one tile lit after the other."""
    (width, height), px = size, kit.px
    ground, tile = kit.sheet(width, height), px * kit.between(5, 9)
    wide, columns = width // 2, max((width - px * 8) // (tile + px * 2), 1)
    box(ground, width // 4, px * 2, wide, px * 2, kit.soft, px, kit.line)
    kit.write(ground, kit.phrase(2, 5), width // 4 + px, px * 2.4, kit.dim)
    places = [(px * 4 + i % columns * (tile + px * 2), px * 7 + i // columns * (tile + px * 3)) for i in range(columns * 8)]
    places = [place for place in places if place[1] < max(height - tile, px * 8)]
    for x, y in places:
        box(ground, x, y, tile, tile, kit.soft, px // 2, kit.line)
        if kit.chance(0.3):
            blit(ground, kit.picture(tile - 6, tile - 6), x + 3, y + 3)
        else:
            kit.icon(ground, x + tile // 4, y + tile // 4, tile // 2)
        kit.write(ground, kit.filled(tile), x, y + tile + px * 0.2)
    for count in clock.steps(kit.rng.uniform(0.3, 2)):
        image = ground.copy()
        lit = int(count) % (len(places) + 1)
        if lit < len(places):
            x, y = places[lit]
            shade(image, x - px // 2, y - px // 2, tile + px, tile + px * 2, kit.hues[0], 0.25)
        yield image
