"""A folder of videos with captions beside them, or a table of paths and captions."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from curation.inputs import files
from curation.inputs.rows import planned, safe_key, table
from curation.sample import Sample

PATH_COLUMNS = ("path", "video", "file", "file_name", "filename", "video_path")
CAPTION_COLUMNS = ("caption", "text", "prompt")


def column(names: list[str], wanted: tuple[str, ...]) -> str | None:
    """The first of the wanted column names that a table has, whatever its case."""
    lower = {name.lower(): name for name in names}
    return next((lower[w] for w in wanted if w in lower), None)


def read_folder(root: str) -> Iterator[Sample]:
    """Every video file below `root`; its caption is `<stem>.txt`, or `caption` in `<stem>.json`. Keys are relative paths."""
    for inner, names in files.walk(root):
        there, videos = set(names), [n for n in names if files.is_video(n)]
        stems = Counter(files.stem(n) for n in videos)
        for name in videos:
            relative = f"{inner}/{name}".lstrip("/")
            key = files.stem(relative) if stems[files.stem(name)] == 1 else relative
            yield _beside(key, files.join(root, relative), there, name)


def _beside(key: str, path: str, there: set[str], name: str) -> Sample:
    base, known = files.stem(path), files.stem(name)
    if f"{known}.txt" in there:
        return planned(key, files.read_text(f"{base}.txt"), path=path, video=known)
    if f"{known}.json" not in there:
        return planned(key, None, path=path, video=known)
    try:
        info = json.loads(files.read_text(f"{base}.json"))
        caption, url = info.get("caption"), info.get("url", "")
    except (ValueError, AttributeError):
        return planned(key, "", path=path, video=known, error=f"{known}.json is no JSON object")
    return planned(key, caption, path=path, video=known, url=url)


def read_table(path: str, names: list[str]) -> Iterator[Sample]:
    """Rows with a path (relative to the table's folder, absolute or a URL), a caption, and optionally start, end, url."""
    where, what = column(names, PATH_COLUMNS), column(names, CAPTION_COLUMNS)
    if not where or not what:
        needs = f"a path column ({', '.join(PATH_COLUMNS)}) and a caption column ({', '.join(CAPTION_COLUMNS)})"
        raise files.InputError(f"{path}: needs {needs}")
    folder = path.rsplit("/", 1)[0] if "/" in path else "."
    return (_table_row(row, number, folder, where, what) for number, row in enumerate(table(path), start=1))


def _table_row(row: dict[str, Any], number: int, folder: str, where: str, what: str) -> Sample:
    name = row.get(where)
    if row.get("_error") or not isinstance(name, str) or not name:
        return planned(f"row{number}", "", error=f"row {number}: {row.get('_error') or 'no path'}")
    file = name if files.is_url(name) or name.startswith("/") else files.join(folder, name)
    try:
        start, end = (float(row[c]) if row.get(c) not in (None, "") else None for c in ("start", "end"))
    except (TypeError, ValueError):
        return planned(f"row{number}", row.get(what), path=file, error=f"row {number}: start or end is no number")
    part = "" if start is None else f"_{round(start * 1000)}"
    key = row.get("key") or f"{safe_key(files.stem(name))}{part}"
    missing = None if files.is_url(file) or files.is_file(file) else "not_downloaded"
    video = files.stem(name.rsplit("/", 1)[-1])
    url = row.get("url") or ""
    return planned(str(key), row.get(what), path=file, video=video, url=url, start=start, end=end, reason=missing)
