"""Looks of screens that no training recording shows: whiteboard, map, phone, spreadsheet, graph of nodes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.quality.screen_charts import chart
from curation.quality.screen_cursor import eased
from curation.quality.screen_kit import Clock, Colour, Image, Kit, Size, blit, box, mix, shade

Stroke = tuple[NDArray[np.int32], Colour, int]


def spreadsheet(kit: Kit, size: Size, clock: Clock) -> Iterator[Image]:
    """Cells with names and numbers; the selection moves on, values are filled in, it scrolls by rows; sometimes with a chart."""
    (width, height), px = size, kit.px
    row, head, bar = int(px * kit.rng.uniform(1.4, 1.9)), px * 3, int(px * 2)
    lefts = head + np.concatenate([[0], kit.rng.integers(px * 4, px * 11, 60).cumsum()])
    columns, shown = int((lefts < width).sum()), max((height - bar - row) // row, 2)
    given, kinds = kit.between(shown * 0.7, shown * 2.5), kit.rng.integers(3, size=columns)
    begun, across = (
        kit.between(1, min(shown, given)),
        range(1, columns) if kit.chance(0.3) else [min(kit.between(1, 8), columns - 1)],
    )
    new = [(r, c) for r in range(begun, shown * 3) for c in across] if kit.chance(0.7) else []
    body = _cells(kit, lefts[: columns + 1], (given, shown * 3), row, kinds, set(new))
    graph, view = chart(kit, width // 3, height // 3, 1.0) if kit.chance(0.4) else None, kit.sheet(width, height)
    filled, moved = 0, kit.rng.integers(columns, size=500)
    for step in np.minimum(clock.steps(kit.rng.uniform(0.6, 4)), 499):
        for r, c in new[filled : step + 1]:
            _cell(kit, body, int(lefts[c]), r * row, int(lefts[c + 1]), int(kinds[c]), False)
        filled = max(filled, int(step) + 1)
        r, c = new[min(int(step), len(new) - 1)] if new else (int(moved[step // 5] + step) % given, int(moved[step]))
        first = min(max(r - shown + 2, 0), shown * 2)
        view[bar + row :] = kit.paper
        blit(view, body[first * row :], 0, bar + row)
        if graph is not None:
            blit(view, graph, width // 2, height // 3)
        _margins(kit, view, lefts[:columns], first, row, bar, head)
        at = (int(lefts[c]), bar + row * (1 + r - first)), (int(lefts[c + 1]), bar + row * (2 + r - first))
        cv2.rectangle(view, *at, kit.hues[0], max(px // 6, 2))
        kit.write(view, f"{chr(65 + c % 26)}{r + 1}     fx   =SUM({chr(65 + c % 26)}2:{chr(65 + c % 26)}{r})", px, px * 0.4)
        yield view


def _cells(
    kit: Kit, lefts: NDArray[np.int64], rows: tuple[int, int], row: int, kinds: NDArray[np.int64], empty: set[tuple[int, int]]
) -> Image:
    """The cells of `rows`, filled and all: names in the first column and row, numbers or words elsewhere."""
    body, striped, kinds[0] = kit.sheet(int(lefts[-1]), rows[1] * row), kit.chance(0.3), 2
    shade(body, 0, 0, body.shape[1], row, kit.hue(), kit.rng.uniform(0, 0.5))
    for r in range(rows[1]):
        if striped and r % 2:
            shade(body, 0, r * row, body.shape[1], row, kit.hues[0], 0.08)
        for c in range(len(lefts) - 1 if r < rows[0] else 0):
            if (r, c) not in empty and kit.chance(0.93):
                _cell(kit, body, int(lefts[c]), r * row, int(lefts[c + 1]), int(kinds[c]) if r else 2, r == 0)
        cv2.line(body, (0, r * row), (body.shape[1], r * row), kit.line, 1)
    for x in lefts:
        cv2.line(body, (int(x), 0), (int(x), len(body)), kit.line, 1)
    return body


def _cell(kit: Kit, body: Image, x: int, y: int, right: int, kind: int, bold: bool) -> None:
    text = kit.number() if kind < 2 else kit.filled(right - x - 2 * kit.px)
    left = max(right - kit.wide(text, kit.px) - 4, x + 2) if kind < 2 else x + 4
    kit.write(body[:, : right - 2], text, left, y + kit.px * 0.15, bold=bold)


def _margins(kit: Kit, view: Image, lefts: NDArray[np.int64], first: int, row: int, bar: int, head: int) -> None:
    """The line for formulas, the letters of columns and the numbers of rows."""
    height, width = view.shape[:2]
    box(view, 0, 0, width, bar, kit.paper)
    box(view, 0, bar, width, row, kit.soft)
    box(view, 0, bar, head, height, kit.soft)
    for i, x in enumerate(lefts):
        kit.write(view, chr(65 + i % 26), x + kit.px * 2, bar + kit.px * 0.2, kit.dim)
        cv2.line(view, (int(x), bar), (int(x), bar + row), kit.line, 1)
    for i, y in enumerate(range(bar + row, height, row)):
        kit.write(view, str(first + i + 1), 4, y + kit.px * 0.2, kit.dim)
        cv2.line(view, (0, y), (head, y), kit.line, 1)


def whiteboard(kit: Kit, size: Size, clock: Clock) -> Iterator[Image]:
    """Strokes that are drawn on a board or on squared paper: writing, boxes, arrows, curves; tools at one side."""
    (width, height), px = size, kit.px
    board = kit.sheet(width, height)
    step = kit.between(px * 2, px * 5)
    for x in range(0, width if kit.chance(0.3) else 0, step):
        cv2.line(board, (x, 0), (x, height), kit.line, 1)
        cv2.line(board, (0, x), (width, x), kit.line, 1)
    strokes: list[Stroke] = []
    tall = max(int(height * kit.rng.uniform(0.03, 0.08)), 4)
    x, y = width // 10, height // 10
    while y < height - 2 * tall:
        wide = int(width * kit.rng.uniform(0.1, 0.35))
        strokes += _drawn(kit, x, y, wide, tall)
        x += wide + tall
        if x > width * 0.75:
            x, y = width // 10 + kit.between(0, width // 8), y + int(tall * kit.rng.uniform(1.6, 2.6))
    lengths = np.cumsum([len(points) for points, _, _ in strokes])
    shown = clock.steps(kit.rng.uniform(25, 110)) + kit.between(0.1 * lengths[-1], 0.7 * lengths[-1])
    palette = _palette(kit, px)
    done = 0
    for count in shown:
        while done < len(strokes) and lengths[done] <= count:
            _ink(board, strokes[done], None)
            done += 1
        view = board.copy()
        if done < len(strokes):
            _ink(view, strokes[done], int(count) - (int(lengths[done - 1]) if done else 0))
        blit(view, palette, px // 2, height // 4)
        yield view


def _ink(image: Image, stroke: Stroke, count: int | None) -> None:
    points, colour, thick = stroke
    if count is None or count > 1:
        cv2.polylines(image, [points[:count]], False, colour, thick, cv2.LINE_AA)


def _drawn(kit: Kit, x: int, y: int, wide: int, tall: int) -> list[Stroke]:
    """A word of handwriting, a box, an arrow, a ring or the axes of a curve, as strokes of points."""
    colour, thick, kind = kit.hue() if kit.chance(0.5) else kit.ink, max(kit.px // kit.between(3, 7), 1), kit.rng.integers(6)
    u = np.linspace(0, 1, 40)
    if kind < 3:
        return [_letters(kit, x, y, wide, tall, colour, thick)]
    if kind == 3:
        corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)]) * (wide, tall * 1.5) + (x, y)
        around = np.stack([np.interp(u * 4, np.arange(5), corners[:, i]) for i in range(2)], 1)
        strokes = [(around + kit.rng.normal(0, 0.7, around.shape)).astype(np.int32)]
        return [
            (strokes[0], colour, thick),
            _letters(kit, x + tall // 2, y + tall // 2, wide * 2 // 3, tall * 2 // 3, colour, thick),
        ]
    if kind == 4:
        ring = np.stack([x + wide / 2 * (1 + np.cos(u * 6.6)), y + tall * (1 + np.sin(u * 6.6 + 0.1))], 1)
        return [(ring.astype(np.int32), colour, thick)]
    bend = kit.rng.uniform(-1, 1) * tall
    shaft = np.stack([x + u * wide, y + tall / 2 + bend * np.sin(u * kit.rng.uniform(2, 9))], 1)
    head = shaft[-1] + np.array([(-tall / 3, -tall / 3), (0, 0), (-tall / 3, tall / 3)])
    return [(shaft.astype(np.int32), colour, thick), (head.astype(np.int32), colour, thick)]


def _letters(kit: Kit, x: int, y: int, wide: int, tall: int, colour: Colour, thick: int) -> Stroke:
    """Loops and arches of varying height, as of joined handwriting."""
    count = max(wide * 2 // tall, 2)
    u, at = np.linspace(0, count - 1, count * 12), np.arange(count)
    tops, drops, loops = (
        kit.rng.choice((0.4, 0.5, 1.0), count),
        kit.rng.choice((0, 0, 0, 0.4), count),
        kit.rng.uniform(-0.1, 0.4, count),
    )
    up, down, loop, phase = (np.interp(u, at, values) for values in (tops, drops, loops, 2 * np.pi * at))
    xs = x + (u + loop * np.sin(phase + 1)) * tall / 2
    ys = y + tall * (1 + 0.5 * (down - up) + 0.5 * (down + up) * np.cos(phase)) + 0.06 * tall * np.sin(u)
    return np.stack([xs, ys], 1).astype(np.int32), colour, thick


def _palette(kit: Kit, px: int) -> Image:
    palette = kit.sheet(px * 3, px * 20, kit.soft)
    for i in range(9):
        y = px // 2 + i * px * 2
        if i < 4:
            kit.icon(palette, px // 2, y, px * 3 // 2, kit.dim)
        else:
            cv2.circle(palette, (px * 3 // 2, y + px), px * 3 // 4, kit.hues[i - 4], -1, cv2.LINE_AA)
    return palette


def street_map(kit: Kit, size: Size, clock: Clock) -> Iterator[Image]:
    """Blocks, parks, water, roads and labels, moved and zoomed; sometimes a panel and a route."""
    (width, height), px = size, kit.px
    land = _city(kit, width * 2, height * 2)
    panel = _places(kit, width // 4, height) if kit.chance(0.6) else None
    ways = (clock.active * kit.rng.uniform(0.04, 0.3))[:, None] * kit.rng.uniform(-1, 1, 2) + kit.rng.random(2)
    ways = 0.5 + 0.5 * np.sin(2 * np.pi * ways * 0.5)
    zooms = 1.6 + 0.6 * np.sin(kit.rng.uniform(0, 6) + clock.active * kit.rng.choice((0, 0, 0.4, 1.0)))
    if kit.chance(0.3):
        zooms = np.round(zooms * 3) / 3
    for (u, v), zoom in zip(ways, zooms, strict=True):
        w, h = int(2 * width / zoom * 0.55), int(2 * height / zoom * 0.55)
        left, top = int(u * (2 * width - w)), int(v * (2 * height - h))
        view = cv2.resize(land[top : top + h, left : left + w], size, interpolation=cv2.INTER_LINEAR).astype(np.uint8)
        if panel is not None:
            blit(view, panel, 0, 0)
        for i in range(2):
            box(view, width - px * 3, height - px * (3 + 2 * i), px * 2, px * 2, kit.paper, 3, kit.line)
            kit.write(view, "–+"[i], width - px * 2.4, height - px * (2.8 + 2 * i))
        yield view


def _city(kit: Kit, width: int, height: int) -> Image:
    """Drawn larger than the screen and turned, so that the streets run aslant."""
    side, px = int(np.hypot(width, height)), kit.px
    land, road = kit.sheet(side, side, mix(kit.paper, kit.ink, 0.08)), mix(kit.paper, (255, 255, 255), 0.25 if kit.dark else 0.9)
    park, water = mix(kit.paper, (90, 180, 90), 0.35), mix(kit.paper, (80, 150, 230), 0.5)
    block = kit.between(px * 5, px * 11)
    for _ in range(14):
        box(land, kit.between(0, side), kit.between(0, side), kit.between(1, 5) * block, kit.between(1, 4) * block, park, px)
    river = np.stack([np.linspace(0, side, 60), side / 2 + np.cumsum(kit.rng.normal(0, side / 60, 60))], 1).astype(np.int32)
    cv2.polylines(land, [river], False, water, kit.between(px, px * 6), cv2.LINE_AA)
    for axis in range(2):
        for at in np.cumsum(kit.rng.uniform(0.5, 1.5, side // block * 2) * block).astype(int):
            ends = np.sort(kit.rng.uniform(-0.2, 1.2, 2)) * side
            line = np.array([(at, int(ends[0])), (at + kit.between(-block, block), int(ends[1]))])
            points = [line if axis else line[:, ::-1]]
            wide = max(int(px * kit.rng.choice((0.4, 0.4, 0.6, 1.3))), 2)
            cv2.polylines(land, points, False, mix(road, kit.ink, 0.15), wide + 2, cv2.LINE_AA)
            cv2.polylines(land, points, False, (250, 210, 120) if wide > px else road, wide, cv2.LINE_AA)
    turned = cv2.getRotationMatrix2D((side / 2, side / 2), float(kit.rng.uniform(-40, 40)), 1.15)
    turned[:, 2] += (np.array((width, height)) - side) / 2
    flat = cv2.warpAffine(land, turned, (width, height), borderMode=cv2.BORDER_REFLECT).astype(np.uint8)
    for _ in range(kit.between(60, 160)):
        x, y = (int(v) for v in kit.rng.uniform(0, 1, 2) * (width, height))
        if kit.chance(0.3):
            cv2.circle(flat, (x, y), px // 2, kit.hue(), -1, cv2.LINE_AA)
        kit.write(flat, kit.phrase(1, 2), x + px, y - px / 2, mix(kit.ink, kit.paper, 0.2), kit.between(px * 0.8, px * 1.6))
    if kit.chance(0.5):
        route = np.cumsum(kit.rng.choice((0, 0, 1, 2), (30, 2)), 0) * block // 2 + (width // 8, height // 8)
        cv2.polylines(flat, [route.astype(np.int32)], False, (60, 110, 240), max(px // 2, 2), cv2.LINE_AA)
    return flat


def _places(kit: Kit, width: int, height: int) -> Image:
    panel, px = kit.sheet(width, height), kit.px
    box(panel, px // 2, px // 2, width - px, px * 2, kit.soft, px, kit.line)
    kit.write(panel, kit.phrase(1, 2), px * 1.5, px * 0.9)
    for y in range(px * 4, height, px * 6):
        blit(panel, kit.picture(px * 4, px * 4), width - px * 5, y)
        kit.write(panel, kit.filled(width - px * 8), px, y, bold=True)
        kit.paragraph(panel, px, y + int(px * 1.6), width - px * 8, 2, int(px * 0.9), kit.dim)
    return panel


def phone(kit: Kit, size: Size, clock: Clock) -> Iterator[Image]:
    """A phone: the whole of an upright video, else amid a plain or blurred ground; feeds and lists that are flicked, pages that
    slide in."""
    (width, height), upright = size, size[1] > size[0]
    tall = height if upright else int(height * kit.rng.uniform(0.85, 1.0))
    wide = width if upright else int(tall * kit.rng.uniform(0.46, 0.58))
    small = replace(kit, px=max(wide // kit.between(20, 28), 7))
    pages = [_feed(small, wide, tall * 4) for _ in range(3)]
    bar, px = int(small.px * 1.8), small.px
    ground = (
        cv2.GaussianBlur(kit.picture(*size), (0, 0), 15)
        if kit.chance(0.4)
        else kit.sheet(*size, kit.hue() if kit.chance(0.5) else (0, 0, 0))
    )
    x, y = (width - wide) // 2, (height - tall) // 2
    if not upright:
        box(ground, x - px, y - px, wide + 2 * px, tall + 2 * px, (15, 15, 15), px * 2, (90, 90, 90))
    flicks = clock.active * kit.rng.uniform(0.4, 1.6)
    ways = (np.floor(flicks) + eased((flicks % 1) * 1.8)) * tall * kit.rng.uniform(0.2, 0.8)
    turns = clock.active * kit.rng.uniform(0.05, 0.3)
    for way, turn in zip(ways, turns, strict=True):
        slid, number = int(wide * eased(np.array((turn % 1 - 0.9) * 10))), int(turn)
        offset = int(way) % (tall * 3)
        two = np.concatenate([pages[number % 3][offset : offset + tall], pages[(number + 1) % 3][:tall]], 1)
        screen = two[:, slid : slid + wide].copy()
        _phone_bars(small, screen, bar)
        blit(ground, screen, x, y)
        yield ground.astype(np.uint8)


def _phone_bars(kit: Kit, screen: Image, bar: int) -> None:
    height, width, px = *screen.shape[:2], kit.px
    box(screen, 0, 0, width, bar, kit.paper)
    kit.write(screen, "9:41", px, px * 0.4, bold=True)
    for i in range(4):
        box(screen, width - px * 5 + i * px // 2, bar - px // 2 - i * px // 5, px // 3, px // 5 * (i + 1), kit.ink)
    box(screen, width - int(px * 2.4), px // 2, px * 3 // 2, px * 3 // 4, kit.ink, 3)
    box(screen, 0, height - px * 3, width, px * 3, kit.paper, 0, kit.line)
    for i in range(5):
        cv2.circle(
            screen,
            (width * (2 * i + 1) // 10, height - px * 3 // 2),
            px * 2 // 3,
            kit.hues[0] if i == 1 else kit.dim,
            max(px // 6, 1),
            cv2.LINE_AA,
        )


def _feed(kit: Kit, width: int, height: int) -> Image:
    """A long page of an app: a list, cards with pictures, or tiles."""
    page, px, kind = kit.sheet(width, height), kit.px, kit.rng.integers(3)
    kit.write(page, kit.phrase(1, 2), px, px * 2.5, kit.ink, int(px * 1.8), bold=True)
    y = px * 6
    while y < height:
        if kind == 0:
            blit(page, kit.picture(px * 3, px * 3), px, y)
            kit.write(page, kit.phrase(1, 2), px * 5, y, bold=True)
            kit.write(page, kit.filled(width - px * 8), px * 5, y + px * 1.5, kit.dim, int(px * 0.9))
            y += px * 4
            cv2.line(page, (px * 5, y - px // 2), (width, y - px // 2), kit.line, 1)
        elif kind == 1:
            tall = int(width * kit.rng.uniform(0.4, 1.0))
            kit.icon(page, px, y, px * 2)
            kit.write(page, kit.phrase(1, 2), px * 4, y + px * 0.3, bold=True)
            blit(page, kit.picture(width, tall), 0, y + px * 3)
            y = kit.paragraph(page, px, y + px * 4 + tall, width - px * 2, kit.between(1, 4)) + px
        else:
            side = max(width // 4, 4)
            for i in range(4):
                kit.icon(page, i * side + side // 4, y, side // 2)
                kit.write(page, kit.filled(side * 0.7, int(px * 0.8)), i * side + side // 8, y + side * 0.6, px=int(px * 0.8))
            y += side
    return page


def nodes(kit: Kit, size: Size, clock: Clock) -> Iterator[Image]:
    """A graph of nodes with sockets, joined by curves on a dotted ground; nodes are dragged about, the view moves."""
    (width, height), px = size, kit.px
    ground, dots = kit.sheet(width, height, kit.soft), kit.between(px, px * 3)
    ground[::dots, ::dots] = kit.dim
    count = kit.between(5, 16)
    cards = [_node(kit, px * kit.between(8, 13), px * kit.between(5, 12)) for _ in range(count)]
    columns = max(int(count**0.5) + 1, 2)
    at = np.array([(i % columns * width / columns, i // columns * height / columns) for i in range(count)])
    at += kit.rng.uniform(0, 0.3, at.shape) * size / np.array(columns)
    links = [
        (i, int(kit.rng.integers(i + 1, min(i + columns + 2, count)))) for i in range(count - 1) for _ in range(kit.between(1, 3))
    ]
    hues, moves = [kit.hue() for _ in links], kit.rng.uniform(-0.2, 0.2, (40, 2)) * size
    pans, turns = kit.rng.uniform(-0.08, 0.08, 2) * size * kit.chance(0.4), clock.active * kit.rng.uniform(0.3, 1.2)
    for turn in turns:
        here, steps = at + pans * turn, int(turn)
        for i in range(steps + 1):
            here[i * 3 % count] += moves[i % 40] * eased(np.array(turn - i))
        view = ground.copy()
        for (a, b), hue in zip(links, hues, strict=True):
            start, end = here[a] + (cards[a].shape[1], px * 2.5), here[b] + (0, px * 2.5)
            u, bow = np.linspace(0, 1, 24)[:, None], np.array((max(abs(end[0] - start[0]) / 2, px * 3), 0))
            curve = (1 - u) ** 3 * start + 3 * u * (1 - u) ** 2 * (start + bow) + 3 * u**2 * (1 - u) * (end - bow) + u**3 * end
            cv2.polylines(view, [curve.astype(np.int32)], False, hue, max(px // 6, 1), cv2.LINE_AA)
        for card, (x, y) in zip(cards, here, strict=True):
            blit(view, card, int(x), int(y))
        yield view


def _node(kit: Kit, width: int, height: int) -> Image:
    card, px = kit.sheet(width, height), kit.px
    box(card, 0, 0, width, int(px * 1.5), kit.hue())
    kit.write(card, kit.filled(width - px * 2), px // 2, px * 0.15, kit.paper, bold=True)
    for y in range(px * 2, height - px, int(px * 1.6)):
        cv2.circle(card, (3 if kit.chance(0.6) else width - 4, y + px // 2), max(px // 3, 2), kit.hue(), -1, cv2.LINE_AA)
        kit.write(card, kit.filled(width - px * 4), px, y)
    if kit.chance(0.3):
        blit(card, kit.picture(width - px, height // 2), px // 2, height // 2)
    cv2.rectangle(card, (0, 0), (width - 1, height - 1), kit.line, 1)
    return card
