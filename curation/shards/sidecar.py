"""Latents and embeddings out of *sidecars*, for who trains: where each lies, by Arrow, and how its bytes become tensors.

A sidecar (`shard-00003-0002.latents.tar`) holds further members of the samples of a finished shard, under the same keys in the
same order. It has a ledger of its own, and lies in the run that made it or beside the shards it belongs to.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from tarfile import BLOCKSIZE
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation import ledger
from curation.media import tensors
from curation.media.tensors import LATENTS, TEXT
from curation.sample import KEPT
from curation.shards.unit import blocks
from curation.storage import Storage

if TYPE_CHECKING:
    from torch import Tensor

Place = tuple[str, int, int]
"""Path or URL of a tar, first byte in it, bytes."""


class SidecarError(Exception):
    """One line: what these sidecars are, and what was wanted."""


def latents(data: bytes) -> dict[tuple[str, int], Tensor]:
    """What a `latents.safetensors` holds: (bucket, first frame) → [C,T,H,W]. Raises `DataError`."""
    return {tensors.named_latents(name): tensor for name, tensor in tensors.from_safetensors(data).items()}


def text(data: bytes) -> tuple[Tensor, Tensor]:
    """What a `text.safetensors` holds: embeddings of the caption's tokens [n,d], and int32 [n,2], [first, last) characters of
    each. Raises `DataError`."""
    found = tensors.from_safetensors(data)
    return found["embeddings"], found["offsets"]


@dataclass(frozen=True)
class _Sidecars:
    """One kind of members, of all the sidecars of some runs."""

    storages: Sequence[Storage]
    table: pa.Table
    """A row of each sample: key, source (number of its storage), tar (its name there), offset, size, and the kind's own columns;
    a key stands once."""
    facts: dict[str, Any]
    """What the stage that wrote them said, alike of all."""

    def __len__(self) -> int:
        return len(self.table)

    def rows(self, keys: pa.Array | pa.ChunkedArray | Sequence[str]) -> np.ndarray:
        """The rows of these keys, int64, −1 where there is none. For all keys at once: each call hashes the whole table."""
        wanted = keys if isinstance(keys, (pa.Array, pa.ChunkedArray)) else pa.array(keys, pa.string())
        found = pc.fill_null(pc.index_in(wanted, value_set=self.table["key"]), -1)
        return np.asarray(found.to_numpy(zero_copy_only=False) if isinstance(found, pa.Array) else found.to_numpy(), np.int64)

    def key(self, row: int) -> str:
        return self.table["key"][row].as_py()

    def sample(self, row: int) -> Place:
        """Where all members of a sample lie, as in any shard."""
        return self._path(row), self.table["offset"][row].as_py(), self.table["size"][row].as_py()

    def _path(self, row: int) -> str:
        return self.storages[self.table["source"][row].as_py()].path(self.table["tar"][row].as_py())

    def _member(self, row: int, suffixes: Sequence[str], sizes: Sequence[int]) -> int:
        """Where the last of a sample's first members begins, given those before it, and their sizes."""
        place = self.table["offset"][row].as_py()
        for suffix in suffixes:
            place += len(blocks([(f"{self.key(row)}.{suffix}", b"")])[0])
        return place + sum(-(-size // BLOCKSIZE) * BLOCKSIZE for size in sizes)

    def _read(self, row: int, place: int, size: int) -> bytes:
        storage = self.storages[self.table["source"][row].as_py()]
        return storage.read_range(self.table["tar"][row].as_py(), place, size)

    def _check(self, what: str, wanted: dict[str, Any]) -> None:
        for name, value in wanted.items():
            if value is not None and self.facts[name] != value:
                raise SidecarError(
                    f"{self.storages[0].path()}: its {what} have {name}: {self.facts[name]}, the recipe {name}: {value}"
                )


class Latents(_Sidecars):
    """Clips' latents. `facts`: codec (identity), fps, dtype, channels."""

    @property
    def buckets(self) -> set[str]:
        """Names of those that some clip has."""
        return {tensors.named_latents(name)[0] for name in pc.unique(pc.list_flatten(self.table["latents"])).to_pylist()}

    def masks(self, buckets: Sequence[str]) -> np.ndarray:
        """Of each row which of these buckets it has, uint64 (bit i: the i-th)."""
        names = self.table["latents"].combine_chunks()
        rows, flat = pc.list_parent_indices(names).to_numpy(), pc.list_flatten(names)
        found = np.zeros(len(self), np.uint64)
        for number, bucket in enumerate(buckets):
            mine = pc.starts_with(flat, tensors.latents_name(bucket, 0)[:-1]).to_numpy(zero_copy_only=False)
            found[rows[mine]] |= np.uint64(1 << number)
        return found

    def check(self, codec: str | None = None, fps: float | None = None, buckets: Sequence[str] = ()) -> None:
        """Raises `SidecarError` unless they are of this codec (its identity) and rate, and of each bucket there are some."""
        self._check("latents", {"codec": codec, "fps": fps})
        if missing := [bucket for bucket in buckets if bucket not in self.buckets]:
            known = ", ".join(sorted(self.buckets))
            raise SidecarError(f"{self.storages[0].path()}: no latents of the bucket {missing[0]}; there are {known}")

    def names(self, row: int) -> list[tuple[str, int]]:
        """(bucket, first frame) of each of a sample's tensors."""
        return [tensors.named_latents(name) for name in self.table["latents"][row].as_py()]

    def place(self, row: int, bucket: str, first: int) -> Place:
        """Where one tensor's bytes lie. Raises `KeyError` when the sample has none of that name."""
        names, places = self.table["latents"][row].as_py(), self.table["latent_places"][row].as_py()
        name = tensors.latents_name(bucket, first)
        if name not in names:
            raise KeyError(f"{self.key(row)} has no latents {name}")
        number = names.index(name)
        begin = self._member(row, [LATENTS], []) + places[number]
        return self._path(row), begin, places[number + 1] - places[number]

    def shape(self, bucket: str) -> tuple[int, int, int, int]:
        """C, T, H, W of a bucket's latents: 4×8×8 pixels are one."""
        return shape_of(self.facts["channels"], bucket)

    def tensor(self, data: bytes, bucket: str) -> Tensor:
        """The bytes at a `place` as [C,T,H,W]. Raises `DataError`."""
        return tensors.from_bytes(data, self.shape(bucket), self.facts["dtype"])

    def read(self, row: int, bucket: str, first: int) -> Tensor:
        """One tensor [C,T,H,W], and no other byte of the tar. Raises `KeyError`, `DataError` and what the storage raises."""
        _, begin, size = self.place(row, bucket, first)
        return self.tensor(self._read(row, begin, size), bucket)


class Text(_Sidecars):
    """Captions' embeddings. `facts`: encoder (identity), dtype, dim."""

    def check(self, encoder: str) -> None:
        """Raises `SidecarError` unless they are of this encoder (its identity)."""
        self._check("embeddings", {"encoder": encoder})

    def place(self, row: int) -> Place:
        """Where a sample's `text.safetensors` lies; `text` makes tensors of its bytes."""
        places = self.table["latent_places"][row].as_py()
        before = [(LATENTS, places[-1])] if places else []
        begin = self._member(row, [*(suffix for suffix, _ in before), TEXT], [size for _, size in before])
        return self._path(row), begin, self.table["text_bytes"][row].as_py()

    def read(self, row: int) -> tuple[Tensor, Tensor]:
        """Embeddings [n,d] and offsets, as `text`. Raises `DataError` and what the storage raises."""
        _, begin, size = self.place(row)
        return text(self._read(row, begin, size))


def shape_of(channels: int, bucket: str) -> tuple[int, int, int, int]:
    """C, T, H, W of the latents of a bucket: the first frame is one of its own, four that follow are one, of 8×8 pixels each."""
    frames, width, height = tensors.sides(bucket)
    return channels, 1 + (frames - 1) // 4, height // 8, width // 8


def open_latents(sources: Sequence[str]) -> Latents | None:
    """The latents in the sidecars of `sources`, paths or URLs: runs that made them, or folders in which they lie, as a run with
    sidecars beside its own shards. None when there are none. Raises `SidecarError` when they are not of one codec and rate."""
    found = _opened(sources, "latents", "encode_latents", ("codec", "fps", "dtype", "channels"))
    return found and Latents(*found)


def open_text(sources: Sequence[str]) -> Text | None:
    """The embeddings, likewise. Raises `SidecarError` when they are not of one encoder."""
    found = _opened(sources, "text_tokens", "encode_captions", ("encoder", "dtype", "dim"))
    return found and Text(*found)


COLUMNS = ["key", "shard", "offset", "size", "latents", "latent_places", "text_tokens", "text_bytes"]


def _opened(
    sources: Sequence[str], column: str, stage: str, names: tuple[str, ...]
) -> tuple[list[Storage], pa.Table, dict[str, Any]] | None:
    storages: list[Storage] = []
    tables: list[pa.Table] = []
    told: list[tuple[Storage, dict[str, Any]]] = []
    for source in sources:
        storage, kinds = _sidecars(source)
        for ledgers in kinds.values():
            dataset = ledger.dataset(storage, ledgers)
            there = (pc.field("verdict") == KEPT) & pc.field("offset").is_valid() & pc.field(column).is_valid()
            first = dataset.scanner(columns=["scores"], filter=there).head(1)
            if not len(first):
                continue
            said = json.loads(first["scores"][0].as_py())[stage]
            told.append((storage, {name: said[name] for name in names}))
            folder = ledgers[0].rpartition("/")[0]
            tables.append(_placed(dataset.to_table(columns=COLUMNS, filter=there), len(storages), f"{folder}/" * bool(folder)))
            storages.append(storage)
    if not told:
        return None
    for storage, facts in told:
        if differs := [name for name in names if facts[name] != told[0][1][name]]:
            one, other = told[0][1][differs[0]], facts[differs[0]]
            raise SidecarError(f"sidecars of two kinds: {differs[0]} {one} in {told[0][0].path()}, {other} in {storage.path()}")
    return storages, _once(pa.concat_tables(tables, promote_options="permissive").unify_dictionaries()), told[0][1]


def _sidecars(source: str) -> tuple[Storage, dict[str, list[str]]]:
    """A source's storage, and by what follows their names the ledgers of its sidecars. Raises `SidecarError`."""
    storage = Storage.at(source)
    kinds: dict[str, list[str]] = {}
    for folder in ("shards/", ""):
        for name in storage.names(folder.rstrip("/")):
            match = ledger.SIDECAR.fullmatch(name.removesuffix(".parquet")) if name.endswith(".parquet") else None
            if match:
                kinds.setdefault(match[2], []).append(folder + name)
    if not kinds:
        raise SidecarError(f"no sidecars in {source}: `curation run encode-latents --input RUN --output {source}` writes them")
    return storage, kinds


def _placed(table: pa.Table, source: int, folder: str) -> pa.Table:
    """With the number of its storage, and the tar's name there; words that come again and again stand once."""
    tars = pc.binary_join_element_wise(folder, table["shard"], ".tar", "").dictionary_encode()
    numbers = pa.array(np.full(len(table), source, np.int16))
    table = table.drop_columns(["shard"]).append_column("tar", tars).append_column("source", numbers)
    return table.combine_chunks()


def _once(table: pa.Table) -> pa.Table:
    """Less the rows of keys that have come before: the first source counts."""
    if pc.count_distinct(table["key"]).as_py() == len(table):
        return table
    numbered = table.append_column("row", pa.array(np.arange(len(table))))
    rows = numbered.group_by("key").aggregate([("row", "min")])["row_min"]
    return table.take(np.sort(rows.to_numpy()))
