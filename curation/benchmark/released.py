"""`curation benchmark prepare`: MSRVTT-Personalization as it is released, annotation and MSR-VTT's videos → clips' folders."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import shutil
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from curation import console
from curation.benchmark import folder
from curation.benchmark.errors import BenchmarkError
from curation.benchmark.videos import MOST_BYTES
from curation.faults import DataError, one_line
from curation.inputs import files
from curation.inputs.rows import seconds
from curation.limits import Limits
from curation.look.export.msrvtt import FOLDER
from curation.media.encode import from_arrays
from curation.media.members import to_jpeg
from curation.storage import publish, replacing, temporary_name

INFO, MASKS, NOTE = ".vid_info.json", ".word_tags_masks.pkl.gz", "prepared.json"
MOST_UNPACKED = 1 << 29
"""Bytes of a clip's masks: of three frames of 1920×1080 and ten words they are 6e7."""
TIMES = (0.05, 0.5, 0.95)
QUALITY = 95
ARRAYS = {(f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")} | {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}
"""What arrays are made of; nothing else is looked up, and so nothing else can be called."""


ODD = (
    *(pickle.UnpicklingError, zlib.error, EOFError, ValueError, LookupError, TypeError, AttributeError),
    *(ArithmeticError, MemoryError, RecursionError),
)
"""What files that are none, or lie of what is in them, bring about."""


class Arrays(pickle.Unpickler):
    """Reads lists, dicts, texts, numbers and numpy's arrays of numbers, and raises `UnpicklingError` for all else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return _latin1
        if (module, name) not in ARRAYS:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of an array")
        return super().find_class(module, name)


def _latin1(text: str, codec: str) -> bytes:
    """How older pickles have bytes."""
    if codec != "latin1":
        raise pickle.UnpicklingError(f"bytes by the codec {codec!r}")
    return text.encode("latin1")


def prepare(annotation: Path, videos: Path, output: Path) -> int:
    """Write OUTPUT/msrvtt_personalization_data/KEY for each `KEY.vid_info.json`, but those that are there; gives how many are.

    As MP's own script, but for two things: pixels differ by the encoder, and there is no `background.jpg`, which that paints by
    Stable Diffusion. `prepared.json` has what cannot be used and why. Raises `BenchmarkError` when nothing can.
    """
    names = sorted(path.name.removesuffix(INFO) for path in annotation.glob(f"*{INFO}")) if annotation.is_dir() else []
    if not names:
        raise BenchmarkError(f"{annotation}: no KEY{INFO} there; unzip msrvtt_personalization_annotation.zip and give its folder")
    place = output / FOLDER
    place.mkdir(parents=True, exist_ok=True)
    for left in place.parent.glob(f".{FOLDER}.*.tmp"):
        shutil.rmtree(left, ignore_errors=True)
    wrong: dict[str, str] = {}
    with console.counting("prepare", len(names)) as count:
        for name in names:
            if not (place / name).exists():
                try:
                    _clip(annotation, name, videos, place)
                except (DataError, BenchmarkError) as error:
                    wrong[name] = one_line(error).partition(": ")[2]
            count.add(1)
    with replacing(output / NOTE) as path:
        path.write_text(json.dumps({"clips": len(names) - len(wrong), "left_out": wrong}, indent=1, ensure_ascii=False))
    if len(wrong) == len(names):
        most = Counter(why.partition(":")[0] for why in wrong.values()).most_common(3)
        raise BenchmarkError(f"{output}: none of {len(names)} clips can be used: {', '.join(f'{n} {why}' for why, n in most)}")
    console.say(f"{place}: {len(names) - len(wrong)} clips, {len(wrong)} left out ({NOTE})")
    return len(names) - len(wrong)


def masks(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Word → what of it was cut out: `filename`, `box_xyxy`, `mask` (bool [h, w]), `is_face_crop`. Raises `DataError`."""
    try:
        with gzip.open(path) as file:
            content = file.read(MOST_UNPACKED + 1)
        if len(content) > MOST_UNPACKED:
            raise DataError("too_big", f"{path.name}: more than {MOST_UNPACKED:,} bytes")
        found = Arrays(io.BytesIO(content)).load()
        return {str(word): [_mask(path, cut) for cut in cuts] for word, cuts in found.items()}
    except FileNotFoundError as error:
        raise DataError("no_masks", path.name) from error
    except OSError as error:
        if not isinstance(error, gzip.BadGzipFile):
            raise
        raise DataError("bad_masks", f"{path.name}: {error}") from error
    except ODD as error:
        raise DataError("bad_masks", f"{path.name}: {one_line(error)}") from error


def _mask(path: Path, cut: Mapping[str, Any]) -> dict[str, Any]:
    box, mask = [int(side) for side in cut["box_xyxy"]], np.asarray(cut["mask"])
    if cut["filename"] not in ("frame1.jpg", "frame2.jpg", "frame3.jpg") or len(box) != 4 or min(box) < 0 or mask.ndim != 2:
        raise DataError("bad_masks", f"{path.name}: {str(cut['filename'])[:20]!r}, a box {box}, a mask {mask.shape}")
    return {"filename": cut["filename"], "box_xyxy": box, "mask": mask.astype(bool), "is_face_crop": bool(cut["is_face_crop"])}


def _clip(annotation: Path, name: str, videos: Path, place: Path) -> None:
    """Raises `DataError` or `BenchmarkError` for what is wrong with it."""
    try:
        info = files.read_object(str(annotation / f"{name}{INFO}"))
        video, caption, tags = str(info["video"]), str(info["caption"]), info["word_tags"]
        width, height = (int(side) for side in info["resolution"])
        start, end = (seconds(moment) for moment in info["timestamp"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError("bad_info", one_line(error)) from error
    if Path(video).name != video or not 2 <= min(width, height) <= max(width, height) <= 1 << 13 or not start < end:
        raise DataError("bad_info", f"{video[:40]!r}, {width}×{height}, {start:g} to {end:g} s")
    cuts = masks(annotation / f"{name}{MASKS}")
    frames, fps = _frames(videos / video, start, end, (width, height))
    temporary = place.parent / temporary_name(FOLDER)
    try:
        own = temporary / name
        own.mkdir(parents=True)
        (own / "video.mp4").write_bytes(from_arrays(frames[:, : height // 2 * 2, : width // 2 * 2], fps))
        shown = {f"frame{n}.jpg": frames[min(len(frames) - 1, int(t * len(frames)))] for n, t in enumerate(TIMES, start=1)}
        for file, frame in shown.items():
            (own / file).write_bytes(to_jpeg(frame, QUALITY))
        (own / "summary_text.txt").write_text(caption, encoding="utf-8")
        (own / "word_tags.json").write_text(json.dumps(tags, ensure_ascii=False), encoding="utf-8")
        for word, found in cuts.items():
            for cut in found:
                (own / _name(word, cut)).write_bytes(_png(shown[cut["filename"]], cut))
        folder.case(own)
        publish(own, place / name, durable=False)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError):
            raise
        raise DataError("bad_masks", one_line(error)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _name(word: str, cut: Mapping[str, Any]) -> str:
    if folder.is_odd(word):
        raise DataError("odd_word", word[:40])
    return f"{folder.stem(word)}{'.face' * cut['is_face_crop']}.{cut['filename'].removesuffix('.jpg')}.png"


def _png(frame: np.ndarray, cut: Mapping[str, Any]) -> bytes:
    """RGBA: all colours of the box, alpha where the mask is. A mask larger than what of its box is in the frame is cut."""
    x0, y0, x1, y1 = cut["box_xyxy"]
    crop = frame[y0:y1, x0:x1]
    mask = cut["mask"][: crop.shape[0], : crop.shape[1]]
    if not crop.size or mask.shape != crop.shape[:2]:
        raise DataError("bad_masks", f"a mask {cut['mask'].shape} for {crop.shape[:2]} pixels")
    done, data = cv2.imencode(".png", np.dstack([crop[..., ::-1], mask.astype(np.uint8) * 255]))
    return data.tobytes()


def _frames(path: Path, start: float, end: float, size: Sequence[int]) -> tuple[np.ndarray, float]:
    """Those shown between two moments, uint8 RGB [frames, H, W, 3], of that width and height; and their rate."""
    from curation.media.picture import Painter
    from curation.media.video import Reader

    if not path.is_file():
        raise DataError("no_video", path.name)
    paint = Painter(lambda width, height: (size[0], size[1]), tone=True)
    shown: list[np.ndarray] = []
    with Reader(str(path), Limits().pixels) as reader:
        for frame in reader.frames():
            if frame.time >= end - reader.frame_seconds / 2:
                break
            if frame.time >= start - reader.frame_seconds / 2:
                shown.append(paint(frame))
            if shown and shown[0].nbytes * len(shown) > MOST_BYTES:
                raise DataError("too_long", path.name)
        if not shown:
            raise DataError("starts_beyond_end", f"{path.name}: no frame between {start:g} and {end:g} s")
        return np.stack(shown), float(reader.rate)
