"""What the frozen encoders gave, kept beside the shards: latents and captions' embeddings are computed once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from curation.models.encoders import TextEncoder, TextTokens
from curation.storage import replacing

Entry = dict[str, Tensor]
"""What one key stands for: a few named tensors, on the CPU."""


class Cache:
    """One safetensors file per key in `root`/<digest of the facts>/; `facts.json` there says them.

    Any number of processes may use it at once: a file appears whole, and two that make the same one make the same bytes.
    """

    def __init__(self, root: str | Path, facts: dict[str, Any]):
        """`root`: the folder `cache` next to `shards`. `facts`: all that decides an entry but its key; with
        `{"codec": codec.identity}` a key says the sample, the bucket and the first frame."""
        stated = json.dumps(facts, sort_keys=True)
        self.folder = Path(root) / hashlib.sha256(stated.encode()).hexdigest()[:16]
        if not (self.folder / "facts.json").exists():
            _put(self.folder / "facts.json", stated.encode())

    def get(self, key: str) -> Entry | None:
        """None when there is none, and when the file is damaged: its tensors are held to their digest."""
        try:
            with safe_open(self._path(key), "pt") as file:
                found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 it is no mapping
                stated = (file.metadata() or {}).get("digest")
        except (OSError, SafetensorError):
            return None
        return found if stated == _digest(key, found) else None

    def put(self, key: str, entry: Entry) -> Entry:
        """Write an entry and return it as `get` will: contiguous, on the CPU."""
        kept = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in entry.items()}
        _put(self._path(key), save(kept, metadata={"digest": _digest(key, kept)}))
        return kept

    def get_or_make(self, keys: Sequence[str], make: Callable[[list[int]], Sequence[Entry]]) -> list[Entry]:
        """The entries of `keys`, in order. `make` gets the positions in `keys` of those that are missing, each key once."""
        found = {key: self.get(key) for key in dict.fromkeys(keys)}
        if missing := [key for key, entry in found.items() if entry is None]:
            made = make([list(keys).index(key) for key in missing])
            found |= {key: self.put(key, entry) for key, entry in zip(missing, made, strict=True)}
        return [entry for key in keys if (entry := found[key]) is not None]

    def _path(self, key: str) -> Path:
        name = hashlib.sha256(key.encode()).hexdigest()
        return self.folder / name[:2] / f"{name}.safetensors"


def _digest(key: str, entry: Entry) -> str:
    digest = hashlib.sha256(key.encode())
    for name, tensor in sorted(entry.items()):
        digest.update(f"\0{name} {tensor.dtype} {list(tensor.shape)}\0".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _put(path: Path, content: bytes) -> None:
    with replacing(path, durable=False) as temporary:  # a damaged one is found when it is read, and made again
        temporary.write_bytes(content)


class CachedText:
    """A text encoder that remembers captions; stands in for the encoder. Only real tokens are stored, not the padding."""

    def __init__(self, encoder: TextEncoder, root: str | Path):
        self._encoder = encoder
        self._cache = Cache(root, {"text": encoder.identity})
        self.dim, self.length, self.identity, self.device = encoder.dim, encoder.length, encoder.identity, encoder.device

    def __call__(self, captions: Sequence[str]) -> TextTokens:
        entries = self._cache.get_or_make(captions, lambda missing: self._encoded([captions[i] for i in missing]))
        embeddings = torch.zeros(len(captions), self.length, self.dim)
        mask = torch.zeros(len(captions), self.length, dtype=torch.bool)
        offsets = []
        for i, entry in enumerate(entries):
            count = len(entry["embeddings"])
            embeddings[i, :count], mask[i, :count] = entry["embeddings"], True
            spans = [(int(first), int(last)) for first, last in entry["offsets"].tolist()]
            offsets.append(spans + [(0, 0)] * (self.length - count))
        return TextTokens(embeddings.to(self.device), mask.to(self.device), offsets)

    def _encoded(self, captions: list[str]) -> list[Entry]:
        tokens = self._encoder(captions)
        counts = tokens.mask.sum(1).tolist()
        return [
            {"embeddings": tokens.embeddings[i, :count], "offsets": torch.tensor(tokens.offsets[i][:count], dtype=torch.int32)}
            for i, count in enumerate(counts)
        ]
