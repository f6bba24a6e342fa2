"""Whether a sample is sound: its members and its metadata agree, and everything decodes."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator

import numpy as np
from pydantic import ValidationError

from curation.media.members import from_rle
from curation.shards import beside
from curation.shards.clip import JOINED, Clip, Entity, Ref

FRAMES = ("frame0.jpg", "frame1.jpg", "frame2.jpg")
Size = tuple[int, int] | None
"""Width and height of the video, when there is one."""
PICTURES = (".jpg", ".jpeg", ".png", ".webp")


def check_sample(key: str, files: dict[str, bytes], recipe: str = "", stages: Collection[str] = ()) -> Iterator[str]:
    """Problems of one kept sample, given its members by suffix. `recipe`: the fingerprint it must carry, "" for any; `stages`:
    those that may own members, none for any."""
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
    yield from _members(clip, files.keys() - {"json"}, stages)
    yield from _video(clip, files)
    size = (clip.video.width, clip.video.height) if clip.video else None
    whole = {*FRAMES, clip.background and clip.background.member}
    pictures = {suffix: _decode(files[suffix]) for suffix in sorted(files) if suffix.endswith(PICTURES)}
    for suffix, picture in pictures.items():
        if picture is None:
            yield f"{suffix} does not decode"
        elif size and suffix in whole and picture.shape[1::-1] != size:
            yield f"{suffix} is {picture.shape[1]}×{picture.shape[0]}, the video {size[0]}×{size[1]}"
    for entity in clip.entities:
        yield from _entity(clip, entity, size, pictures)
    yield from beside.members(clip, files)


def _members(clip: Clip, there: Collection[str], stages: Collection[str]) -> Iterator[str]:
    """`members` names what is there, and the joined view those that belong to it."""
    refs = [ref for entity in clip.entities for ref in entity.refs]
    faces = [ref.face for ref in refs if ref.face]
    named = [*(ref.member for ref in refs), *(face.member for face in faces), clip.background and clip.background.member]
    shown = {member for member in named if member}
    for suffix in sorted(there):
        owner = clip.members.get(suffix)
        if owner is None or (owner in JOINED and suffix not in shown) or (suffix == "mp4" and clip.video is None):
            yield f"{suffix} is in the tar, but not in the metadata"
        elif stages and owner not in stages:
            yield f"{suffix} is said to be of {owner}, which is no stage of the run's recipe"
    for suffix in sorted((clip.members.keys() | shown | ({"mp4"} if clip.video else set())) - set(there)):
        yield f"{suffix} is in the metadata, but not in the tar"


def _video(clip: Clip, files: dict[str, bytes]) -> Iterator[str]:
    from curation.media import video

    if "mp4" not in files or clip.video is None:
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


def _entity(clip: Clip, entity: Entity, size: Size, pictures: dict[str, np.ndarray | None]) -> Iterator[str]:
    first, last = entity.span
    if clip.caption[first:last] != entity.word:
        yield f"{entity.word!r}: its span holds {clip.caption[first:last]!r}"
    if entity.kind != "background" and not entity.refs and not entity.reason:
        yield f"{entity.word!r} has no refs and no reason"
    for ref in entity.refs:
        for problem in _ref(ref, size, pictures):
            yield f"{entity.word!r} in frame {ref.frame}: {problem}"


def _ref(ref: Ref, size: Size, pictures: dict[str, np.ndarray | None]) -> Iterator[str]:
    if (ref.member is None) != (ref.refused is not None):
        yield "it has a member and is refused" if ref.member else "it has no member and is not refused"
    x0, y0, x1, y1 = ref.box
    width, height = size or ref.mask.size[::-1]
    if not (x0 < x1 <= width and y0 < y1 <= height):
        yield f"the box {ref.box} is empty or leaves the frame"
    if ref.mask.size != [height, width]:
        yield f"the mask is {ref.mask.size}, the frame {[height, width]}"
        return
    mask = from_rle(ref.mask.model_dump())
    ys, xs = np.nonzero(mask)
    if not len(xs):
        yield "the mask is empty"
        return
    if xs.min() < x0 or ys.min() < y0 or xs.max() >= x1 or ys.max() >= y1:
        yield "the mask leaves its box"
    picture = pictures.get(ref.member) if ref.member else None
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
