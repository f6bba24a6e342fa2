"""Looks of screens that show code: an editor, a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from curation.quality.screen_kit import Clock, Colour, Image, Kit, Size, blit, box, scrolled, shade

Token = tuple[str, Colour]
KEYWORDS = (
    *("def", "return", "if", "else", "for", "while", "import", "from", "class", "const", "let", "var", "int", "void"),
    *("public", "static", "new", "try", "except", "async", "await"),
)


def _name(kit: Kit) -> str:
    parts = [kit.word() if kit.script == "words" else chr(97 + kit.between(0, 26)) * 2 for _ in range(kit.between(1, 3))]
    return "_".join(parts)


def code_line(kit: Kit, indent: int) -> list[Token]:
    """A line of made-up code with its colours."""
    keyword, string, number, call, *_ = kit.hues
    name, count = (_name(kit), kit.ink), str(kit.between(0, 999))
    pad: Token = ("    " * indent, kit.ink)
    word: Token = (f"{kit.rng.choice(KEYWORDS)} ", keyword)
    kind = kit.rng.integers(7)
    if kind == 0:
        return [pad, (f"# {kit.filled(kit.between(9, 24) * kit.px)}", kit.dim)]
    if kind == 1:
        return [pad, word, (_name(kit), call), (f"({_name(kit)}, {_name(kit)}):", kit.ink)]
    if kind == 2:
        return [pad, name, (" = ", kit.dim), (_name(kit), call), ("(", kit.ink), (f'"{kit.phrase()}"', string), (")", kit.ink)]
    if kind == 3:
        return [pad, word, name, (f".{_name(kit)}[", kit.ink), (count, number), ("]", kit.ink)]
    if kind == 4:
        return [pad, word, name, (" == ", kit.dim), (count, number), (" {", kit.ink)]
    if kind == 5:
        return [pad, name, (".", kit.dim), (_name(kit), call), ("(", kit.ink), (kit.number(), number), (");", kit.ink)]
    return [pad, ("}" if kit.chance(0.3) else "", kit.ink)]


def _program(kit: Kit, rows: int) -> list[list[Token]]:
    indent, lines = 0, []
    for _ in range(rows):
        lines.append(code_line(kit, indent))
        indent = int(np.clip(indent + kit.rng.choice((-1, 0, 0, 0, 1)), 0, 4))
    return lines


@dataclass(frozen=True)
class _Hand:
    """How code is written: in cells of a fixed width, or as ordinary text."""

    kit: Kit
    px: int
    cell: float
    fixed: bool

    def put(self, image: Image, tokens: list[Token], x: float, y: int) -> float:
        """Write; the x where it ends."""
        for text, colour in tokens:
            if self.fixed:
                x = self.kit.grid_write(image, text, x, y, colour, self.cell, self.px)
            else:
                lead, tail = len(text) - len(text.lstrip()), len(text) - len(text.rstrip())
                x = self.kit.write(image, text.strip(), x + lead * self.px * 0.3, y, colour, self.px) + tail * self.px * 0.3
        return x


def _tree(kit: Kit, width: int, height: int) -> Image:
    """The side bar of an editor: a tree of files."""
    side, row = kit.sheet(width, height, kit.soft), int(kit.px * kit.rng.uniform(1.4, 1.9))
    kit.write(side, kit.phrase(1, 2).upper(), 10, row // 4, kit.dim, int(kit.px * 0.85), bold=True)
    depth = 0
    for y in range(row * 3 // 2, height, row):
        if kit.chance(0.03):
            break
        depth = int(np.clip(depth + kit.rng.integers(-1, 2), 0, 3))
        kit.icon(side, 10 + depth * kit.px, y + row // 5, int(kit.px * 0.8))
        kit.write(side, f"{_name(kit)}.{kit.rng.choice(('py', 'js', 'cpp', 'md', 'txt'))}", 14 + (depth + 1) * kit.px, y, kit.ink)
    shade(side, 0, row * kit.between(3, 9), width, row, kit.hue(), 0.3)
    return side


def editor(kit: Kit, size: Size, clock: Clock) -> Iterator[Image]:
    """A code editor: typed into or scrolled, with a side bar, line numbers, sometimes a minimap."""
    (width, height), px = size, kit.px
    row, typed = int(px * kit.rng.uniform(1.3, 1.7)), kit.chance(0.6)
    hand = _Hand(kit, px, px * kit.rng.uniform(0.56, 0.64), kit.chance(0.8))
    side = _tree(kit, kit.between(0.12 * width, 0.24 * width), height) if kit.chance(0.75) else kit.sheet(1, height)
    left, shown = side.shape[1] + px * 3, max(height // row, 3)
    program = _program(kit, shown + (4 if typed else kit.between(30, 80)))
    top = kit.between(0, max(shown - 5, 1))
    hole = range(top, top + kit.between(3, 7) if typed else top)
    canvas = kit.sheet(width, len(program) * row)
    for i, tokens in enumerate(program):
        kit.write(canvas, f"{i + 1:3d}", left - px * 2.4, i * row, kit.dim, int(px * 0.85))
        if i not in hole:
            hand.put(canvas, tokens, left, i * row)
    if kit.chance(0.4):
        _minimap(canvas, height, left, width // 12)
    if typed:
        views = _typed(hand, clock, canvas[:height], [(i * row, program[i % len(program)]) for i in hole], left, row)
    else:
        views = (canvas[offset : offset + height].copy() for offset in scrolled(kit, clock, len(canvas) - height))
    for view in views:
        view[:, : side.shape[1]] = side[: len(view)]
        yield view


def _minimap(canvas: Image, height: int, left: int, wide: int) -> None:
    """The first screens of code, small, at the right."""
    code = canvas[: height * 3, left : left + canvas.shape[1] // 2]
    small = cv2.resize(code, (wide, len(code) // 6), interpolation=cv2.INTER_AREA)
    canvas[:, -wide:] = canvas[0, -1]
    for y in range(0, len(canvas), height):
        blit(canvas, small.astype(np.uint8), canvas.shape[1] - wide, y)


def _typed(hand: _Hand, clock: Clock, page: Image, lines: list[tuple[int, list[Token]]], left: int, row: int) -> Iterator[Image]:
    """Lines that are typed letter by letter, the caret that blinks after the last one."""
    kit = hand.kit
    keys = [(y, tokens, n) for y, tokens in lines for n in range(1 + sum(len(text) for text, _ in tokens))]
    counts = clock.steps(kit.rng.uniform(4, 16)) + kit.between(0, len(keys) // 2)
    done, x, end = 0, float(left), page.shape[1] - page.shape[1] // 12
    for count, now in zip(np.minimum(counts, len(keys) - 1), clock.times, strict=True):
        for y, tokens, n in keys[done : count + 1]:
            page[y : y + row, left:end] = kit.paper
            x = hand.put(page, _first(tokens, n), left, y)
        done, view = max(done, int(count) + 1), page.copy()
        shade(view, left, keys[count][0], page.shape[1], row, kit.ink, 0.06)
        if int(now * 2) % 2:
            box(view, int(x), keys[count][0], max(hand.px // 8, 1), row, kit.ink)
        yield view


def _first(tokens: list[Token], count: int) -> list[Token]:
    out = []
    for text, colour in tokens:
        out.append((text[:count], colour))
        count = max(count - len(text), 0)
    return out


def terminal(kit: Kit, size: Size, clock: Clock) -> Iterator[Image]:
    """A terminal: output that scrolls by, prompts that are typed into."""
    (width, height), px = size, int(kit.px * kit.rng.uniform(0.85, 1.2))
    row, hand = int(px * kit.rng.uniform(1.15, 1.4)), _Hand(kit, px, px * kit.rng.uniform(0.55, 0.62), True)
    done = clock.steps(kit.rng.uniform(2, 14)) + kit.between(1, height // row * 1.3)
    rows, manner = int(done[-1]) + 2, kit.between(0, 3)
    canvas, prompt = kit.sheet(width, rows * row + height), f"{kit.word()}@{kit.word()}:~$ "
    for i in range(rows):
        hand.put(canvas, _output(kit, width, manner, prompt), 4, i * row)
    for count, now in zip(done, clock.times, strict=True):
        bottom = int(count) * row
        offset = max(bottom + row - height, 0)
        view = canvas[offset : offset + height].copy()
        view[bottom - offset :] = kit.paper
        if int(now * 2) % 2:
            box(view, 4, bottom - offset, int(hand.cell), row, kit.ink)
        yield view


def _output(kit: Kit, width: int, manner: int, prompt: str) -> list[Token]:
    """A line of a terminal: a command, a log entry, a file, or text."""
    ink = kit.ink if kit.chance(0.85) else kit.hue()
    if kit.chance(0.12):
        return [(prompt, kit.hues[0]), (f"{kit.word()} --{kit.word()} {kit.word()}/{kit.word()}.txt", kit.ink)]
    if manner == 0:
        level = kit.between(0, 3)
        stamp = f"{kit.between(10, 24)}:{kit.between(10, 60)}:{kit.between(10, 60)} [{('INFO', 'WARN', 'DEBUG')[level]}] "
        return [(stamp, kit.hues[level]), (kit.filled(width * kit.rng.uniform(0.2, 0.6)), kit.ink)]
    if manner == 1:
        return [(f"-rw-r--r-- 1 {kit.between(100, 99999):6d} {_name(kit)[:14]:15s} {kit.number():>14s} {_name(kit)}", ink)]
    return [(kit.filled(width * kit.rng.uniform(0.1, 0.8)) if kit.chance(0.9) else "", ink)]
