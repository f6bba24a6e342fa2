"""One clip as `curation view` shows it: what the ledger says, members by their places in the tar, masks."""

from __future__ import annotations

import json
import shlex
import tarfile
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import pyarrow.compute as pc

from curation import ledger
from curation.columns import COLUMNS
from curation.look.bounds import Bound
from curation.look.index import Index, Row
from curation.look.pictures import shrunk
from curation.look.source import STILLS, Bytes, Lost, source_of
from curation.storage import Storage

COLOURS = ((0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (213, 94, 0), (240, 228, 66))
"""RGB of entities' masks, in turn: Okabe and Ito's, which colour-blind eyes tell apart."""
OPACITY = 140
"""Alpha of a mask, of 255."""
THUMB = 176
"""Pixels of the longer side of a picture in the list."""
TYPES = {"mp4": "video/mp4", "jpg": "image/jpeg", "webp": "image/webp", "png": "image/png", "json": "application/json"}
"""Of members; what is none of these is handed over as a file."""
AHEAD = 1 << 17
"""Bytes of a tar that are asked of an object store for a header: small members lie close together."""
REMEMBERED = 256
"""Samples of an object store whose places are remembered: a page asks for a dozen members of one."""
MOST_PIXELS = 1 << 26
"""Of a mask."""


def members(storage: Storage, row: Mapping[str, Any]) -> dict[str, Bytes]:
    """Suffix → place of the members of a kept row, by the tar's headers. Raises `Lost`."""
    tar = ledger.tar_of(row)
    end = row["offset"] + row["size"]
    size = storage.size(tar)
    if size is None:
        raise Lost(f"{tar} is not there")
    if size < end:
        raise Lost(f"{tar} ends early: it has {size} bytes, the sample lies up to {end}")
    return (_found if storage.is_local else _remembered)(storage, tar, row["key"], row["offset"], end, size)


def _found(storage: Storage, tar: str, key: str, offset: int, end: int, size: int) -> dict[str, Bytes]:
    """`size`: of the whole tar, which tells apart what is remembered of one that was written anew."""
    found: dict[str, Bytes] = {}
    try:
        with storage.open(tar, AHEAD) as file:
            file.seek(offset)
            with tarfile.open(fileobj=file, mode="r:") as headers:
                for member in headers:
                    name, _, suffix = member.name.partition(".")
                    if name != key or member.offset_data + member.size > end:
                        raise Lost(f"{tar} does not hold the sample where the ledger says; it was written anew since")
                    kind = TYPES.get(suffix.rpartition(".")[2], "application/octet-stream")
                    found[suffix] = Bytes(storage, tar, member.offset_data, member.size, kind)
                    if headers.offset >= end:
                        return found
    except (tarfile.TarError, EOFError) as error:
        raise Lost(f"{tar} is damaged: {error}") from error
    raise Lost(f"{tar} does not hold the whole sample where the ledger says")


_remembered = lru_cache(REMEMBERED)(_found)


def read(member: Bytes) -> bytes:
    """Raises `Lost`."""
    data = member.storage.read_range(member.name, member.offset, member.size)
    if len(data) < member.size:
        raise Lost(f"{member.name} ends early")
    return data


def metadata(found: Mapping[str, Bytes]) -> dict[str, Any]:
    """What `KEY.json` says. Raises `Lost`."""
    if "json" not in found:
        raise Lost("the sample has no metadata")
    try:
        told = json.loads(read(found["json"]))
    except ValueError as error:
        raise Lost(f"the metadata are damaged: {error}") from error
    if not isinstance(told, dict):
        raise Lost("the metadata are damaged")
    return told


def facts(index: Index, key: str, of: str, bounds: Mapping[str, list[Bound]]) -> dict[str, Any] | None:
    """All that a page shows of a key; None when the run has none such. What cannot be read is said under `lost`."""
    row = index.row(key, of)
    if row is None:
        return None
    storage = index.runs[of]
    told: dict[str, Any] = {name: row[name] for name in row if name not in COLUMNS and name != "id"}
    told["decision"] = {name: told.pop(name) or "" for name in ("decision", "note", "who", "decided")}
    told |= {"members": {}, "clip": None, "lost": [], "ledger": None, "stills": 0, "plays": False}
    told["scores"] = _scores(index, row, of, bounds)
    told["place"] = {"ledger": ledger.file_of(row), "tar": ledger.tar_of(row) if row["offset"] is not None else None}
    told["command"] = shlex.join(["curation", "inspect", storage.path(), key, "--extract", "some-folder"])
    try:
        told["ledger"] = _ledger_row(storage, row)
        if row["offset"] is not None:
            found = members(storage, row)
            told["members"] = {suffix: member.size for suffix, member in found.items()}
            told["clip"] = _shown(metadata(found))
        elif source := source_of(storage, row):
            told |= {"stills": STILLS if source.is_here else 0, "plays": source.type is not None}
    except (Lost, OSError) as error:
        told["lost"].append(str(error) or type(error).__name__)
    return told


def _scores(index: Index, row: Row, of: str, bounds: Mapping[str, list[Bound]]) -> list[dict[str, Any]]:
    below = index.below(row, of)
    return [
        {
            "name": name,
            "says": COLUMNS[name].says,
            "value": row[name],
            "below": below[name],
            **index.scores[of].get(name, {}),
            "bounds": [{"knob": f"{b.stage}.{b.knob}", "kind": b.kind, "value": b.value} for b in bounds.get(name, ())],
        }
        for name in below
    ]


def _ledger_row(storage: Storage, row: Row) -> dict[str, Any]:
    """The row as the ledger has it, with what is JSON in it."""
    name = ledger.file_of(row)
    if not storage.exists(name):
        raise Lost(f"{name} is not there any more: the run has gone on; look again")
    wanted = (pc.field("key") == row["key"]) & (pc.field("verdict") == row["verdict"])
    for found in ledger.rows(storage, filter=wanted, names=[name]):
        texts = {column: json.loads(found[column]) for column in ("scores", "source")}
        return {**found, **texts, "seconds": dict(found["seconds"] or ())}
    raise Lost(f"{name} has no such row any more: look again")


def _shown(clip: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata without the masks' run lengths: they come as pictures."""
    entities = [
        {**entity, "refs": [{k: v for k, v in ref.items() if k != "mask"} for ref in entity.get("refs", ())]}
        for entity in clip.get("entities", ())
    ]
    return {**clip, "entities": entities}


def mask(clip: Mapping[str, Any], entity: int, frame: int) -> bytes:
    """An entity's mask in a frame as PNG: its colour where it is, nothing elsewhere. Raises `Lost`."""
    import cv2
    import numpy as np

    from curation.media.members import from_rle

    try:
        rle = next(ref["mask"] for ref in clip["entities"][entity]["refs"] if ref["frame"] == frame)
        height, width = rle["size"]
        if not (0 < height * width <= MOST_PIXELS and height > 0):
            raise ValueError("its size cannot be")
        inside = from_rle(rle)
    except (StopIteration, IndexError, KeyError, TypeError, AttributeError) as error:
        raise Lost("there is no such mask") from error
    except ValueError as error:
        raise Lost(f"the mask is damaged: {error}") from error
    picture = np.zeros((*inside.shape, 4), np.uint8)
    picture[inside] = (*COLOURS[entity % len(COLOURS)][::-1], OPACITY)
    return cv2.imencode(".png", picture)[1].tobytes()


def thumb(data: bytes) -> bytes | None:
    """A picture made small, JPEG; None of what is none."""
    import cv2
    import numpy as np

    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if pixels is None:
        return None
    return cv2.imencode(".jpg", shrunk(pixels, THUMB), [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
