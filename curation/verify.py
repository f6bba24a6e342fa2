"""`curation verify`: decode and cross-check everything a run has published."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from curation import recipe as recipes
from curation import shards
from curation.clip import Clip, Entity, Ref
from curation.members import from_rle
from curation.plan import Plan, open_plan
from curation.sample import KEPT, STATUSES

FRAMES = ("frame0.jpg", "frame1.jpg", "frame2.jpg")


def verify(out: Path, progress: Callable[[int], None] = lambda _: None) -> Iterator[str]:
    """Every problem found in a run directory, one line each; nothing when it is sound.

    Checks: each planned clip is in one ledger, once per shot; keys are unique; ledger and tar agree; members and metadata
    agree; every member decodes; frame counts match; masks have the frame's size and lie in their boxes.
    """
    plan = open_plan(out)
    if plan is None:
        yield f"{out}: no finished plan"
        return
    recipe = recipes.digest(json.loads((out / "run.json").read_text())["recipe"]) if (out / "run.json").exists() else None
    if recipe is None:
        yield f"{out}: no run.json, nothing has been run here"
    seen: Counter[bytes] = Counter()
    for unit in range(plan.units):
        if not shards.is_done(out / "shards", unit):
            yield f"unit {unit}: not run yet"
            continue
        try:
            yield from _unit(out / "shards", plan, unit, recipe or "", seen)
        except (OSError, ValueError, tarfile.TarError) as error:  # what the libraries raise on damaged files
            yield f"{shards.name(unit)}: cannot be read: {type(error).__name__}: {error}"
        progress(1)
    for extra in sorted(set(shards.units(out / "shards")) - set(range(plan.units))):
        yield f"{shards.name(extra)}: the plan has no such unit"


def _unit(folder: Path, plan: Plan, unit: int, recipe: str, seen: Counter[bytes]) -> Iterator[str]:
    rows = shards.ledger(folder, unit)
    where = shards.name(unit)
    planned = [s.key for s in plan.unit(unit)]
    for key in sorted(set(planned) ^ {r["clip"] for r in rows}):
        yield f"{where}: clip {key} is " + ("planned but in no ledger row" if key in planned else "in the ledger but not planned")
    for row in rows:
        digest = hashlib.blake2b(row["key"].encode(), digest_size=8).digest()
        seen[digest] += 1
        if seen[digest] > 1:
            yield f"{where}: key {row['key']} stands twice"
        if row["status"] not in STATUSES or (row["status"] != KEPT) != bool(row["stage"] and row["reason"]):
            yield f"{where}: {row['key']}: verdict {row['status']!r} with stage {row['stage']!r} and reason {row['reason']!r}"
    yield from _tar(folder / f"{where}.tar", rows, recipe)


def _tar(path: Path, rows: list[dict[str, Any]], recipe: str) -> Iterator[str]:
    kept = {r["key"]: r for r in rows if r["status"] == KEPT}
    samples: dict[str, dict[str, bytes]] = {}
    places: dict[str, tuple[int, int]] = {}
    with tarfile.open(path) as tar:
        for member in tar:
            key, _, suffix = member.name.partition(".")
            if suffix in samples.setdefault(key, {}):
                yield f"{path.name}: {member.name} stands twice"
            data = tar.extractfile(member)
            samples[key][suffix] = data.read() if data else b""
            start = places.get(key, (member.offset, 0))[0]
            end = member.offset_data + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            places[key] = (start, end - start)
    for key in sorted(samples.keys() ^ kept.keys()):
        yield f"{path.name}: {key} is " + ("in the tar, not kept in the ledger" if key in samples else "kept, but not in the tar")
    for key in samples.keys() & kept.keys():
        if places[key] != (kept[key]["offset"], kept[key]["size"]):
            yield f"{path.name}: {key}: offset and size in the ledger do not cover the sample"
        for problem in check_sample(key, samples[key], recipe):
            yield f"{path.name}: {key}: {problem}"


def check_sample(key: str, files: dict[str, bytes], recipe: str = "") -> Iterator[str]:
    """Problems of one kept sample, given its members by suffix. `recipe`: the fingerprint it must carry, "" for any."""
    if "." in key:
        yield "the key holds a dot"
    try:
        clip = Clip.model_validate_json(files.get("json", b""))
    except ValidationError as error:
        first = error.errors()[0]
        yield f"json: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        return
    if clip.key != key:
        yield f"json: key is {clip.key}"
    if recipe and clip.provenance.recipe != recipe:
        yield f"made by recipe {clip.provenance.recipe}, the run's is {recipe}"
    promised = _promised(clip)
    there = files.keys() - {"json"}
    frames = {f for f in FRAMES if f in there}
    for suffix in sorted(there - promised - frames):
        yield f"{suffix} is in the tar, but not in the metadata"
    for suffix in sorted(promised - there):
        yield f"{suffix} is in the metadata, but not in the tar"
    yield from _video(clip, files)
    pictures = {suffix: _decode(files[suffix]) for suffix in sorted((promised | frames) & there) if suffix != "mp4"}
    for suffix, picture in pictures.items():
        if picture is None:
            yield f"{suffix} does not decode"
        elif (suffix in frames or suffix == "background.jpg") and picture.shape[:2] != (clip.video.height, clip.video.width):
            yield f"{suffix} is {picture.shape[1]}×{picture.shape[0]}, the video {clip.video.width}×{clip.video.height}"
    for entity in clip.entities:
        yield from _entity(clip, entity, pictures)


def _promised(clip: Clip) -> set[str]:
    refs = [ref for entity in clip.entities for ref in entity.refs]
    named = {ref.member for ref in refs} | {ref.face.member for ref in refs if ref.face}
    background = {clip.background.member} if clip.background and clip.background.member else set()
    return {"mp4", *named, *background}


def _video(clip: Clip, files: dict[str, bytes]) -> Iterator[str]:
    from curation import video

    if "mp4" not in files:
        return
    count, size = 0, (clip.video.width, clip.video.height)
    try:
        for frame in video.frames(io.BytesIO(files["mp4"])):
            count, size = count + 1, frame.size
    except video.VideoError as error:
        yield f"mp4: {error}"
        return
    if count != clip.video.frames:
        yield f"mp4 has {count} frames, the metadata says {clip.video.frames}"
    if size != (clip.video.width, clip.video.height):
        yield f"mp4 is {size[0]}×{size[1]}, the metadata says {clip.video.width}×{clip.video.height}"


def _entity(clip: Clip, entity: Entity, pictures: dict[str, np.ndarray | None]) -> Iterator[str]:
    first, last = entity.span
    if clip.caption[first:last] != entity.word:
        yield f"{entity.word!r}: its span holds {clip.caption[first:last]!r}"
    if entity.kind != "background" and not entity.refs and not entity.reason:
        yield f"{entity.word!r} has no refs and no reason"
    for ref in entity.refs:
        for problem in _ref(clip, ref, pictures):
            yield f"{entity.word!r} in frame {ref.frame}: {problem}"


def _ref(clip: Clip, ref: Ref, pictures: dict[str, np.ndarray | None]) -> Iterator[str]:
    x0, y0, x1, y1 = ref.box
    if not (x0 < x1 <= clip.video.width and y0 < y1 <= clip.video.height):
        yield f"the box {ref.box} is empty or leaves the frame"
    if ref.mask.size != [clip.video.height, clip.video.width]:
        yield f"the mask is {ref.mask.size}, the frame {[clip.video.height, clip.video.width]}"
        return
    mask = from_rle(ref.mask.model_dump())
    ys, xs = np.nonzero(mask)
    if not len(xs):
        yield "the mask is empty"
        return
    if xs.min() < x0 or ys.min() < y0 or xs.max() >= x1 or ys.max() >= y1:
        yield "the mask leaves its box"
    picture = pictures.get(ref.member)
    if picture is None:
        return
    if picture.ndim == 3 and picture.shape[2] == 3:  # OpenCV leaves out an alpha that is opaque everywhere
        picture = np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)])
    inside = mask[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))]
    if picture.ndim != 3 or picture.shape[2] != 4 or picture.shape[:2] != inside.shape:
        yield f"{ref.member} is {picture.shape}, the box {inside.shape}"
    elif not np.array_equal(picture[..., 3] > 0, inside):
        yield f"the alpha of {ref.member} is not the mask"


def _decode(data: bytes) -> np.ndarray | None:
    import cv2

    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
