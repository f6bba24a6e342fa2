"""A few kept samples as small pictures, for a report."""

from __future__ import annotations

import base64
import hashlib
import json
import tarfile
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from curation import ledger
from curation.sample import KEPT
from curation.storage import Storage

if TYPE_CHECKING:
    import numpy as np

SAMPLES = 12
SIDE = 240
"""Pixels of the longer side of a frame or a background; cut-outs and faces have half of it."""
CUTOUTS = 4
KINDS = (
    ("frame1.jpg", "frame", SIDE),
    ("background.jpg", "background", SIDE),
    ("ref.*", "cut-out", SIDE // 2),
    ("face.*", "face", SIDE // 2),
)
"""Members that are shown, what they are called, and their size."""


def samples(storage: Storage, names: Mapping[str, int]) -> list[dict[str, Any]]:
    """A dozen kept samples: ledgers and, in them, keys by their hashes, always the same. What cannot be read is passed over."""
    found: list[dict[str, Any]] = []
    with_tar = _with_tar(storage, names)
    each = max(1, -(-SAMPLES // max(1, len(with_tar))))
    for name in sorted(with_tar, key=_hash)[: 4 * SAMPLES]:
        columns = ["key", "caption", "shard", "group", "unit", "offset", "size"]
        rows = list(ledger.rows(storage, columns, (pc.field("verdict") == KEPT) & pc.field("offset").is_valid(), [name]))
        for row in sorted(rows, key=lambda row: _hash(row["key"]))[:each]:
            try:
                shown = _shown(storage, row)
            except (OSError, ValueError, KeyError, tarfile.TarError):
                continue
            found.append(shown)
            if len(found) == SAMPLES:
                return found
    return found


def _with_tar(storage: Storage, names: Mapping[str, int]) -> list[str]:
    there = {f"{folder}/{tar}" for folder in {name.rpartition("/")[0] for name in names} for tar in storage.names(folder)}
    return [name for name in names if name.removesuffix(".parquet") + ".tar" in there]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _shown(storage: Storage, row: Mapping[str, Any]) -> dict[str, Any]:
    members = {name.removeprefix(f"{row['key']}."): data for name, data in ledger.read_sample(storage, row)}
    words = [entity["word"] for entity in json.loads(members["json"]).get("entities", ())]
    return {"key": row["key"], "caption": row["caption"], "words": words, "pictures": list(_pictures(members, words))}


def _pictures(members: Mapping[str, bytes], words: list[str]) -> Iterator[dict[str, str]]:
    for pattern, kind, side in KINDS:
        for suffix in [suffix for suffix in sorted(members) if fnmatchcase(suffix, pattern)][:CUTOUTS]:
            entity = suffix.split(".")[1]
            word = words[int(entity)] if entity.isdecimal() and int(entity) < len(words) else ""
            if uri := _data(members[suffix], side):
                yield {"kind": kind, "says": f"{kind} of {word}" if word else kind, "uri": uri}


def _data(picture: bytes, side: int) -> str:
    """A data URI of the picture made small; "" of what is none. Alpha stays: WebP; else JPEG."""
    import cv2
    import numpy as np

    pixels = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        return ""
    pixels = shrunk(pixels, side)
    has_alpha = pixels.ndim == 3 and pixels.shape[2] == 4
    quality = [cv2.IMWRITE_WEBP_QUALITY, 75] if has_alpha else [cv2.IMWRITE_JPEG_QUALITY, 75]
    data = cv2.imencode(".webp" if has_alpha else ".jpg", pixels, quality)[1].tobytes()
    return f"data:image/{'webp' if has_alpha else 'jpeg'};base64,{base64.b64encode(data).decode()}"


def shrunk(pixels: np.ndarray, side: int) -> np.ndarray:
    """With a longer side of `side` px at most."""
    import cv2

    height, width = pixels.shape[:2]
    if (scale := side / max(height, width)) >= 1:
        return pixels
    return cv2.resize(pixels, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA)
