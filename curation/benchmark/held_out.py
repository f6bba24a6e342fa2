"""Sources that a training run has seen, so that no benchmark is made of them: by ids where they are known, else by bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation import ledger
from curation.benchmark.errors import BenchmarkError
from curation.look import ledgers
from curation.shards.planned import open_plan, part
from curation.storage import Storage

TEXT = r'(?:[^"\\]|\\.)*'
"""What JSON has between two quotes."""


@dataclass(frozen=True)
class Source:
    """Where a clip is from. `video`: an id where there is a `url`, else no more than the stem of a file's name; `path`: of a
    whole file on this machine's disks, else ""."""

    video: str
    url: str
    path: str


def seen(sources: Mapping[str, Source], runs: Sequence[str]) -> set[str]:
    """Keys of those whose source stands in the ledgers of one of these training runs, kept there or not.

    A source is known by its id, or its url. Where one of two has none, their files' bytes are compared; where they cannot be, the
    file of the training run is gone or lies in a tar, an equal name is enough. Raises `BenchmarkError` for what is no run.
    """
    return {key for run in runs for key in _seen_in(sources, run)}


def _seen_in(sources: Mapping[str, Source], run: str) -> set[str]:
    storage = Storage.at(run)
    names = ledger.files(storage)
    if not names:
        raise BenchmarkError(f"--train {run}: no finished shard there; give a run's output folder")
    if not sources:
        return set()
    theirs, nameless = _matches(sources, storage, names)
    found = {key for key, source in sources.items() if any(_same_id(source, other) for other in theirs)}
    open_keys = [key for key, source in sources.items() if key not in found and (nameless or not source.url)]
    if not open_keys:
        return found
    equal, compared = _same_bytes({key: sources[key].path for key in open_keys}, storage)
    doubtful = {video for video, url in theirs if video not in compared}
    by_name = {key for key in open_keys if sources[key].video in doubtful and not _both_known(sources[key], theirs)}
    return found | equal | by_name


def _matches(sources: Mapping[str, Source], storage: Storage, names: ledgers.Names) -> tuple[set[tuple[str, str]], bool]:
    """(video, url) of the rows that share either with a source, and whether there are rows without a url."""
    videos = pa.array(sorted({source.video for source in sources.values()}), pa.string())
    urls = pa.array(sorted({ledger.compact(s.url)[1:-1] for s in sources.values()} - {""}), pa.string())
    found: set[tuple[str, str]] = set()
    nameless = False
    for table in ledgers.tables(storage, names, ("video", "source")):
        own = pc.fill_null(pc.struct_field(pc.extract_regex(table["source"], rf'"url":"(?P<url>{TEXT})"'), "url"), "")
        nameless = nameless or bool(pc.any(pc.equal(own, "")).as_py())
        rows = pa.table({"video": table["video"], "url": own})
        is_shared = pc.or_(pc.is_in(rows["video"], value_set=videos), pc.is_in(own, value_set=urls))
        found |= {(row["video"], _unquoted(row["url"])) for row in rows.filter(is_shared).to_pylist()}
    return found, nameless


def _same_id(source: Source, other: tuple[str, str]) -> bool:
    video, url = other
    return bool(source.url and url) and (source.url == url or source.video == video)


def _both_known(source: Source, theirs: set[tuple[str, str]]) -> bool:
    return bool(source.url) and all(url for video, url in theirs if video == source.video)


def _same_bytes(paths: Mapping[str, str], storage: Storage) -> tuple[set[str], set[str]]:
    """Keys of the files that are files of the run, too; and the stems of those of the run that could be looked at."""
    sizes: dict[int, list[str]] = {}
    for key, path in paths.items():
        if (size := _size(path)) is not None:
            sizes.setdefault(size, []).append(key)
    hashes: dict[str, str] = {}

    def digest(path: str) -> str:
        if path not in hashes:
            with Path(path).open("rb") as file:
                hashes[path] = hashlib.file_digest(file, "sha256").hexdigest()
        return hashes[path]

    equal: set[str] = set()
    compared: set[str] = set()
    for path in _files(storage):
        size = _size(path)
        if size is not None:
            compared.add(Path(path).stem)
            equal |= {key for key in sizes.get(size, ()) if key not in equal and digest(paths[key]) == digest(path)}
    return equal, compared


def _files(storage: Storage) -> Iterator[str]:
    """The whole files that a run's clips are cut out of, by its plan, each once."""
    plan = open_plan(storage)
    told: set[str] = set()
    for group in plan.groups if plan else ():
        with storage.open(part(group.group)) as file:
            rows = pq.read_table(file, columns=["source"])["source"]
        whole = rows.filter(pc.invert(pc.match_substring(rows, '"member": "')))
        paths = pc.struct_field(pc.extract_regex(whole, rf'"path": "(?P<path>{TEXT})"'), "path")
        new = {_unquoted(path) for path in pc.unique(paths).to_pylist() if path} - told
        told |= new
        yield from sorted(new)


def _unquoted(text: str) -> str:
    return json.loads(f'"{text}"')


def _size(path: str) -> int | None:
    """Bytes of a file on a disk here; None of anything else."""
    if not path or "://" in path:
        return None
    try:
        state = Path(path).stat()
    except (OSError, ValueError):
        return None
    return state.st_size if Path(path).is_file() else None
