"""One clip as `curation view` shows it: what the ledger says, members by their places in the tar, masks, stills of its source."""

from __future__ import annotations

import json
import shlex
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation import ledger
from curation.columns import COLUMNS
from curation.faults import DataError
from curation.limits import TooSlow, watchdog
from curation.look.bounds import Bound
from curation.look.index import Index, Row
from curation.look.pictures import shrunk
from curation.shards import planned
from curation.storage import Storage

COLOURS = ((0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (213, 94, 0), (240, 228, 66))
"""RGB of entities' masks, in turn: Okabe and Ito's, which colour-blind eyes tell apart."""
OPACITY = 140
"""Alpha of a mask, of 255."""
THUMB = 176
"""Pixels of the longer side of a picture in the list."""
STILLS, STILL_SIDE = 3, 480
"""Pictures of a source between a clip's start and end, and pixels of their longer side."""
STILL_SECONDS = 20.0
"""That decoding a still may take."""
MOST_PIXELS = 1 << 26
"""Of a mask or of a source's frame."""


class Lost(Exception):
    """What the ledger promises is not there, or not whole: one line."""


@dataclass(frozen=True)
class Member:
    """Where a member's bytes lie."""

    tar: str
    offset: int
    size: int


def members(storage: Storage, row: Mapping[str, Any]) -> dict[str, Member]:
    """Suffix → place of the members of a kept row, by the tar's headers. Raises `Lost`."""
    tar = ledger.tar_of(row)
    end = row["offset"] + row["size"]
    size = storage.size(tar)
    if size is None:
        raise Lost(f"{tar} is not there")
    if size < end:
        raise Lost(f"{tar} ends early: it has {size} bytes, the sample lies up to {end}")
    found: dict[str, Member] = {}
    try:
        with storage.open(tar) as file:
            file.seek(row["offset"])
            with tarfile.open(fileobj=file, mode="r:") as headers:
                for member in headers:
                    key, _, suffix = member.name.partition(".")
                    if key != row["key"] or member.offset_data + member.size > end:
                        raise Lost(f"{tar} does not hold the sample where the ledger says; it was written anew since")
                    found[suffix] = Member(tar, member.offset_data, member.size)
                    if headers.offset >= end:
                        return found
    except (tarfile.TarError, EOFError) as error:
        raise Lost(f"{tar} is damaged: {error}") from error
    raise Lost(f"{tar} does not hold the whole sample where the ledger says")


def read(storage: Storage, member: Member) -> bytes:
    """Raises `Lost`."""
    data = storage.read_range(member.tar, member.offset, member.size)
    if len(data) < member.size:
        raise Lost(f"{member.tar} ends early")
    return data


def metadata(storage: Storage, found: Mapping[str, Member]) -> dict[str, Any]:
    """What `KEY.json` says. Raises `Lost`."""
    if "json" not in found:
        raise Lost("the sample has no metadata")
    try:
        told = json.loads(read(storage, found["json"]))
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
    told |= {"members": {}, "clip": None, "lost": [], "ledger": None, "stills": 0}
    told["scores"] = _scores(index, row, of, bounds)
    told["place"] = {"ledger": ledger.file_of(row), "tar": ledger.tar_of(row) if row["offset"] is not None else None}
    told["command"] = shlex.join(["curation", "inspect", storage.path(), key, "--extract", "some-folder"])
    try:
        told["ledger"] = _ledger_row(storage, row)
        if row["offset"] is not None:
            found = members(storage, row)
            told["members"] = {suffix: member.size for suffix, member in found.items()}
            told["clip"] = _shown(metadata(storage, found))
        elif source := source_of(storage, row):
            told["stills"] = STILLS if _is_here(source) else 0
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


def source_of(storage: Storage, row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Where the plan has a clip's video; None where it does not say."""
    name = planned.part(row["group"])
    if not storage.exists(name):
        return None
    with storage.open(name) as file:
        found = pq.read_table(file, filters=[("key", "==", row["clip"])]).to_pylist()
    source = planned.sample_of(found[0]).meta["source"] if found else {}
    return source if source.get("path") else None


def _is_here(source: Mapping[str, Any]) -> bool:
    return "://" not in source["path"] and Path(source["path"]).is_file()


def still(storage: Storage, row: Mapping[str, Any], number: int) -> bytes:
    """One of `STILLS` pictures of a clip's source, between its start and its end; JPEG. Raises `Lost`."""
    from curation.media.members import to_jpeg
    from curation.media.picture import Painter
    from curation.media.source import open_source
    from curation.media.video import Reader

    source = source_of(storage, row)
    if source is None or not _is_here(source):
        raise Lost("the source is not to be reached from here")
    try:
        with watchdog.watch(STILL_SECONDS, "a still"):
            opened = open_source(source)
            start, end = row["start"], row["end"]
            if end is None:
                with Reader(opened.input, MOST_PIXELS) as reader:
                    start, end = 0.0, reader.extent().seconds
            wanted = (start or 0.0) + (number + 0.5) / STILLS * (end - (start or 0.0))
            with Reader(opened.input, MOST_PIXELS) as reader:
                frame = _at(reader, wanted)
                picture = Painter(_small, tone=True)(frame)
    except (DataError, TooSlow, OSError, StopIteration) as error:
        raise Lost(f"the source cannot be read: {error or type(error).__name__}") from error
    return to_jpeg(picture, 80)


def _at(reader: Any, time: float) -> Any:
    """The frame that is shown at a time, or the last one before the file ends."""
    frames: Iterator[Any] = reader.frames()
    last = next(frames)
    reader.skip_to(time)
    for frame in frames:
        last = frame
        if frame.end > time:
            break
    return last


def _small(width: int, height: int) -> tuple[int, int]:
    scale = min(1.0, STILL_SIDE / max(width, height))
    return max(2, round(width * scale)), max(2, round(height * scale))
