"""Whether a sidecar is sound: it has the clips of the shard it belongs to, its tensors are what names and metadata say."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from curation import ledger
from curation.faults import DataError
from curation.media import tensors
from curation.media.tensors import LATENTS, TEXT
from curation.sample import KEPT
from curation.shards.sidecar import shape_of
from curation.storage import Storage, StorageError

if TYPE_CHECKING:
    from torch import Tensor

    from curation.shards.clip import Clip


def against(stem: str, clips: Sequence[str], forgotten: Collection[str], shard: str, is_part: bool) -> Iterator[str]:
    """Problems of the sidecar `stem`, which has rows of these clips in this order, some of them `forgotten`, against the shard at
    a path or URL that they were planned from; none when that is away. `is_part`: not all clips were planned."""
    match = ledger.SIDECAR.fullmatch(stem)
    folder, _, tar = shard.rpartition("/")
    if not match or f"{match[1]}.tar" != tar:
        return  # of a retry
    try:
        table, _ = ledger.read(Storage.at(folder), f"{match[1]}.parquet")
    except (FileNotFoundError, StorageError):
        return
    except (OSError, pa.ArrowException) as error:
        yield f"{shard} cannot be compared: {type(error).__name__}: {error}"
        return
    there = table.filter(pc.equal(table["verdict"], KEPT))["key"].to_pylist()
    theirs, known = set(there), set(clips)
    for key in sorted(known - theirs - set(forgotten)):
        yield f"{key} is not in {shard} any more: `curation forget` it here, too"
    if [key for key in there if key in known] != [key for key in clips if key in theirs]:
        yield f"its clips stand in another order than in {shard}"
    if (missing := [key for key in there if key not in known]) and not is_part:
        yield f"{missing[0]} of {shard} is not here" + f", nor are {len(missing) - 1} more" * (len(missing) > 1)


def members(clip: Clip, files: Mapping[str, bytes]) -> Iterator[str]:
    """Problems of a sample's tensors."""
    said = clip.model_extra or {}
    for suffix, problems in ((LATENTS, _latents), (TEXT, _text)):
        if suffix in files:
            try:
                for problem in problems(said, files[suffix]):
                    yield f"{suffix}: {problem}"
            except DataError as error:
                yield f"{suffix} does not load: {error.detail}"


def _latents(said: Mapping[str, Any], data: bytes) -> Iterator[str]:
    facts, found = said["encode_latents"], tensors.from_safetensors(data)
    places = tensors.places(data)
    if list(places) != facts["latents"] or [*(first for first, _ in places.values()), len(data)] != facts["places"]:
        yield "names and places are not what the metadata say"
        return
    for name, tensor in found.items():
        shape = shape_of(facts["channels"], tensors.named_latents(name)[0])
        yield from _sound(name, tensor, shape, facts["dtype"])


def _text(said: Mapping[str, Any], data: bytes) -> Iterator[str]:
    facts, found = said["encode_captions"], tensors.from_safetensors(data)
    if found.keys() != {"embeddings", "offsets"} or len(data) != facts["bytes"]:
        yield "names and size are not what the metadata say"
        return
    yield from _sound("embeddings", found["embeddings"], (facts["tokens"], facts["dim"]), facts["dtype"])
    yield from _sound("offsets", found["offsets"], (facts["tokens"], 2), "")


def _sound(name: str, tensor: Tensor, shape: tuple[int, ...], dtype: str) -> Iterator[str]:
    import torch

    wanted = f"torch.{tensors.DTYPES.get(dtype, 'int32')}"
    if tuple(tensor.shape) != shape or str(tensor.dtype) != wanted:
        yield f"{name} is {list(tensor.shape)} of {tensor.dtype}, not {list(shape)} of {wanted}"
    elif not bool(torch.isfinite(tensor).all()):
        yield f"{name} is not finite"
