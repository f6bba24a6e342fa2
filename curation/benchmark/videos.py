"""Made videos as files called after a benchmark's keys: found, and decoded."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from curation.benchmark.case import picture
from curation.benchmark.errors import BenchmarkError
from curation.benchmark.metrics import Video
from curation.faults import DataError
from curation.inputs.files import VIDEO_EXTENSIONS
from curation.limits import Limits

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
"""What an image model has made: a video of one frame (PAPER.md §6)."""
PICTURE_FPS = 24.0
"""The papers' rate; nothing follows from it in one frame."""
MOST_BYTES = 8e9
"""Of decoded frames: 1,000 of 1920×1080 are 6.2e9."""


def find(folder: Path | str, keys: Iterable[str]) -> tuple[dict[str, Path], int]:
    """Key → its file, and how many files are of no key. Of several files of one key a video goes before a picture (`sample`
    writes a contact sheet beside its video), then as `VIDEO_EXTENSIONS` has them. Raises `BenchmarkError`."""
    place = Path(folder)
    try:
        names = [entry.name for entry in place.iterdir() if not entry.name.startswith(".")]
    except OSError as error:
        raise BenchmarkError(f"{folder}: {error.strerror}; give a folder with KEY.mp4 for each key") from error
    order = {suffix: number for number, suffix in enumerate((*VIDEO_EXTENSIONS, *PICTURES))}
    wanted = set(keys)
    found: dict[str, Path] = {}
    others = 0
    for name in sorted(names, key=lambda name: (order.get(Path(name).suffix.lower(), 0), name)):
        path = place / name
        if path.suffix.lower() not in order or not path.is_file():
            continue
        if path.stem in wanted:
            found.setdefault(path.stem, path)
        else:
            others += 1
    return found, others


def read(path: Path, frames: int | None = None) -> Video:
    """Its first `frames`, or all. Raises `DataError` for what cannot be decoded, `OSError` for a disk's fault."""
    if path.suffix.lower() in PICTURES:
        try:
            return Video(picture(path)[None, ..., :3], PICTURE_FPS)
        except BenchmarkError as error:
            raise DataError("not_a_picture", "") from error
    from curation.media.picture import Painter
    from curation.media.video import Reader

    shown: list[np.ndarray] = []
    paint = Painter(tone=True)
    with Reader(str(path), Limits().pixels) as reader:
        for frame in reader.frames():
            shown.append(paint(frame))
            if shown[-1].shape != shown[0].shape:
                raise DataError("size_changes", f"at frame {len(shown) - 1}")
            if shown[0].nbytes * len(shown) > MOST_BYTES:
                raise DataError("too_long", f"more than {len(shown) - 1} frames")
            if frames and len(shown) == frames:
                break
        return Video(np.stack(shown), float(reader.rate))
