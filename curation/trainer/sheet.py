"""What was made, to be looked at: an mp4, a contact sheet, and the papers' grids of one prompt with other references."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from curation.media.encode import from_arrays
from curation.storage import replacing
from curation.trainer.batch import Reference

TILE = 144
"""Height in pixels of a contact sheet's pictures."""
GAP = 4
"""Pixels between a grid's cells."""
FONT = (cv2.FONT_HERSHEY_SIMPLEX, 0.42)


def publish(
    file: Path,
    video: Tensor,
    fps: float,
    caption: str,
    references: Sequence[Reference],
    true: Tensor | None = None,
    sheet: Path | None = None,
) -> None:
    """Write NAME.mp4 and, where `sheet` does not say where else, beside it NAME.png: the references with their words, six of the
    frames, and those of the true clip. Whole files only, the video last."""
    save(sheet or file.with_suffix(".png"), contact_sheet(video, fps, caption, references, true))
    write_video(file, video, fps)


def write_video(file: Path, video: Tensor, fps: float) -> None:
    """uint8 RGB [F,3,H,W] as an mp4."""
    with replacing(file) as temporary:
        temporary.write_bytes(from_arrays(video.permute(0, 2, 3, 1).numpy(), fps))


def save(file: Path, rgb: np.ndarray) -> None:
    """A PNG of uint8 RGB [H,W,3]."""
    with replacing(file) as temporary:
        temporary.write_bytes(cv2.imencode(".png", np.ascontiguousarray(rgb[..., ::-1]))[1].tobytes())


def contact_sheet(
    video: Tensor, fps: float, caption: str, references: Sequence[Reference], true: Tensor | None = None
) -> np.ndarray:
    """uint8 RGB [H,W,3]."""
    rows = [_row([(_array(r.image), r.word or r.kind) for r in references])] if references else []
    for frames, title in ((video, "made"), (true, "the clip")):
        if frames is not None:
            chosen = np.linspace(0, len(frames) - 1, min(6, len(frames))).round().astype(int)
            rows.append(_row([(_array(frames[i]), f"{title}, {i / fps:.2f} s") for i in chosen]))
    width = max(row.shape[1] for row in rows)
    rows = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    return np.concatenate([_lines(caption, width), *rows])


def grid(
    prompt: str, heads: Sequence[np.ndarray | None], sides: Sequence[np.ndarray | None], cells: Sequence[Sequence[np.ndarray]]
) -> np.ndarray:
    """Rows × columns of pictures of one size, uint8 RGB [h,w,3]; above them and to their left the reference that a column or a
    row has, None: it is without. Where no row, or no column, has one, there is no such margin. uint8 RGB [H,W,3]."""
    height, width = cells[0][0].shape[:2]
    table = [list(row) for row in cells]
    is_sided = any(side is not None for side in sides)
    if is_sided:
        table = [[_field(side, height, height), *row] for side, row in zip(sides, table, strict=True)]
    if any(head is not None for head in heads):
        corner = [np.full((height, height, 3), 255, np.uint8)] * is_sided
        table = [[*corner, *(_field(head, height, width) for head in heads)], *table]
    spaced = [
        np.concatenate([np.pad(cell, ((GAP, 0), (GAP, 0), (0, 0)), constant_values=255) for cell in row], 1) for row in table
    ]
    whole = np.pad(np.concatenate(spaced), ((0, GAP), (0, GAP), (0, 0)), constant_values=255)
    return np.concatenate([_lines(prompt, whole.shape[1]), whole])


def _field(image: np.ndarray | None, height: int, width: int) -> np.ndarray:
    """A picture on white, its aspect kept."""
    field = np.full((height, width, 3), 255, np.uint8)
    if image is None:
        (across, down), _ = cv2.getTextSize("without", *FONT, 1)
        cv2.putText(field, "without", ((width - across) // 2, (height + down) // 2), *FONT, (96, 96, 96), 1, cv2.LINE_AA)
        return field
    scale = min(height / image.shape[0], width / image.shape[1])
    h, w = (max(1, round(side * scale)) for side in image.shape[:2])
    y, x = (height - h) // 2, (width - w) // 2
    field[y : y + h, x : x + w] = cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    return field


def _array(image: Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).numpy()


def _row(tiles: list[tuple[np.ndarray, str]]) -> np.ndarray:
    """Pictures of one height side by side, each with its title below, RGB."""
    drawn = []
    for image, title in tiles:
        width = max(1, round(image.shape[1] * TILE / image.shape[0]))
        tile = np.full((TILE + 22, max(width, 96) + 6, 3), 255, np.uint8)
        tile[:TILE, :width] = cv2.resize(
            image, (width, TILE), interpolation=cv2.INTER_AREA if image.shape[0] > TILE else cv2.INTER_NEAREST
        )
        cv2.putText(tile, _ascii(title), (2, TILE + 14), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (0, 0, 0), 1, cv2.LINE_AA)
        drawn.append(tile)
    return np.concatenate(drawn, 1)


def _lines(text: str, width: int) -> np.ndarray:
    """A text in as many lines as it takes, RGB."""
    lines = [""]
    for word in _ascii(text).split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and cv2.getTextSize(longer, *FONT, 1)[0][0] > width - 8:
            lines.append(word)
        else:
            lines[-1] = longer
    field = np.full((24 * len(lines), width, 3), 255, np.uint8)
    for number, line in enumerate(lines):
        cv2.putText(field, line, (4, 24 * number + 16), *FONT, (0, 0, 0), 1, cv2.LINE_AA)
    return field


def _ascii(text: str) -> str:
    """What OpenCV's letters can show."""
    return text.encode("ascii", "replace").decode()
