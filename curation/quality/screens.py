"""Made-up recordings of computer screens, to train and to test what tells them from videos of the world.

Drawn from a seed and some pictures: a desktop with windows, something that goes on in one of them, a mouse cursor, the zoom of
recording software. Every number is our choice, by eye against tutorial recordings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.quality import screen_apps, screen_charts, screen_code, screen_held_out, screen_pages
from curation.quality.screen_cursor import Pointer, eased, wander
from curation.quality.screen_desktop import Look, Popup, desk, popups
from curation.quality.screen_kit import Clock, Image, Kit, Size, blit, shade

SEEN: dict[str, Look] = {
    "editor": screen_code.editor,
    "terminal": screen_code.terminal,
    "page": screen_pages.page,
    "document": screen_pages.document,
    "slides": screen_charts.slides,
    "chat": screen_pages.chat,
    "dashboard": screen_charts.dashboard,
    "files": screen_apps.files,
    "gallery": screen_apps.gallery,
    "settings": screen_apps.settings,
    "installer": screen_apps.installer,
    "modeller": screen_apps.modeller,
    "timeline": screen_apps.timeline,
    "player": screen_pages.player,
    "idle": screen_apps.idle,
}
UNSEEN: dict[str, Look] = {
    "whiteboard": screen_held_out.whiteboard,
    "map": screen_held_out.street_map,
    "phone": screen_held_out.phone,
    "spreadsheet": screen_held_out.spreadsheet,
    "nodes": screen_held_out.nodes,
}
"""Looks that recordings for training show, and those held out."""
BROWSED = ("page", "dashboard", "document", "chat", "player", "map")
"""Looks that a browser may show."""
BARE = ("phone",)
"""Looks that are the whole screen."""
FACTORS = (1.0, 1.25, 1.5, 2.0, 2.0, 2.0, 2.25, 2.5, 3.0)
MOST_PIXELS = 1920 * 1080


def recording(
    rng: np.random.Generator, pictures: Sequence[Image], size: Size, count: int, seconds: float, unseen: bool = False
) -> Image:
    """A synthetic recording of a computer screen: uint8 RGB [count, height, width, 3], evenly spaced over `seconds`.

    `pictures` (RGB uint8, any sizes, at least one) are what pages, players and slides show; `size` is (width, height). `unseen`
    draws what training never shows: the looks whiteboard, map, phone, spreadsheet and nodes; the other papers (sepia, mint, grey,
    petrol, violet, navy, dark green); the font "uni"; cursors in the shape of a wide arrow, a dart or a star; GNOME and tiled
    window frames; Greek and kana. Words, Latin syllables, wallpapers, bars and the zoom are common to both. Something changes in
    every recording: it is drawn again where nothing would.
    """
    if not pictures:
        raise ValueError("recording needs at least one picture for its pages and slides to show, got none")
    times, inner = np.linspace(0, seconds, count), _inset(rng, size, unseen)
    factor = min(float(rng.choice(FACTORS)), (MOST_PIXELS / (inner[0] * inner[1])) ** 0.5)
    stretch = rng.uniform(0.87, 1.15) if rng.random() < 0.4 else 1.0
    stage = round(inner[0] * factor * stretch), round(inner[1] * factor)
    kit = Kit.draw(rng, pictures, max(round(min(stage) * rng.uniform(0.016, 0.034)), 9), unseen)
    frames, path = _screen(kit, stage, times)
    video = _framed(kit, np.stack(list(_shrunk(kit, frames, path, inner))), size)
    return video if count < 2 or (video[1:] != video[:-1]).any() else recording(rng, pictures, size, count, seconds, unseen)


def _inset(rng: np.random.Generator, size: Size, unseen: bool) -> Size:
    """The part of the video that the screen fills: all of it, or a landscape one amid an upright video, or what bars leave."""
    width, height = size
    if height > width and not unseen and rng.random() < 0.6:
        return width, round(width / rng.choice((4 / 3, 16 / 10, 16 / 9)))
    if rng.random() < 0.08:
        return (
            (width, round(height * rng.uniform(0.75, 0.95)))
            if rng.random() < 0.5
            else (round(width * rng.uniform(0.75, 0.95)), height)
        )
    return size


def _screen(kit: Kit, size: Size, times: NDArray[np.float64]) -> tuple[Iterator[Image], NDArray[np.float64]]:
    """The screen at its own size, with its cursor, at each time, and where that is [N, 2]."""
    rng, looks = kit.rng, UNSEEN if kit.unseen else SEEN
    busy = float(rng.choice((0.03, 0.2, 0.5, 0.75, 1.0)))
    clock, name = Clock.draw(rng, times, busy), str(rng.choice(list(looks)))
    if name in BARE:
        frames = looks[name](kit, size, clock)
    else:
        others = [looks[str(other)] for other in rng.choice([n for n in looks if n not in BARE], rng.integers(4))]
        frames = desk(kit, looks[name], others, size, clock, name in BROWSED and rng.random() < 0.7)
    path, clicks = wander(rng, times, size, busy)
    pointer = Pointer.draw(kit, size) if rng.random() < (0.15 if name in BARE else 0.85) or busy < 0.4 else None
    over = [] if name in BARE else popups(kit, size, times, path, busy)
    return _with_pointer(frames, pointer, times, path, clicks, over), path


def _with_pointer(
    frames: Iterator[Image],
    pointer: Pointer | None,
    times: NDArray[np.float64],
    path: NDArray[np.float64],
    clicks: list[float],
    over: list[Popup],
) -> Iterator[Image]:
    for frame, now, (x, y) in zip(frames, times, path, strict=True):
        image = frame.copy()
        for popup in over:
            if popup.start <= now < popup.end:
                blit(image, popup.image, popup.x, popup.y)
        if pointer:
            before = [now - click for click in clicks if click <= now]
            pointer.put(image, x, y, len(before) * 7 // 3, before[-1] if before else -1)
        yield image


def _shrunk(kit: Kit, frames: Iterator[Image], path: NDArray[np.float64], size: Size) -> Iterator[Image]:
    """Shrink to `size`; sometimes the recording software zooms in to where the cursor is, and out."""
    share = np.linspace(0, 1, len(path))
    start, hold, soft = kit.rng.uniform(-0.2, 0.6), kit.rng.uniform(0.15, 0.8), kit.rng.uniform(0.03, 0.12)
    most = kit.rng.uniform(1.25, 2.4) if kit.chance(0.3) else 1.0
    zooms = 1 + (most - 1) * (eased((share - start) / soft) - eased((share - start - hold) / soft))
    centre = path[int(np.clip(start + soft, 0, 1) * (len(path) - 1))]
    before, shrunk = None, None
    for frame, zoom in zip(frames, zooms, strict=True):
        height, width = frame.shape[:2]
        w, h = round(width / zoom), round(height / zoom)
        left, top = (int(np.clip(c - s / 2, 0, e - s)) for c, s, e in zip(centre, (w, h), (width, height), strict=True))
        part = frame[top : top + h, left : left + w]
        if shrunk is None or before is None or not np.array_equal(part, before):
            shrunk = cv2.resize(part, size, interpolation=cv2.INTER_AREA if w >= size[0] else cv2.INTER_CUBIC).astype(np.uint8)
        before = part
        yield shrunk


def _framed(kit: Kit, video: Image, size: Size) -> Image:
    """Bars around a screen that does not fill the video, a logo in a corner, a subtitle."""
    height, width = video.shape[1:3]
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    if (width, height) != size:
        ground = (
            cv2.GaussianBlur(kit.picture(*size), (0, 0), 12)
            if kit.chance(0.3)
            else kit.sheet(*size, (0, 0, 0) if kit.chance(0.6) else kit.hue())
        )
        px = width // 14
        if top > 3 * px and kit.chance(0.6):
            for y in (top - int(2.5 * px), top + height + px):
                kit.write(ground, kit.filled(width * 0.85, px), px, y, (255, 255, 255), px, bold=True)
        whole = np.repeat(ground[None].astype(np.uint8), len(video), axis=0)
        whole[:, top : top + height, left : left + width] = video
        video = whole
    px = max(size[1] // 26, 9)
    text, subtitles = kit.phrase(1, 2), [kit.filled(size[0] * kit.rng.uniform(0.3, 0.7), px) for _ in range(2)]
    logo, spoken = kit.chance(0.12), kit.chance(0.1)
    x, y = kit.rng.choice((0.03, 0.8)) * size[0], kit.rng.choice((0.03, 0.92)) * size[1]
    for number, image in enumerate(video):
        if logo:
            kit.write(image, text, x, y, (200, 200, 200), px, bold=True)
        if spoken:
            words = subtitles[2 * number // len(video)]
            wide = kit.wide(words, px)
            shade(image, (size[0] - wide) // 2 - 6, size[1] - 2 * px - 4, wide + 12, px + 10, (0, 0, 0), 0.7)
            kit.write(image, words, (size[0] - wide) / 2, size[1] - 2 * px - 2, (255, 255, 255), px)
    return video
