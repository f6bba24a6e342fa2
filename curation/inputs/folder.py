"""A folder of videos with captions beside them, or a table of paths and captions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from curation.faults import DataError
from curation.inputs import files
from curation.inputs.rows import each, failed, moment, planned, safe_key, text
from curation.inputs.tables import Row, table
from curation.sample import Sample

PATH_COLUMNS = ("path", "video", "file", "file_name", "filename", "video_path")
CAPTION_COLUMNS = ("caption", "text", "prompt")
OWN_COLUMNS = ("start", "end", "url", "key")


def column(names: list[str], wanted: tuple[str, ...]) -> str | None:
    """The first of the wanted column names that a table has, whatever its case."""
    lower = {name.lower(): name for name in names}
    return next((lower[w] for w in wanted if w in lower), None)


def read_folder(root: str) -> Iterator[Sample]:
    """Every video file below `root`; its caption is `<stem>.txt`, or `caption` in `<stem>.json`. Keys are relative paths."""
    for inner, names in files.walk(root):
        if isinstance(names, OSError):
            yield failed(inner, inner, names)
            continue
        beside = Beside(root, inner, frozenset(names))
        yield from each(beside.videos(), beside.clip, lambda video: (video[0], video[0]))


@dataclass(frozen=True)
class Beside:
    """One folder: its videos, and what stands beside them. `inner` is relative to the input's root."""

    root: str
    inner: str
    names: frozenset[str]

    def videos(self) -> list[tuple[str, str]]:
        """(key, name) of each video."""
        videos = sorted(name for name in self.names if files.is_video(name))
        stems = Counter(files.stem(name) for name in videos)
        return [(self._below(files.stem(n) if stems[files.stem(n)] == 1 else n), n) for n in videos]

    def _below(self, name: str) -> str:
        return f"{self.inner}/{name}".lstrip("/")

    def clip(self, video: tuple[str, str]) -> Iterator[Sample]:
        key, name = video
        path = files.join(self.root, self._below(name))
        base, known = files.stem(path), files.stem(name)
        caption, url, error, place = None, "", None, key
        if f"{known}.txt" in self.names:
            caption, place = files.read_text(f"{base}.txt"), f"{key}.txt"
        elif f"{known}.json" in self.names:
            place = f"{key}.json"
            try:
                info = files.read_object(f"{base}.json")
                caption, url = info.get("caption"), info.get("url", "")
            except DataError as found:
                error = found
        yield planned(key, caption, path=path, video=known, url=url, error=error, place=place)


def read_table(path: str, names: list[str], videos: str | None = None) -> Iterator[Sample]:
    """Rows with a path, a caption, and optionally start, end, url. A path is relative to the table's folder or to `videos`, or
    leads into one of them: a table is no reason to read other files."""
    where, what = column(names, PATH_COLUMNS), column(names, CAPTION_COLUMNS)
    if not where or not what:
        needs = f"a path column ({', '.join(PATH_COLUMNS)}) and a caption column ({', '.join(CAPTION_COLUMNS)})"
        raise files.InputError(f"{path}: needs {needs}")
    folder = path.rsplit("/", 1)[0] if "/" in path else "."
    rows = table(path, [name for name in names if name in (where, what, *OWN_COLUMNS)])
    roots = [videos, folder] if videos else [folder]
    return each(rows, lambda row: [_table_row(row, roots, where, what)], lambda row: (f"row{row.number}", row.place()))


def _table_row(row: Row, roots: list[str], where: str, what: str) -> Sample:
    values = row.checked()
    name = values.get(where)
    if not isinstance(name, str) or not name:
        raise DataError("bad_path", "no path")
    file = name if files.is_url(name) or name.startswith("/") else files.join(roots[0], name)
    if not any(files.is_below(file, root) for root in roots):
        raise DataError("outside_input", f"{name} is not below {' or '.join(roots)}; --videos says where else videos lie")
    start, end = moment("start", values.get("start")), moment("end", values.get("end"))
    part = "" if start is None else f"_{round(start * 1000)}"
    return planned(
        text(values.get("key") or f"{safe_key(files.stem(name))}{part}"),
        values.get(what),
        path=file,
        video=files.stem(name.rsplit("/", 1)[-1]),
        url=values.get("url"),
        start=start,
        end=end,
        reason=None if files.is_url(file) or files.is_file(file) else "not_downloaded",
        place=row.place(),
    )
