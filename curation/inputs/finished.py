"""A finished run as input: its kept clips by its ledgers, with all that is known of them: origin, labels, scores."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation import ledger
from curation.faults import DataError
from curation.inputs import files
from curation.inputs.rows import each, planned
from curation.sample import KEPT, SHOT, Sample
from curation.storage import Storage

SHARD = re.compile(r"shard-\d{5,}-\d{4,}")
JOINED = ("key", "caption", "source", "video", "entities", "background", "members", "provenance")
"""Fields of KEY.json that are no stage's own."""
NOT_LABELS = (*ledger.OWN, "url", "key", "shot", "origin", "scores", "reason", "error", "place")
"""What a source says that is no label of the input's."""
IN_A_TAR = ""
"""`member` of a clip of which no more is known than its tar."""
HEAD = 4 * tarfile.BLOCKSIZE
"""Bytes in which the header of a sample's first member ends, also of one with a long name."""
AT_ONCE = 32
"""Headers that are asked for together in an object store."""


def check_finished(root: str) -> None:
    """Raise `InputError` when a run has clips that are not in its shards yet. `root`: with plan/ and shards/."""
    storage = Storage.at(root)
    left = f"--input {root}: that run is not finished: finish it with `curation run` or `curation retry`, or name its shards/"
    if any(storage.names(f"units/{group}") for group in storage.folders("units")):
        raise files.InputError(left)
    if not storage.exists("plan/plan.json"):
        return
    plan = json.loads(storage.read("plan/plan.json"))
    newest = ledger.newest(storage)
    units = {group["group"]: group["units"] for group in plan.get("groups", []) if group["units"]}
    if not plan.get("complete") or units.keys() != newest.keys():
        raise files.InputError(left)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = pool.map(lambda name: ledger.facts(storage, f"shards/{name}.parquet"), newest.values())
        if any(facts["last"] + 1 < units[facts["group"]] for facts in found):
            raise files.InputError(left)


def kept_rows(storage: Storage, stem: str) -> list[dict[str, Any]] | None:
    """The kept rows of a shard's ledger; None when the table is no ledger of ours, or a damaged one: the tar says the same."""
    try:
        table, _ = ledger.read(storage, f"{stem}.parquet")
        return table.filter(pc.equal(table["verdict"], KEPT)).to_pylist()
    except (pa.ArrowException, KeyError, TypeError, ValueError):
        return None
    except OSError as error:
        if error.errno is not None:  # Arrow's own have no number
            raise
        return None


def read_rows(storage: Storage, path: str, stem: str, rows: list[dict[str, Any]]) -> Iterator[Sample]:
    """Clips of the shard `path`, `stem` in its storage. Raises `FileNotFoundError` when there is a ledger, but no tar."""
    places = [row["offset"] for row in rows if row["offset"] is not None]
    size = storage.size(f"{stem}.tar")
    if places and size is None:
        raise DataError("no_shard", "the ledger is there, the tar is not")

    def head(row: dict[str, Any]) -> bytes:
        return storage.read_range(f"{stem}.tar", row["offset"], HEAD) if row["offset"] is not None else b""

    with ThreadPoolExecutor(1 if storage.is_local else AT_ONCE) as pool:
        heads = list(pool.map(head, rows))
    yield from each(
        zip(rows, heads, strict=True),
        lambda found: [_clip(path, size or 0, *found)],
        lambda found: (found[0]["key"], f"{path}: {found[0]['key']}"),
        path=path,
        member=IN_A_TAR,
    )


def _clip(path: str, whole: int, row: dict[str, Any], head: bytes) -> Sample:
    known = known_of(json.loads(row["source"]), row["start"], row["end"], json.loads(row["scores"]), row["key"] != row["clip"])
    known |= {"video": row["video"], "path": path, "place": f"{path}: {row['key']}"}
    known["divided"] = SHOT.search(row["key"]) is not None  # also when it was planned from an earlier run
    name = f"{row['key']}.mp4"
    member = tarfile.TarFile(fileobj=io.BytesIO(head)).next() if head else None
    if member is None or member.name != name:
        return planned(row["key"], row["caption"], member=IN_A_TAR, reason="no_video", **known)
    offset = row["offset"] + member.offset_data
    if offset + member.size > whole:
        raise DataError("bad_tar", f"ends within {name}")
    return planned(row["key"], row["caption"], member=name, offset=offset, size=member.size, **known)


def known_of(source: Mapping[str, Any], start: Any, end: Any, scores: Mapping[str, Any], divided: bool) -> dict[str, Any]:
    """What a first pass knew of a clip, as `planned` takes it: labels, url, video; `origin`, its seconds in the first source;
    `scores` by stage. Shots that were listed for a clip do not hold for a part of it."""
    known = {name: value for name, value in source.items() if name not in NOT_LABELS and not (divided and name == "shots")}
    before = source.get("scores")
    return {
        **known,
        "divided": divided,
        "url": source.get("url"),
        "video": source.get("video", ""),
        "origin": _origin(source.get("origin"), start, end),
        "scores": {**(before if isinstance(before, dict) else {}), **scores} or None,
    }


def _origin(before: Any, start: float | None, end: float | None) -> list[float] | None:
    """A span in the source of the first pass, which may itself have been cut out of another one at `before`."""
    if start is None or end is None:
        return before
    shift = before[0] if before else 0.0
    return [round(shift + start, 6), round(shift + end, 6)]
