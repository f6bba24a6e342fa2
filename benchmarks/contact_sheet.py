"""Pictures for eyes: one row per kept clip with its frames and masks, cut-outs, faces and background.

python benchmarks/contact_sheet.py RUN_DIRECTORY OUT.png [--rows 12] [--page 0]
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pyarrow.compute as pc

from curation import ledger
from curation.media.members import from_rle
from curation.shards.clip import Clip
from curation.storage import Storage

HEIGHT, WIDTH = 150, 1900
REFUSED = (150, 150, 150)
COLOURS = [(66, 135, 245), (80, 200, 60), (40, 40, 230), (200, 60, 200), (40, 200, 230), (220, 200, 40), (140, 100, 60)]


def picture(files: dict[str, bytes], name: str) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(files[name], np.uint8), cv2.IMREAD_UNCHANGED)


def fit(image: np.ndarray, height: int = HEIGHT) -> np.ndarray:
    scale = height / image.shape[0]
    return cv2.resize(image, (max(1, round(image.shape[1] * scale)), height), interpolation=cv2.INTER_AREA)


def on_checkers(rgba: np.ndarray) -> np.ndarray:
    ys, xs = np.indices(rgba.shape[:2])
    board = np.where(((ys // 8 + xs // 8) % 2)[..., None], 225, 190).astype(np.uint8)
    return np.where(rgba[..., 3:] > 0, rgba[..., :3], board).astype(np.uint8)


def marked(image: np.ndarray, clip: Clip, frame: int) -> np.ndarray:
    """A frame with the masks tinted and the boxes drawn; what is refused is grey, with the reason."""
    image = image.copy()
    for i, entity in enumerate(clip.entities):
        colour = COLOURS[i % len(COLOURS)]
        for ref in (r for r in entity.refs if r.frame == frame):
            mask, tint = from_rle(ref.mask.model_dump()), REFUSED if ref.refused else colour
            image[mask] = (0.55 * image[mask] + 0.45 * np.array(tint)).astype(np.uint8)
            x0, y0, x1, y1 = (round(v) for v in ref.box)
            cv2.rectangle(image, (x0, y0), (x1 - 1, y1 - 1), tint, max(1, image.shape[0] // 180))
            if ref.refused:
                size = image.shape[0] / 450
                cv2.putText(image, ref.refused, (x0 + 3, y1 - 6), cv2.FONT_HERSHEY_SIMPLEX, size, (0, 0, 0), 2, cv2.LINE_AA)
                cv2.putText(image, ref.refused, (x0 + 3, y1 - 6), cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), 1, cv2.LINE_AA)
    return image


def row(clip: Clip, files: dict[str, bytes]) -> np.ndarray:
    tiles = [fit(marked(picture(files, f"frame{f}.jpg"), clip, f)) for f in range(3)]
    for entity in clip.entities:
        for ref in entity.refs:
            if not ref.member:
                continue
            tiles.append(fit(on_checkers(picture(files, ref.member)))[:, : 2 * HEIGHT])
            if ref.face and ref.face.member:
                tiles.append(fit(picture(files, ref.face.member)))
    if clip.background and clip.background.member:
        tiles.append(fit(picture(files, clip.background.member)))
    strip = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    x = 0
    first_refs, last = tiles[:-1], tiles[-1]
    for tile in first_refs:
        room = WIDTH - last.shape[1] - x
        tile = tile[:, : max(0, room)]
        strip[:, x : x + tile.shape[1]] = tile
        x += tile.shape[1] + 3
    strip[:, WIDTH - last.shape[1] :] = last
    words = ", ".join(f"{e.word} ({e.kind[0]}) {sum(bool(r.member) for r in e.refs)}" for e in clip.entities)
    background = (
        f"{clip.background.method} {clip.background.coverage:.2f} {clip.background.reason or ''}" if clip.background else "none"
    )
    text = np.full((36, WIDTH, 3), 255, np.uint8)
    cv2.putText(text, f"{clip.key}: {clip.caption}"[:190], (2, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    cv2.putText(
        text, f"{words}   background: {background}"[:200], (2, 31), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (120, 60, 0), 1, cv2.LINE_AA
    )
    return np.vstack([text, strip])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int, default=12)
    parser.add_argument("--page", type=int, default=0)
    arguments = parser.parse_args()
    storage = Storage.at(arguments.run)
    kept = ledger.rows(storage, filter=pc.field("verdict") == "kept")
    strips = []
    for found in islice(kept, arguments.page * arguments.rows, (arguments.page + 1) * arguments.rows):
        files = {name.partition(".")[2]: data for name, data in ledger.read_sample(storage, found)}
        strips.append(row(Clip.model_validate_json(files["json"]), files))
    cv2.imwrite(str(arguments.out), np.vstack(strips))


if __name__ == "__main__":
    main()
