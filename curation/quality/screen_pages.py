"""Looks of screens that are read: web pages, documents, chats, a page that plays a video."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np

from curation.quality.screen_charts import chart
from curation.quality.screen_kit import Clock, Image, Kit, Size, blit, box, cover, mix, scrolled, shade, wrapped


def _cards(kit: Kit, page: Image, x: int, y: int, width: int) -> int:
    """A row of cards with a picture, a title and some text each."""
    count, gap = kit.between(2, 5), kit.px
    each = (width - gap * (count - 1)) // count
    tall = int(each * kit.rng.uniform(0.5, 0.8))
    for i in range(count):
        left = x + i * (each + gap)
        box(page, left, y, each, tall + kit.px * 6, kit.soft, 6, kit.line)
        blit(page, kit.picture(each - 2, tall), left + 1, y + 1)
        kit.write(page, kit.filled(each - 20, kit.px + 2), left + 8, y + tall + 4, kit.ink, kit.px + 2, bold=True)
        kit.paragraph(page, left + 8, y + tall + kit.px * 2, each - 20, 2, int(kit.px * 0.85), kit.dim)
    return y + tall + kit.px * 7


def _article(kit: Kit, page: Image, x: int, y: int, width: int) -> int:
    """A heading and columns of text, sometimes beside a picture."""
    kit.write(page, kit.filled(width * 0.8, int(kit.px * 1.7)), x, y, kit.ink, int(kit.px * 1.7), bold=True)
    y, columns = y + int(kit.px * 2.6), kit.between(1, 4)
    each = width // columns
    ends = [y]
    for i in range(columns):
        if columns > 1 and kit.chance(0.35):
            tall = int(each * kit.rng.uniform(0.4, 0.7))
            blit(page, kit.picture(each - 16, tall), x + i * each, y)
            ends.append(y + tall)
        else:
            ends.append(kit.paragraph(page, x + i * each, y, each - 20, kit.between(4, 14), gap=kit.rng.uniform(1.35, 1.7)))
    return max(ends) + kit.px


def _button(kit: Kit, page: Image, x: int, y: int) -> int:
    text, hue = kit.phrase(1, 2), kit.hue()
    wide = kit.wide(text, kit.px) + kit.px * 2
    box(page, x, y, wide, kit.px * 2, hue, kit.between(0, kit.px))
    kit.write(page, text, x + kit.px, y + kit.px * 0.4, (255, 255, 255) if sum(hue) < 450 else (0, 0, 0))
    return x + wide + kit.px


def _table(kit: Kit, page: Image, x: int, y: int, width: int) -> int:
    columns, row = kit.between(3, 7), int(kit.px * 1.9)
    for r in range(kit.between(4, 12)):
        shade(page, x, y, width, row, kit.ink, 0.1 if r == 0 else 0.04 * (r % 2))
        for c in range(columns):
            kit.write(
                page,
                kit.phrase(1, 1) if c == 0 or r == 0 else kit.number(),
                x + c * width // columns + 6,
                y + kit.px * 0.4,
                bold=r == 0,
            )
        y += row
        cv2.line(page, (x, y), (x + width, y), kit.line, 1)
    return y + kit.px


def web_page(kit: Kit, size: Size) -> Image:
    """A whole page: header, hero, then articles, cards, tables and buttons, several screens long."""
    width, height = size
    page = kit.sheet(width, int(height * kit.rng.uniform(1.5, 4)))
    left = int(width * kit.rng.uniform(0.02, 0.14))
    inner, y = width - 2 * left, int(kit.px * kit.rng.uniform(3, 4.5))
    box(page, 0, 0, width, y, kit.hue() if kit.chance(0.5) else kit.soft)
    kit.icon(page, left, y // 2 - kit.px, kit.px * 2, kit.ink)
    x = (
        kit.write(page, kit.phrase(1, 1), left + kit.px * 3, y / 2 - kit.px * 0.8, kit.ink, int(kit.px * 1.4), bold=True)
        + kit.px * 3
    )
    while x < width - left - kit.px * 6:
        x = kit.write(page, kit.phrase(1, 1), x, y / 2 - kit.px * 0.6) + kit.px * 2
    if kit.chance(0.4):
        tall = int(height * kit.rng.uniform(0.25, 0.5))
        blit(page, kit.picture(width, tall), 0, y)
        kit.write(page, kit.filled(inner * 0.6, kit.px * 3), left, y + tall // 3, (255, 255, 255), kit.px * 3, bold=True)
        y += tall
    y += kit.px
    while y < len(page):
        block = (_article, _article, _cards, _table)[kit.rng.integers(4)]
        y = block(kit, page, left, y, inner)
        if kit.chance(0.3):
            _button(kit, page, _button(kit, page, left, y), y)
            y += kit.px * 3
    return page


def page(kit: Kit, size: Size, clock: Clock) -> Iterator[Image]:
    """A web page that is scrolled; sometimes another one is opened."""
    pages = [web_page(kit, size) for _ in range(1 + kit.chance(0.35))]
    views = [wrapped(canvas, scrolled(kit, clock, len(canvas) - size[1]), kit, size[1]) for canvas in pages]
    change = kit.rng.uniform(0.3, 0.8) * clock.times[-1]
    for now, *seen in zip(clock.times, *views, strict=True):
        yield seen[-1 if now > change else 0]


def document(kit: Kit, size: Size, clock: Clock) -> Iterator[Image]:
    """A reader: pages of text, figures and formulas on a grey ground, scrolled; sometimes small pages at the side."""
    width, height = size
    back, side = mix(kit.soft, (90, 90, 90), kit.rng.uniform(0.1, 0.9)), width // 7 if kit.chance(0.4) else 0
    leaf = int((width - side) * kit.rng.uniform(0.5, 0.95))
    tall, gap = int(leaf * kit.rng.choice((1.41, 1.29, 0.75))), kit.px
    white = replace(kit, paper=(255, 255, 255), ink=(25, 25, 25), dim=(90, 90, 90)) if kit.chance(0.8) else kit
    count = max(height * kit.between(2, 4) // tall, 1) + 1
    leaves = [_leaf(white, leaf, tall, int(kit.px * kit.rng.uniform(0.85, 1.3)), 1 + kit.chance(0.3)) for _ in range(count)]
    canvas = kit.sheet(width, count * (tall + gap) + gap, back)
    for i, one in enumerate(leaves):
        blit(canvas, one, side + (width - side - leaf) // 2, gap + i * (tall + gap))
    small_width = side * 2 // 3
    for view in wrapped(canvas, scrolled(kit, clock, len(canvas) - height), kit, height):
        if side:
            box(view, 0, 0, side, height, kit.soft)
            for i, one in enumerate(leaves):
                small = cover(one, (small_width, small_width * tall // leaf))
                blit(view, small, side // 6, gap + i * (len(small) + gap))
        yield view


def _leaf(kit: Kit, width: int, height: int, px: int, columns: int) -> Image:
    """A page of print in one or two columns."""
    leaf, margin = kit.sheet(width, height), width // 10
    each = (width - margin * (columns + 1)) // columns
    for column in range(columns):
        x, y = margin + column * (each + margin), margin
        while y < height - margin - px:
            kind, left = kit.rng.random(), (height - margin - y) // px
            if kind < 0.2:
                kit.write(leaf, kit.filled(each * 0.6, int(px * 1.3)), x, y, kit.ink, int(px * 1.3), bold=True)
                y += px * 2
            elif kind < 0.3 and left > 12:
                tall = kit.between(6, 11) * px
                blit(leaf, kit.picture(each, tall) if kit.chance(0.5) else chart(kit, each, tall, 1.0), x, y)
                kit.write(leaf, kit.filled(each * 0.7, px - 1), x, y + tall + px // 2, kit.dim, px - 1)
                y += tall + 2 * px
            elif kind < 0.36:
                kit.write(
                    leaf,
                    f"{chr(97 + kit.between(0, 26))}({kit.word()[:1]}) = {kit.between(2, 9)} + ∑ x² / {kit.number()}",
                    x + each // 5,
                    y,
                )
                y += px * 2
            else:
                y = kit.paragraph(leaf, x, y, each, min(kit.between(3, 9), max(int(left / 1.4), 1)), px, gap=1.35) + px // 2
    return leaf


def chat(kit: Kit, size: Size, clock: Clock) -> Iterator[Image]:
    """Messages that come in, a list of people at the side, a line that is typed."""
    (width, height), px = size, kit.px
    side, row = width // kit.between(3, 6), px * 4
    canvas, x = kit.sheet(width, height * 4), side + px
    box(canvas, 0, 0, side, len(canvas), kit.soft)
    for y in range(0, height, row):
        blit(canvas, kit.picture(px * 3, px * 3), px // 2, y + px // 2)
        kit.write(canvas, kit.phrase(1, 2), px * 4, y + px * 0.4, bold=True)
        kit.write(canvas, kit.filled(side - px * 6), px * 4, y + px * 1.8, kit.dim, int(px * 0.9))
    people, ends, y = canvas[:height, :side].copy(), [], px
    while y < len(canvas) - px * 12:
        mine, rows, wide = kit.chance(0.4), kit.between(1, 5), int((width - side) * kit.rng.uniform(0.2, 0.6))
        left = width - wide - px * 3 if mine else x
        if kit.chance(0.15):
            blit(canvas, kit.picture(wide, wide // 2), left, y)
            y += wide // 2 + px
        box(canvas, left, y, wide + px * 2, int(rows * px * 1.5) + px, kit.hues[0] if mine else kit.soft, px)
        ink = (255, 255, 255) if mine and sum(kit.hues[0]) < 450 else (0, 0, 0) if mine else kit.ink
        y = kit.paragraph(canvas, left + px, y + px // 2, wide, rows, colour=ink) + px * 2
        ends.append(y)
    typed = kit.filled(width - side - px * 6)
    counts, letters = clock.steps(kit.rng.uniform(0.3, 2)) + kit.between(3, 12), clock.steps(9)
    for count, letter, now in zip(counts, letters, clock.times, strict=True):
        end = ends[min(int(count), len(ends) - 1)]
        offset = int(np.clip(end - height + px * 4, 0, len(canvas) - height))
        view = canvas[offset : offset + height].copy()
        view[max(end - offset, 0) :, side:] = kit.paper
        view[:, :side] = people
        box(view, side, height - px * 3, width - side, px * 3, kit.paper, 0, kit.line)
        end_x = kit.write(view, typed[: letter % len(typed)], x, height - px * 2.2)
        if int(now * 2) % 2:
            box(view, end_x + 2, int(height - px * 2.2), 2, px, kit.ink)
        yield view


def player(kit: Kit, size: Size, clock: Clock) -> Iterator[Image]:
    """A page that plays a video: pictures that slowly move, a bar below, text and suggestions around it."""
    (width, height), px = size, kit.px
    ground, w = kit.sheet(width, height), int(width * kit.rng.uniform(0.45, 0.72))
    h, x = w * 9 // 16, px * 2
    y = kit.paragraph(ground, x, h + px * 4, w, 1, int(px * 1.5))
    blit(ground, kit.picture(px * 3, px * 3), x, y + px)
    kit.write(ground, kit.phrase(1, 3), x + px * 4, y + px, bold=True)
    kit.paragraph(ground, x, y + px * 5, w, max((height - y) // (px * 2) - 2, 1))
    for top in range(px, height, px * 8):
        blit(ground, kit.picture(px * 12, px * 7), x + w + px, top)
        kit.write(ground, kit.filled(max(width - x - w - px * 15, 40)), x + w + px * 14, top, bold=True)
        kit.paragraph(ground, x + w + px * 14, top + px * 2, max(width - x - w - px * 15, 40), 2, colour=kit.dim)
    photos, cuts = [kit.picture(w * 5 // 4, h * 5 // 4) for _ in range(5)], clock.steps(kit.rng.uniform(0.1, 0.5))
    for cut, way in zip(cuts, clock.active, strict=True):
        dx, dy = (int(s / 4 * (0.5 + 0.5 * np.sin(way * f))) for s, f in ((w, 0.7), (h, 0.4)))
        blit(ground, photos[int(cut) % 5][dy : dy + h, dx : dx + w], x, px)
        box(ground, x, px + h - 6, w, 6, (120, 120, 120))
        box(ground, x, px + h - 6, int(w * (0.1 + way / 40) % w) + 1, 6, (230, 40, 40))
        yield ground
