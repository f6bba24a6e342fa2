"""How tensors stand in a sample: as safetensors files, of which one can be read by its place; latents by bucket and frame."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from curation.faults import DataError

if TYPE_CHECKING:
    from torch import Tensor

LATENTS, TEXT = "latents.safetensors", "text.safetensors"
"""Members of clips' latents and captions' embeddings. They are the first of their sample, in this order, so that where they lie
follows from its place and their sizes."""
DTYPES = {"bf16": "bfloat16", "fp32": "float32"}
"""A knob's value → torch's name."""


def to_safetensors(tensors: Mapping[str, Tensor], dtype: str = "") -> bytes:
    """The bytes of a file. `dtype`: "bf16" or "fp32", to which floats are rounded first; none keeps them."""
    import torch
    from safetensors.torch import save

    kind = getattr(torch, DTYPES[dtype]) if dtype else None
    told = {n: (t.to(kind) if kind and t.is_floating_point() else t).detach().cpu().contiguous() for n, t in tensors.items()}
    return save(told)


def from_safetensors(data: bytes) -> dict[str, Tensor]:
    """The tensors by name. Raises `DataError` (bad_tensors) for other bytes."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(data)
    except (SafetensorError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise DataError("bad_tensors", " ".join(str(error).split())[:200]) from error


def from_bytes(data: bytes | bytearray, shape: tuple[int, ...], dtype: str) -> Tensor:
    """One tensor out of the bytes at its place. `dtype`: "bf16" or "fp32". Raises `DataError` (bad_tensors) when there are too
    few or too many."""
    import torch

    kind = getattr(torch, DTYPES[dtype])
    try:
        return torch.frombuffer(bytearray(data), dtype=kind).reshape(shape)
    except (RuntimeError, ValueError) as error:
        raise DataError("bad_tensors", f"{len(data)} bytes are not {list(shape)} of {dtype}") from error


def places(data: bytes) -> dict[str, tuple[int, int]]:
    """Where the tensors of a file lie in it, first byte and the one after the last, in that order."""
    head = 8 + int.from_bytes(data[:8], "little")
    found: dict[str, Any] = json.loads(data[8:head])
    told = {name: facts["data_offsets"] for name, facts in found.items() if name != "__metadata__"}
    return {name: (head + first, head + last) for name, (first, last) in sorted(told.items(), key=lambda item: item[1])}


def latents_name(bucket: str, first: int) -> str:
    """`17x512x288@24`: of a bucket by its name, from that frame of the clip on."""
    return f"{bucket}@{first}"


def named_latents(name: str) -> tuple[str, int]:
    """The inverse: bucket and first frame. Raises `ValueError`."""
    bucket, _, first = name.partition("@")
    return bucket, int(first)


def sides(bucket: str) -> tuple[int, int, int]:
    """Frames, width and height of a bucket by its name. Raises `ValueError`."""
    frames, width, height = map(int, bucket.split("x"))
    return frames, width, height
