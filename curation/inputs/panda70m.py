"""Panda-70M as its users have it: the published CSV over long videos, or the folder its downloader leaves (PAPER.md §2)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlparse

from curation.inputs import files
from curation.inputs.rows import literal, planned, seconds, table
from curation.sample import Sample

CSV_COLUMNS = ("videoID", "url", "timestamp", "caption")
SHARD_FOLDER = re.compile(r"\d{5}")


def read_csv(path: str, videos: str) -> Iterator[Sample]:
    """Clips of the 5- or 7-column CSV; `videos` is the folder with one file per videoID. Keys are `<videoID>_<clip:05d>`."""
    find = _finder(videos)
    for number, row in enumerate(table(path), start=2):
        video = str(row.get("videoID") or f"row{number}")
        try:
            if row.get("_error"):
                raise ValueError(row["_error"])
            clips = list(_csv_clips(row))
        except ValueError as error:
            yield planned(f"{video}_row{number}", "", video=video, error=f"CSV row {number}: {error}")
            continue
        file = find(video)
        for i, clip in enumerate(clips):
            reason = None if file else "not_downloaded"
            yield planned(f"{video}_{i:05d}", video=video, url=row["url"], path=file, reason=reason, **clip)


def _csv_clips(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    lists = {name: literal(row[name], name) for name in (*CSV_COLUMNS[2:], *_LABELS) if row.get(name)}
    lengths = {name: len(values) if isinstance(values, (list, tuple)) else -1 for name, values in lists.items()}
    if "timestamp" not in lists or "caption" not in lists:
        raise ValueError("timestamp or caption is empty")
    if len(set(lengths.values())) != 1 or -1 in lengths.values():
        raise ValueError(f"lists of different lengths: {lengths}")
    for i, span in enumerate(lists["timestamp"]):
        if not isinstance(span, (list, tuple)) or len(span) != 2:
            raise ValueError(f"timestamp {i} is no pair")
        start, end = seconds(span[0]), seconds(span[1])
        yield {
            "caption": lists["caption"][i],
            "start": start,
            "end": end,
            "error": None if end > start else f"the clip ends at {end} s, before it starts at {start} s",
            **_labels({name: lists[name][i] for name in _LABELS if name in lists}),
        }


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
        return next((p for p in paths if files.is_file(p)), None)

    return find


def read_download(root: str) -> Iterator[Sample]:
    """Clips of the downloader's layout: `00000/0000000_00000.{mp4,txt,json}` below `root`, or `root` being one such folder."""
    for inner, names in files.walk(root):
        folder = files.join(root, inner) if inner else root
        stems: dict[str, dict[str, str]] = {}
        for name in names:
            kind = ".mp4" if files.is_video(name) else files.suffix(name)
            if kind in (".mp4", ".txt", ".json") and re.fullmatch(r"\d{7}(_\d{5})?", files.stem(name)):
                stems.setdefault(files.stem(name), {})[kind] = files.join(folder, name)
        yield from (_downloaded(stem, members) for stem, members in sorted(stems.items()))


def _downloaded(stem: str, members: dict[str, str]) -> Sample:
    try:
        info = json.loads(files.read_text(members[".json"])) if ".json" in members else {}
        if not isinstance(info, dict):
            raise ValueError("not an object")
        labels = _labels({name: info.get(name) for name in _LABELS})
        origin = _origin(info)
    except (ValueError, TypeError, KeyError) as error:
        return planned(stem, "", path=members.get(".mp4"), error=f"{stem}.json: {error}")
    caption = files.read_text(members[".txt"]) if ".txt" in members else info.get("caption")
    url = str(info.get("url") or "")
    video = parse_qs(urlparse(url).query).get("v", [stem.partition("_")[0]])[0]
    missing = None if ".mp4" in members else "not_downloaded"
    return planned(stem, caption, path=members.get(".mp4"), video=video, url=url, reason=missing, origin=origin, **labels)


def _origin(info: dict[str, Any]) -> list[float] | None:
    """Where the clip was in its source: the json's `clips`, a list of one pair of timecodes, possibly as a string."""
    clips = info.get("clips")
    clips = literal(clips, "clips") if isinstance(clips, str) else clips
    return [seconds(clips[0][0]), seconds(clips[0][1])] if clips else None
