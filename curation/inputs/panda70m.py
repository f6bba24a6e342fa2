"""Panda-70M as its users have it: the published CSV over long videos, or the folder its downloader leaves (PAPER.md §2)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlparse

from curation.faults import DataError, Infrastructure
from curation.inputs import files
from curation.inputs.rows import as_data, each, failed, literal, planned, seconds, text
from curation.inputs.tables import Row, table
from curation.sample import Sample

CSV_COLUMNS = ("videoID", "url", "timestamp", "caption")
SHARD_FOLDER = re.compile(r"\d{5}")


def read_csv(path: str, videos: str) -> Iterator[Sample]:
    """Clips of the 5- or 7-column CSV; `videos` is the folder with one file per videoID. Keys are `<videoID>_<clip:05d>`."""
    find = _finder(videos)
    return each(
        table(path, [*CSV_COLUMNS, *_LABELS]),
        lambda row: _csv_clips(row, find),
        lambda row: (f"{_video(row)}_row{row.number + 1}", f"CSV {row.place(1)}"),
    )


def _video(row: Row) -> str:
    return text(row.values.get("videoID") or f"row{row.number + 1}")


def _csv_clips(row: Row, find: Callable[[str], str | None]) -> Iterator[Sample]:
    """The clips of a row. What is wrong with one of them fails that one; when the lists do not match, it raises `DataError`."""
    values, video = row.checked(), _video(row)
    lists = {name: literal(values[name], name) for name in (*CSV_COLUMNS[2:], *_LABELS) if values.get(name)}
    lengths = {name: len(found) if isinstance(found, (list, tuple)) else -1 for name, found in lists.items()}
    if "timestamp" not in lists or "caption" not in lists:
        raise DataError("bad_list", "timestamp or caption is empty")
    if len(set(lengths.values())) != 1 or -1 in lengths.values():
        raise DataError("bad_list", f"lists of different lengths: {lengths}")
    file = find(video)
    reason = None if file else "not_downloaded"
    for i in range(lengths["caption"]):
        clip = {name: found[i] for name, found in lists.items()}
        error, more = None, {}
        try:
            more = _clip(i, clip)
        except Exception as found:  # noqa: BLE001 whatever one clip provokes is its own
            error = as_data(found)
        where: dict[str, Any] = {
            "path": file,
            "video": video,
            "url": values.get("url"),
            "reason": reason,
            "place": f"CSV {row.place(1)}",
        }
        yield planned(f"{video}_{i:05d}", clip["caption"], error=error, **where, **more)


def _clip(i: int, values: dict[str, Any]) -> dict[str, Any]:
    span = values["timestamp"]
    if not isinstance(span, (list, tuple)) or len(span) != 2:
        raise DataError("bad_timestamp", f"timestamp {i} is no pair")
    return {"start": seconds(span[0]), "end": seconds(span[1]), **_labels(values)}


_LABELS = ("matching_score", "desirable_filtering", "shot_boundary_detection")


def _labels(values: dict[str, Any]) -> dict[str, Any]:
    """Panda-70M's own labels of one clip; `shots` in seconds relative to the clip."""
    shots = values.get("shot_boundary_detection")
    if isinstance(shots, str):
        shots = literal(shots, "shot_boundary_detection")
    return {
        "matching_score": float(values["matching_score"]) if values.get("matching_score") not in (None, "") else None,
        "desirable_filtering": values.get("desirable_filtering") or None,
        "shots": [[seconds(a), seconds(b)] for a, b in shots] if shots else None,
    }


def _finder(videos: str) -> Any:
    """videoID → its file in the folder, or None. Remote folders are listed once instead of asked for every video."""
    if files.is_url(videos):
        listed = {files.stem(n): files.join(videos, n) for n in files.listing(videos)[1] if files.is_video(n)}
        return listed.get

    def find(video: str) -> str | None:
        if "/" in video or "\0" in video:
            return None
        paths = (files.join(videos, video + extension) for extension in files.VIDEO_EXTENSIONS)
        found = next((p for p in paths if files.is_file(p)), None)
        if found is None and not files.exists(videos):
            raise Infrastructure(f"{videos} is gone")
        return found

    return find


def read_download(root: str) -> Iterator[Sample]:
    """Clips of the downloader's layout: `00000/0000000_00000.{mp4,txt,json}` below `root`, or `root` being one such folder. A
    video that is called otherwise is a clip, too."""
    for inner, names in files.walk(root):
        folder = files.join(root, inner) if inner else root
        if isinstance(names, OSError):
            yield failed(inner, folder, names)
            continue
        stems: dict[str, dict[str, str]] = {}
        for name in names:
            kind = ".mp4" if files.is_video(name) else files.suffix(name)
            if kind in (".mp4", ".txt", ".json"):
                stems.setdefault(files.stem(name), {})[kind] = files.join(folder, name)
        found = {stem: own for stem, own in stems.items() if ".mp4" in own or re.fullmatch(r"\d{7}(_\d{5})?", stem)}
        yield from each(sorted(found.items()), _downloaded, lambda item: (item[0], next(iter(item[1].values()))))


def _downloaded(item: tuple[str, dict[str, str]]) -> Iterator[Sample]:
    stem, members = item
    info: dict[str, Any] = {}
    labels: dict[str, Any] = {}
    error = None
    try:
        info = files.read_object(members[".json"]) if ".json" in members else {}
        labels = _labels({name: info.get(name) for name in _LABELS}) | {"origin": _origin(info)}
    except Exception as found:  # noqa: BLE001 whatever the file provokes
        error = as_data(found)
    url = info.get("url") or ""
    known: dict[str, Any] = {
        "path": members.get(".mp4"),
        "video": _youtube(url) or stem.partition("_")[0],
        "url": url,
        "place": f"{stem}.json",
    }
    caption = files.read_text(members[".txt"]) if ".txt" in members and not error else info.get("caption")
    yield planned(stem, caption, error=error, reason=None if ".mp4" in members else "not_downloaded", **known, **labels)


def _youtube(url: Any) -> str | None:
    """The video's identifier in a URL of YouTube's, as its query has it."""
    try:
        return parse_qs(urlparse(url).query)["v"][0]
    except (ValueError, KeyError, AttributeError, TypeError):
        return None


def _origin(info: dict[str, Any]) -> list[float] | None:
    """Where the clip was in its source: the json's `clips`, a list of one pair of timecodes, possibly as a string."""
    clips = info.get("clips")
    clips = literal(clips, "clips") if isinstance(clips, str) else clips
    return [seconds(clips[0][0]), seconds(clips[0][1])] if clips else None
