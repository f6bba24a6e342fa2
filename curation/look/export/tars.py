"""Samples as they are, in tars: a run's shards linked, or the chosen ones of them written anew."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from curation import console
from curation.look.export.chosen import Chosen
from curation.storage import Storage

FOLDER = "shards"
BYTES = 512_000_000
"""Of a new tar, about; as large as a recipe's shards are by default."""
Places = dict[str, list[int]]
"""Name of a tar in the export → where each of its samples begins, and where the last ends."""


def place(chosen: Chosen, folder: Path, is_indexed: bool = False) -> Places:
    """All shards of a run as links to them (copies, of an object store's); of fewer samples, new tars with the same blocks.

    `is_indexed`: by hard links where the disk allows, so that the tars stay what an index says of them when `forget` writes the
    run's anew.
    """
    (folder / FOLDER).mkdir()
    return _linked(chosen, folder, is_indexed) if chosen.is_whole else _written(chosen, folder)


def _linked(chosen: Chosen, folder: Path, is_indexed: bool) -> Places:
    places: Places = {}
    for row in chosen.rows.select(["shard", "offset", "size"]).to_pylist():
        found = places.setdefault(f"{FOLDER}/{row['shard']}.tar", [0])
        found[-1:] = [row["offset"], row["offset"] + row["size"]]
    with console.counting("export", len(chosen)) as count:
        for name, offsets in places.items():
            _link(chosen.storage, f"shards/{Path(name).name}", folder / name, is_indexed)
            count.add(len(offsets) - 1)
    return places


def _link(storage: Storage, name: str, target: Path, is_indexed: bool) -> None:
    if storage.is_local:
        shard = storage.local(name).resolve(strict=True)
        try:
            (target.hardlink_to if is_indexed else target.symlink_to)(shard)
        except OSError:  # another disk, or a file of somebody else's
            target.symlink_to(shard)
        return
    with storage.open(name) as source, target.open("xb") as file:
        shutil.copyfileobj(source, file, 1 << 20)


def _written(chosen: Chosen, folder: Path) -> Places:
    places: Places = {}
    tar: IO[bytes] | None = None
    try:
        for _, blocks in chosen.blocks():
            if tar is None:
                name = f"{FOLDER}/shard-{len(places):06d}.tar"
                tar = (folder / name).open("xb")
                places[name] = [0]
            tar.write(blocks)
            places[name].append(places[name][-1] + len(blocks))
            if places[name][-1] >= BYTES:
                _end(tar)
                tar = None
    finally:
        if tar:
            _end(tar)
    return places


def _end(tar: IO[bytes]) -> None:
    tar.write(bytes(2 * tarfile.BLOCKSIZE))
    tar.close()


def members(folder: Path, places: Places) -> Iterator[tuple[str, IO[bytes]]]:
    """Suffix and content of every member. Contents are read where they are asked for."""
    for name in places:
        with tarfile.open(folder / name) as tar:
            for member in tar:
                if data := tar.extractfile(member):
                    yield member.name.partition(".")[2], data
