"""What every made-up screen is drawn with: colours, text, small marks, and when something happens.

Every number is our choice, by eye against tutorial recordings.
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]
Size = tuple[int, int]
"""Width and height in pixels."""

_VOCABULARY = """the of and to in is for that with on as are this be can by from or it your an at we not you have new more will
which when all use using used file data value time user page list view edit open save close name type code line text image model
server client system error result number group table index query update delete create select option settings network account
project version default window screen button search filter report total price order item product customer email address phone
message date month year week today market sales growth average percent power energy light water city country world people work
team company business school student course lesson chapter section figure example question answer method function class object
string integer array matrix vector field input output signal process thread memory cache storage device driver install download
upload share public private security password access token session request response browser website design color style layout
margin border size width height first second next last best good great small large high low left right between during after
before because where while however about over under through history science research study analysis problem solution change
start stop begin end build run test check clean local remote branch commit merge review issue support release"""
WORDS = tuple(_VOCABULARY.split())
"""The commoner, the earlier."""
SYLLABLES = {
    "latin": "ka ro mi ten sur vel ada lor pen cu tra bel no esk in ur so da fi gra pe lin mo ster",
    "cyrillic": "ко ра ми тен сур вел ада лор пен ку тра бел но ска ин об со да фи гра пе лин мо стр ние",
    "greek": "κα ρο μι τεν συρ βελ αδα λορ πεν κυ τρα βελ νο εσκ ιν ου σο δα φι γρα πε λιν",
}
SCRIPTS = ("words", "words", "words", "words", "latin", "cyrillic", "cjk"), ("words", "words", "words", "greek", "kana", "latin")
"""Of recordings that are seen in training, and of those that are not."""
FONTS = (("sans", "sans", "sans", "sans", "sans", "italic"), ("uni",))
PAPERS = (
    ((255, 255, 255), (250, 250, 252), (243, 243, 243), (30, 30, 30), (40, 44, 52), (0, 0, 0), (39, 40, 34), (253, 246, 227)),
    ((255, 252, 240), (232, 240, 232), (236, 233, 216), (0, 43, 54), (40, 24, 52), (15, 23, 42), (12, 40, 30), (212, 208, 200)),
)


@dataclass(frozen=True)
class Clock:
    """`times`: seconds of each frame; `active`: how many of them, up to each frame, something was going on."""

    times: NDArray[np.float64]
    active: NDArray[np.float64]

    @classmethod
    def draw(cls, rng: np.random.Generator, times: NDArray[np.float64], busy: float) -> Clock:
        """Bursts and pauses of random lengths, about `busy` of the time in bursts: [0, 1]."""
        edges, done, on = [0.0], [0.0], bool(rng.random() < busy)
        while edges[-1] <= times[-1]:
            span = 0.1 + rng.exponential(2.0) * (busy if on else 1 - busy)
            edges.append(edges[-1] + span)
            done.append(done[-1] + span * on)
            on = not on
        return cls(times, np.interp(times, edges, done))

    def steps(self, rate: float) -> NDArray[np.int64]:
        """How many things have happened up to each frame at `rate` a second of activity."""
        return (self.active * rate).astype(np.int64)


@dataclass(frozen=True)
class Kit:
    """Colours, font and pictures of one screen. `px` is the size of ordinary text."""

    rng: np.random.Generator
    pictures: Sequence[Image]
    paper: Colour
    ink: Colour
    dim: Colour
    soft: Colour
    line: Colour
    hues: tuple[Colour, ...]
    font: cv2.FontFace
    weight: int
    script: str
    px: int
    unseen: bool

    @classmethod
    def draw(cls, rng: np.random.Generator, pictures: Sequence[Image], px: int, unseen: bool) -> Kit:
        """A theme: light, dark, of high contrast or of odd colours."""
        papers = PAPERS[unseen]
        paper = papers[rng.integers(len(papers))]
        dark = sum(paper) < 384
        far = (255, 255, 255) if dark else (0, 0, 0)
        start, strength = rng.random(), rng.uniform(0.35, 0.95)
        value = (0.75, 0.95) if dark else (0.45, 0.8)
        turns = [(start + (0.13 if unseen else 0.19) * i) % 1 for i in range(8)]
        hues = [colorsys.hsv_to_rgb(turn, strength, rng.uniform(*value)) for turn in turns]
        return cls(
            *(rng, pictures, paper, mix(paper, far, rng.uniform(0.72, 1)), mix(paper, far, 0.5)),
            *(mix(paper, far, rng.uniform(0.03, 0.1)), mix(paper, far, rng.uniform(0.12, 0.25))),
            tuple((int(255 * r), int(255 * g), int(255 * b)) for r, g, b in hues),
            cv2.FontFace(str(rng.choice(FONTS[unseen]))),
            int(rng.choice((300, 400, 400, 500))),
            str(rng.choice(SCRIPTS[unseen])),
            px,
            unseen,
        )

    @property
    def dark(self) -> bool:
        return sum(self.paper) < 384

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def between(self, low: float, high: float) -> int:
        return int(self.rng.uniform(low, high))

    def hue(self) -> Colour:
        return self.hues[self.rng.integers(len(self.hues))]

    def picture(self, width: int, height: int) -> Image:
        """One of the pictures, cut to width × height."""
        return cover(self.pictures[int(self.rng.integers(len(self.pictures)))], (max(width, 1), max(height, 1)))

    def sheet(self, width: int, height: int, colour: Colour | None = None) -> Image:
        return np.full((max(height, 1), max(width, 1), 3), self.paper if colour is None else colour, np.uint8)

    def word(self) -> str:
        if self.script == "words":
            return WORDS[int(len(WORDS) * self.rng.random() ** 1.4)]
        if self.script in ("cjk", "kana"):
            low, high = (0x4E00, 0x6000) if self.script == "cjk" else (0x3042, 0x3090)
            return "".join(chr(c) for c in self.rng.integers(low, high, self.rng.integers(1, 6)))
        parts = SYLLABLES[self.script].split()
        return "".join(parts[i] for i in self.rng.integers(len(parts), size=self.rng.integers(1, 4)))

    def phrase(self, low: int = 1, high: int = 3) -> str:
        words = " ".join(self.word() for _ in range(self.rng.integers(low, high + 1)))
        return words[:1].upper() + words[1:]

    def number(self) -> str:
        value = self.rng.lognormal(5, 2.5)
        kind = self.rng.integers(5)
        return (
            f"{value:,.0f}",
            f"{value:.2f}",
            f"${value:,.2f}",
            f"{value % 100:.1f}%",
            f"20{self.between(10, 26)}-0{self.between(1, 9)}",
        )[kind]

    def wide(self, text: str, px: int) -> int:
        return int(cv2.getTextSize((0, 0), text, (0, 0), self.font, px, self.weight)[2])

    def filled(self, width: float, px: int | None = None) -> str:
        """Words that fill a line of `width` pixels."""
        text = self.phrase(1, 1)
        while True:
            word, mark = self.word(), str(self.rng.choice((" ", " ", " ", " ", " ", " ", ", ", ". ")))
            longer = f"{text}{mark}{word.capitalize() if mark == '. ' else word}"
            if len(longer) > width or self.wide(longer, px or self.px) > width:
                return text
            text = longer

    def write(
        self, image: Image, text: str, x: float, y: float, colour: Colour | None = None, px: int | None = None, bold: bool = False
    ) -> int:
        """Write below `y`, right of `x`; the x where it ends."""
        px = px or self.px
        weight = min(self.weight + 300, 800) if bold else self.weight
        colour = self.ink if colour is None else colour
        end, _ = cv2.putText(image, text, (int(x), int(y + px)), colour, self.font, px, weight)
        return int(end[0])

    def grid_write(self, image: Image, text: str, x: float, y: float, colour: Colour, cell: float, px: int) -> float:
        """Write as in a font of fixed width, a character a `cell`; the x where it ends."""
        for char in text:
            wide, glyph = (2 * cell, 1.0) if ord(char) > 0x2E80 else (cell, GLYPHS.get(char, 0.55))
            if char != " ":
                cv2.putText(image, char, (int(x + (wide - glyph * px) / 2), int(y + px)), colour, self.font, px, self.weight)
            x += wide
        return x

    def paragraph(
        self,
        image: Image,
        x: int,
        y: int,
        width: int,
        rows: int,
        px: int | None = None,
        colour: Colour | None = None,
        gap: float = 1.5,
    ) -> int:
        """Rows of text, the last one shorter; the y below it."""
        px = px or self.px
        for row in range(rows):
            self.write(image, self.filled(width if row < rows - 1 or rows == 1 else width * 0.6, px), x, y, colour, px)
            y += int(px * gap)
        return y

    def icon(self, image: Image, x: int, y: int, side: int, colour: Colour | None = None) -> None:
        """A small mark: a letter on a tile, a disc, a folder, lines, an arrow."""
        colour = self.hue() if colour is None else colour
        kind, half = self.rng.integers(6), side // 2
        if kind == 0:
            box(image, x, y, side, side, colour, side // 5)
            self.write(image, self.phrase()[:1], x + side * 0.25, y + side * 0.05, self.paper, max(int(side * 0.7), 4), bold=True)
        elif kind == 1:
            cv2.circle(image, (x + half, y + half), half, colour, -1, cv2.LINE_AA)
            cv2.circle(image, (x + half, y + half), half // 2, self.paper, -1, cv2.LINE_AA)
        elif kind == 2:
            box(image, x, y + side // 8, half, half, colour, 1)
            box(image, x, y + side // 4, side, side * 5 // 8, colour, 2)
        elif kind == 3:
            for row in range(3):
                cv2.line(
                    image,
                    (x, y + side * (2 * row + 1) // 6),
                    (x + side, y + side * (2 * row + 1) // 6),
                    colour,
                    max(side // 9, 1),
                )
        elif kind == 4:
            cv2.arrowedLine(image, (x, y + half), (x + side, y + half), colour, max(side // 9, 1), cv2.LINE_AA, tipLength=0.5)
        else:
            cv2.rectangle(image, (x, y), (x + side, y + side), colour, max(side // 10, 1))
            cv2.line(image, (x, y + side), (x + side, y + half), colour, max(side // 10, 1), cv2.LINE_AA)


GLYPHS = {**dict.fromkeys("il.,:;'|!", 0.25), **dict.fromkeys('fjrt()[]{}-"', 0.36), **dict.fromkeys("mwMW@%", 0.85)}
"""Widths of characters by the size of the font, where they are not about 0.55."""


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """From `a` (0) to `b` (1)."""
    red, green, blue = (round(p + (q - p) * share) for p, q in zip(a, b, strict=True))
    return red, green, blue


def cover(picture: Image, size: Size) -> Image:
    """The middle of a picture in the shape of `size`, resized to it."""
    (width, height), (rows, columns) = size, picture.shape[:2]
    scale = min(columns / width, rows / height)
    w, h = max(int(width * scale), 1), max(int(height * scale), 1)
    top, left = (rows - h) // 2, (columns - w) // 2
    smaller = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
    return cv2.resize(picture[top : top + h, left : left + w], size, interpolation=smaller).astype(np.uint8)


def box(
    image: Image, x: int, y: int, width: int, height: int, colour: Colour, radius: int = 0, edge: Colour | None = None
) -> None:
    """A filled rectangle, round at the corners, with an edge of one pixel where asked."""
    right, bottom, radius = x + width - 1, y + height - 1, max(min(radius, width // 2, height // 2), 0)
    if radius < 2:
        cv2.rectangle(image, (x, y), (right, bottom), colour, -1)
        if edge:
            cv2.rectangle(image, (x, y), (right, bottom), edge, 1)
        return
    centres = [
        (right - radius, bottom - radius),
        (x + radius, bottom - radius),
        (x + radius, y + radius),
        (right - radius, y + radius),
    ]
    points = np.concatenate([cv2.ellipse2Poly(c, (radius, radius), 90 * i, 0, 90, 15) for i, c in enumerate(centres)])
    cv2.fillPoly(image, [points], colour, cv2.LINE_AA)
    if edge:
        cv2.polylines(image, [points], True, edge, 1, cv2.LINE_AA)


def blit(image: Image, patch: Image, x: int, y: int) -> None:
    """Put a patch on the image; what hangs over is cut off."""
    top, left = max(y, 0), max(x, 0)
    bottom, right = min(y + patch.shape[0], image.shape[0]), min(x + patch.shape[1], image.shape[1])
    if top < bottom and left < right:
        image[top:bottom, left:right] = patch[top - y : bottom - y, left - x : right - x]


def shade(image: Image, x: int, y: int, width: int, height: int, colour: Colour, share: float) -> None:
    """Tint a rectangle: a selection, a shadow, a highlight."""
    part = image[max(y, 0) : max(y + height, 0), max(x, 0) : max(x + width, 0)]
    if part.size:
        table = np.arange(256)[:, None] * (1 - share) + np.array(colour) * share
        part[:] = cv2.LUT(part, table.round().astype(np.uint8)[None])


def scrolled(kit: Kit, clock: Clock, most: int) -> NDArray[np.int64]:
    """Pixels scrolled at each frame: steadily, by steps of a wheel, or there and back; at most `most`."""
    speed, manner = kit.rng.uniform(80, 700), kit.rng.integers(3)
    way = clock.active * speed + kit.rng.uniform(0, 0.3) * most
    if manner == 1:
        notch = kit.between(50, 160)
        way = way // notch * notch
    turned = most - np.abs(way % (2 * most) - most) if most > 0 else 0 * way
    return np.clip(turned, 0, most).astype(np.int64)


def scroll_bar(kit: Kit, image: Image, x: int, offset: int, total: int, width: int = 8) -> None:
    height = image.shape[0]
    length = max(height * height // max(total, height), 20)
    box(image, x, 0, width, height, kit.soft)
    box(image, x + 1, offset * (height - length) // max(total - height, 1), width - 2, length, kit.dim, width // 2)


def wrapped(canvas: Image, offsets: NDArray[np.int64], kit: Kit, height: int) -> Iterator[Image]:
    """A tall canvas seen through a window of `height`, with a scroll bar."""
    canvas = np.pad(canvas, ((0, max(height - len(canvas), 0)), (0, 0), (0, 0)), mode="edge")
    for offset in offsets:
        view = canvas[offset : offset + height].copy()
        scroll_bar(kit, view, view.shape[1] - 9, int(offset), len(canvas))
        yield view
