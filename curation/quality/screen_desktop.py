"""The desktop around what a made-up screen shows: wallpaper, bars, windows, menus that open."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.quality.screen_cursor import eased
from curation.quality.screen_kit import Clock, Image, Kit, Size, blit, box, mix, shade

Look = Callable[[Kit, Size, Clock], Iterator[Image]]
CHROMES = ("windows", "mac", "classic", "none"), ("gnome", "tiled", "none")
"""Manners of window frames of recordings that are seen in training, and of those that are not."""


@dataclass(frozen=True)
class Popup:
    """Something that lies over the desktop between two times: a menu, a tooltip, a dialog."""

    image: Image
    x: int
    y: int
    start: float
    end: float


def wallpaper(kit: Kit, size: Size) -> Image:
    """A gradient, a plain colour or a picture."""
    manner = kit.rng.integers(4)
    if manner == 0:
        return kit.picture(*size)
    if manner == 1:
        return kit.sheet(*size, mix(kit.hue(), (20, 20, 30), kit.rng.uniform(0, 0.7)))
    base, calm = kit.hue(), kit.rng.uniform(0, 0.8)
    corners = np.array(
        [
            [mix(mix(base, kit.hue(), kit.rng.uniform(0, 0.7)), (40, 45, 60), calm) for _ in range(2 + (manner == 3))]
            for _ in range(2)
        ],
        np.uint8,
    )
    return cv2.resize(corners, size, interpolation=cv2.INTER_CUBIC).astype(np.uint8)


def _title(kit: Kit, image: Image, width: int, tall: int, manner: str) -> None:
    """The title bar: an icon, the title, the buttons of the manner."""
    px, middle = max(int(kit.px * 0.95), 8), tall // 2
    title = f"{kit.phrase(1, 3)}{kit.rng.choice((' - ', ' — ', '.txt - ', ' | '))}{kit.phrase(1, 2)}"
    back = kit.hues[0] if manner == "classic" else mix(kit.soft, kit.line, 0.5 if manner in ("mac", "gnome") else 0)
    box(image, 0, 0, width, tall, back)
    ink = (255, 255, 255) if sum(back) < 400 else (20, 20, 20)
    centred = manner in ("mac", "gnome")
    kit.write(
        image,
        title,
        (width - kit.wide(title, px)) / 2 if centred else px * 2,
        middle - px * 0.65,
        ink,
        px,
        bold=manner == "gnome",
    )
    if manner == "mac":
        for i, colour in enumerate(((255, 95, 87), (254, 188, 46), (40, 200, 64))):
            cv2.circle(image, (int(px * (1 + 1.5 * i)), middle), max(px * 2 // 5, 3), colour, -1, cv2.LINE_AA)
    elif manner == "gnome":
        cv2.circle(image, (width - tall // 2, middle), tall // 3, kit.line, -1, cv2.LINE_AA)
        kit.write(image, "×", width - tall // 2 - px * 0.3, middle - px * 0.65, ink, px)
    elif manner in ("windows", "classic"):
        kit.icon(image, px // 2, middle - px // 2, px)
        for i, mark in enumerate("×□–"):
            left = width - int(tall * 1.25 * (i + 1))
            if manner == "classic":
                box(image, left + 2, 3, int(tall * 1.1), tall - 6, (212, 208, 200), 0, (90, 90, 90))
            kit.write(image, mark, left + tall * 0.45, middle - px * 0.65, (0, 0, 0) if manner == "classic" else ink, px)


def _tabs(kit: Kit, image: Image, y: int, width: int) -> int:
    """The tabs and the address bar of a browser; the y below."""
    tall, x, px = int(kit.px * 2.2), kit.px, kit.px
    each = min(kit.between(8, 16) * px, width // 3)
    box(image, 0, y, width, tall, kit.line)
    for i in range(kit.between(1, max((width - px * 4) // each, 2))):
        box(image, x, y + 3, each - 4, tall, kit.paper if i == 0 else kit.soft, px // 2)
        kit.icon(image, x + px // 2, y + tall // 2 - px // 3, px * 3 // 4)
        kit.write(image, kit.filled(each - px * 3), x + px * 1.6, y + tall / 2 - px * 0.6, px=int(px * 0.85))
        x += each
    y += tall
    box(image, 0, y, width, tall, kit.paper)
    for i in range(3):
        kit.icon(image, px + i * px * 2, y + tall // 2 - px // 2, px, kit.dim)
    box(image, px * 8, y + 3, width - px * 12, tall - 6, kit.soft, tall // 2)
    kit.write(
        image, f"https://www.{kit.phrase(1, 1).lower()}.com/{kit.phrase(1, 1).lower()}", px * 9, y + tall / 2 - px * 0.6, kit.dim
    )
    cv2.line(image, (0, y + tall - 1), (width, y + tall - 1), kit.line, 1)
    return y + tall


def _tools(kit: Kit, image: Image, y: int, width: int) -> int:
    """Sometimes a row of menus, sometimes one or two of tools; the y below."""
    px = kit.px
    if kit.chance(0.6):
        box(image, 0, y, width, int(px * 1.8), kit.soft)
        x = px // 2
        for _ in range(kit.between(4, 10)):
            x = kit.write(image, kit.phrase(1, 1), x, y + px * 0.25) + px
        y += int(px * 1.8)
    for _ in range(kit.between(0, 2.6)):
        tall, x = int(px * kit.rng.uniform(1.8, 3)), px // 2
        labelled = tall > px * 2.5 and kit.chance(0.6)
        box(image, 0, y, width, tall, kit.soft)
        for _ in range(kit.between(6, max(width // (2 * px), 7))):
            kit.icon(image, x, y + px // 3, px if labelled else tall - px, kit.dim if kit.chance(0.5) else None)
            if labelled:
                x = kit.write(image, kit.phrase(1, 1), x, y + tall - px * 1.1, px=int(px * 0.75))
            x += int(px * kit.rng.choice((1.6, 1.6, 1.6, 3)))
        cv2.line(image, (0, y + tall - 1), (width, y + tall - 1), kit.line, 1)
        y += tall
    return y


def window(kit: Kit, width: int, height: int, manner: str, browser: bool) -> tuple[Image, int, Size]:
    """A window without its content; the y at which that begins, and its size: what does not fit is cut off."""
    image, y = kit.sheet(width, height), 0
    if manner == "tiled":
        y = int(kit.px * 1.3)
        box(image, 0, 0, width, y, kit.hue())
        kit.write(image, kit.phrase(1, 3), 6, 0, kit.paper, int(kit.px * 0.85))
    elif manner != "none" and not (browser and kit.chance(0.5)):
        y = int(kit.px * kit.rng.uniform(1.8, 2.6))
        _title(kit, image, width, y, manner)
    y = _tabs(kit, image, y, width) if browser else _tools(kit, image, y, width)
    bottom = height
    if kit.chance(0.4):
        bottom -= int(kit.px * 1.6)
        box(image, 0, bottom, width, height - bottom, kit.soft if kit.chance(0.6) else kit.hue())
        x = kit.px
        for _ in range(kit.between(2, 6)):
            x = kit.write(image, kit.phrase(1, 3), x, bottom + kit.px * 0.2, px=int(kit.px * 0.85)) + kit.px * 2
    return image, y, (max(width, kit.px * 24), max(bottom - y, kit.px * 14))


def _bars(kit: Kit, image: Image) -> tuple[int, int]:
    """A task bar, a dock or a top bar drawn on the desktop; the y at which the room for windows begins and ends."""
    height, width = image.shape[:2]
    px, kind = kit.px, kit.rng.integers(5)
    tall = int(px * kit.rng.uniform(2.2, 3.2))
    if kind == 0:
        return 0, height
    if kind < 3:
        back = mix(kit.soft, kit.hue(), 0.2)
        box(image, 0, height - tall, width, tall, back)
        x = px if kind == 1 else width // 3
        for _ in range(kit.between(4, 12)):
            kit.icon(image, x, height - tall + tall // 4, tall // 2)
            x += tall
        _time(kit, image, width - px * 5, height - tall + tall // 4)
        return 0, height - tall
    top = int(px * 1.7)
    shade(image, 0, 0, width, top, kit.paper, 0.85)
    x = px
    for _ in range(kit.between(3, 8)):
        x = kit.write(image, kit.phrase(1, 1), x, px * 0.25, bold=x == px) + px
    _time(kit, image, width - px * 5, int(px * 0.25))
    if kind == 3:
        return top, height
    count, side = kit.between(6, 14), int(px * 2.6)
    left = (width - count * side) // 2
    shade(image, left - px, height - side - px, count * side + 2 * px, side + px // 2, (255, 255, 255), 0.35)
    for i in range(count):
        kit.icon(image, left + i * side + side // 8, height - side - px // 2, side * 3 // 4)
    return top, height - kit.between(0, 2) * (side + px)


def _time(kit: Kit, image: Image, x: int, y: int) -> None:
    kit.write(image, f"{kit.between(1, 13)}:{kit.between(10, 60)} {kit.rng.choice(('AM', 'PM', ''))}", x, y)


def _icons(kit: Kit, image: Image) -> None:
    """Icons with names on the wallpaper."""
    side = kit.px * 3
    for column in range(kit.between(1, 3)):
        for row in range(kit.between(1, max(image.shape[0] // (side * 2), 2))):
            x, y = kit.px + column * side * 2, side // 2 + row * side * 2
            kit.icon(image, x + side // 4, y, side)
            kit.write(image, kit.phrase(1, 1), x, y + side * 1.1, (255, 255, 255), int(kit.px * 0.85))


def desk(kit: Kit, look: Look, others: list[Look], size: Size, clock: Clock, browser: bool) -> Iterator[Image]:
    """The whole desktop at each frame: the look in a window, full or not, other windows at rest behind it."""
    ground = wallpaper(kit, size)
    manner = str(kit.rng.choice(CHROMES[kit.unseen]))
    if kit.chance(0.8):
        _icons(kit, ground)
    top, bottom = _bars(kit, ground) if kit.chance(0.75) else (0, size[1])
    room = bottom - top
    full = kit.chance(0.55)
    if not full:
        for other in others:
            w, h = int(size[0] * kit.rng.uniform(0.35, 0.7)), int(room * kit.rng.uniform(0.4, 0.8))
            x, y = kit.between(-0.05 * size[0], size[0] - 0.8 * w), top + kit.between(0, room - 0.8 * h)
            still = Clock(clock.times[:1], clock.active[:1])
            behind = _windowed(replace(kit, hues=kit.hues[2:] + kit.hues[:2]), other, (w, h), still, manner, False)
            _place(ground[:bottom], next(behind), x, y)
    share = (1.0, 1.0) if full else kit.rng.uniform(0.5, 0.95, 2)
    w, h = int(size[0] * share[0]), int(room * share[1])
    x, y = kit.between(0, size[0] - w + 1), top + kit.between(0, room - h + 1)
    ways = _drag(kit, clock, full)
    for frame, (dx, dy) in zip(_windowed(kit, look, (w, h), clock, manner, browser), ways, strict=True):
        image = ground.copy()
        _place(image[:bottom], frame, x + int(dx * size[0]), max(y + int(dy * size[1]), top), shadow=not full)
        yield image


def _place(image: Image, patch: Image, x: int, y: int, shadow: bool = True) -> None:
    if shadow:
        height, width = patch.shape[:2]
        for s in (9, 5, 2):
            shade(image, x - s, y - s, width + 2 * s, s, (0, 0, 0), 0.12)
            shade(image, x - s, y + height, width + 2 * s, s, (0, 0, 0), 0.12)
            shade(image, x - s, y, s, height, (0, 0, 0), 0.12)
            shade(image, x + width, y, s, height, (0, 0, 0), 0.12)
    blit(image, patch, x, y)


def _windowed(kit: Kit, look: Look, size: Size, clock: Clock, manner: str, browser: bool) -> Iterator[Image]:
    frame, top, inner = window(kit, *size, manner, browser)
    for content in look(kit, inner, clock):
        blit(frame, content, 0, top)
        yield frame


def _drag(kit: Kit, clock: Clock, full: bool) -> NDArray[np.float64]:
    """How far the window is from where it began, in shares of the screen, at each frame."""
    ways = np.zeros((len(clock.times), 2))
    if not full and kit.chance(0.4):
        start, span = kit.rng.uniform(0, 0.8) * clock.times[-1], kit.rng.uniform(0.4, 1.5)
        ways += eased((clock.times - start) / span)[:, None] * kit.rng.uniform(-0.2, 0.2, 2)
    return ways


def popups(kit: Kit, size: Size, times: NDArray[np.float64], path: NDArray[np.float64], busy: float) -> list[Popup]:
    """Menus, tooltips and dialogs that open where the cursor is, and close."""
    found = []
    for _ in range(kit.rng.poisson(1.2 * busy)):
        start = kit.rng.uniform(0, times[-1])
        x, y = path[int(np.searchsorted(times, start))]
        image = kit.rng.choice(np.array([_menu, _tip, _dialog]))(kit)
        x, y = min(int(x), size[0] - image.shape[1]), min(int(y), size[1] - image.shape[0])
        found.append(Popup(image, max(x, 0), max(y, 0), start, start + kit.rng.uniform(0.5, 3)))
    return found


def _menu(kit: Kit) -> Image:
    rows, row, px = kit.between(4, 14), int(kit.px * 1.7), kit.px
    image = kit.sheet(px * kit.between(11, 20), rows * row + 8)
    for i in range(rows):
        kit.icon(image, 6, 4 + i * row + row // 4, px * 3 // 4, kit.dim)
        kit.write(image, kit.phrase(1, 3), px * 2, 4 + i * row + px * 0.2)
        kit.write(
            image,
            f"Ctrl+{chr(65 + kit.between(0, 26))}" if kit.chance(0.4) else "",
            image.shape[1] - px * 4,
            4 + i * row + px * 0.2,
            kit.dim,
        )
    shade(image, 0, 4 + row * kit.between(0, rows), image.shape[1], row, kit.hues[0], 0.35)
    cv2.rectangle(image, (0, 0), (image.shape[1] - 1, image.shape[0] - 1), kit.line, 1)
    return image


def _tip(kit: Kit) -> Image:
    text = kit.phrase(2, 6)
    image = kit.sheet(kit.wide(text, kit.px) + 12, int(kit.px * 1.7), kit.soft)
    kit.write(image, text, 6, kit.px * 0.25)
    cv2.rectangle(image, (0, 0), (image.shape[1] - 1, image.shape[0] - 1), kit.dim, 1)
    return image


def _dialog(kit: Kit) -> Image:
    px = kit.px
    width, height = px * kit.between(22, 36), px * kit.between(10, 16)
    image = kit.sheet(width, height)
    _title(kit, image, width, px * 2, str(kit.rng.choice(CHROMES[kit.unseen][:2])))
    kit.icon(image, px, px * 3, px * 3)
    kit.paragraph(image, px * 5, px * 3, width - px * 6, max(height // px // 2 - 3, 1))
    for i in range(2):
        box(image, width - px * 6 * (i + 1), height - px * 3, px * 5, px * 2, kit.hues[0] if i else kit.soft, 3, kit.line)
        kit.write(image, kit.phrase(1, 1), width - px * 6 * (i + 1) + px, height - px * 2.7)
    cv2.rectangle(image, (0, 0), (width - 1, height - 1), kit.line, 1)
    return image
