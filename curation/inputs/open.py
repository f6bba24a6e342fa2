"""From what a user typed after --input to a reader: a name, a file or a folder, and which form it has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from curation import ledger
from curation.inputs import files, finished, folder, panda70m, shards, tables
from curation.inputs.files import InputError
from curation.sample import Sample
from curation.store import store

TABLES = (".csv", ".parquet", ".jsonl", ".ndjson")
FORMS = (
    "Panda-70M's CSV with a folder `videos/` beside it, Panda-70M's download layout (00000/0000000_00000.mp4), "
    "a folder of videos with captions beside them (.txt, .json), a table of path and caption (CSV, Parquet, JSONL), "
    "finished shards (.tar)"
)
PANDA_ROOT = "data/panda70m"
SAMPLES = tuple(
    (Path(__file__).with_name(f"{table}.csv"), table.replace("_", "-")) for table in ("sample_videos", "sample_recording")
)
"""Tables in Panda-70M's form, each with where the store has its videos."""


def open_input(name: str, videos: str | None = None) -> Iterator[Sample]:
    """Planned clips of an input, in a stable order. `videos` is where those of a CSV or a table lie.

    Raises `InputError` when it is not there or has none of the forms; nothing is read before the first clip is asked for.
    """
    if name == "sample":
        return chain.from_iterable(panda70m.read_csv(str(table), str(_stored(videos))) for table, videos in SAMPLES)
    if name == "panda70m":
        name = _panda_root()
    if not files.exists(name):
        raise InputError(f"--input {name}: nothing is there; it takes the names `sample` and `panda70m`, or: {FORMS}")
    return _open_file(name, videos) if files.is_file(name) else _open_folder(name.rstrip("/") or "/", videos)


def folders(name: str, videos: str | None = None) -> list[str]:
    """Folders, or URLs, below which the videos of an input lie. Nothing is fetched; none where it is not there any more."""
    if name == "sample":
        return [str(store.entry(videos).folder) for _, videos in SAMPLES]
    if name == "panda70m":
        name = os.environ.get("PANDA70M_ROOT") or PANDA_ROOT
    folder = _folder_of(name) if files.suffix(name) in (*TABLES, ".tar") else name
    return [place for place in (folder, videos) if place]


def _stored(name: str) -> Path:
    """The folder in which the store has these videos; of an entry of one file it gives that."""
    path = store.path(name)
    return path.parent if path.is_file() else path


def _panda_root() -> str:
    root = os.environ.get("PANDA70M_ROOT") or PANDA_ROOT
    if not files.exists(root) or not any(files.listing(root)):
        raise InputError(
            f"no Panda-70M data in {root}: put its CSV with the source videos in `videos/`, or the downloader's folders "
            "(00000/0000000_00000.mp4 …), there, or point PANDA70M_ROOT at them; INPUT=sample runs at once"
        )
    return root


def _open_file(path: str, videos: str | None) -> Iterator[Sample]:
    kind = files.suffix(path)
    if kind == ".tar":
        beside, name = _folder_of(path), path.rsplit("/", 1)[-1]
        table = f"{files.stem(name)}.parquet"
        return shards.read_shards(beside, [name, table] if files.is_file(files.join(beside, table)) else [name])
    if kind not in TABLES:
        raise InputError(f"--input {path}: a file must be one of {', '.join(TABLES)}, .tar")
    names = tables.columns(path)
    if not set(panda70m.CSV_COLUMNS) <= set(names):
        if videos and not files.is_url(videos):
            _check_folder(videos)
        return folder.read_table(path, names, videos)
    beside = _folder_of(path)
    videos = videos or next((d for d in (files.join(beside, "videos"), beside) if files.exists(d)), beside)
    _check_folder(videos)
    return panda70m.read_csv(path, videos)


def _check_folder(videos: str) -> None:
    if not files.exists(videos):
        raise InputError(f"--videos {videos}: no such folder")


def _open_folder(path: str, videos: str | None) -> Iterator[Sample]:
    folders, names = files.listing(path)
    if "plan" in folders:
        finished.check_finished(path)
    if "shards" in folders and not any(map(_is_shard, names)):
        path = files.join(path, "shards")
        names = files.listing(path)[1]
    if tars := [name for name in names if _is_shard(name)]:
        if all(ledger.SIDECAR.fullmatch(files.stem(name)) for name in tars):
            raise InputError(f"--input {path}: holds sidecars; name the run whose clips they belong to")
        return shards.read_shards(path, names)
    lists = [n for n in names if files.suffix(n) in TABLES]
    download = any(panda70m.SHARD_FOLDER.fullmatch(f) for f in folders) or any(_is_download(n) for n in names)
    found = [*lists, *(["the download layout"] if download else [])]
    if len(found) > 1:
        raise InputError(f"--input {path}: holds {', '.join(found)}; name one of them")
    if lists:
        return _open_file(files.join(path, lists[0]), videos)
    return panda70m.read_download(path) if download else folder.read_folder(path)


def _folder_of(path: str) -> str:
    return path.rsplit("/", 1)[0] or "/" if "/" in path else "."


def _is_shard(name: str) -> bool:
    """A tar, or a ledger of ours: one that keeps nothing has no tar."""
    return name.endswith(".tar") or (name.endswith(".parquet") and finished.SHARD.fullmatch(files.stem(name)) is not None)


def _is_download(name: str) -> bool:
    return panda70m.re.fullmatch(r"\d{7}_\d{5}\.mp4", name) is not None
