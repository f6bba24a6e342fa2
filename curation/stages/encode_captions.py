"""Encode captions to the embeddings that training wants, so that no text encoder stands beside the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from curation.faults import DataError
from curation.media import tensors
from curation.models.weights import TEXT
from curation.sample import Sample
from curation.stage import Resources, Result, Stage
from curation.store import store

BATCH = 64
"""Captions that pass through the network together; not measured."""
MEMORY = {"minilm": 1.0, "clip": 2.0, "t5": 24.0, "umt5": 27.0, "t5-cogvideox": 24.0}
"""GB of a worker. t5, umt5: estimated, 4.8 and 5.7·10⁹ parameters in fp32 as on a CPU; in bf16 half as much."""


@dataclass(kw_only=True)
class EncodeCaptions(Stage):
    """Write the embeddings of a caption's tokens, special ones included, the padding left out.

    `text.safetensors` holds `embeddings` [n,d] and `offsets` int32 [n,2], [first, last) characters of each token. Metadata:
    `encoder` (its identity), `dtype`, `tokens` (n), `dim` (d), `bytes` of the member.
    """

    encoder: Literal["minilm", "t5", "clip", "umt5", "t5-cogvideox"] = "t5"
    """Not named by the papers. "umt5" is Wan's; "t5-cogvideox" is T5 as CogVideoX reads it, padding and all."""
    weights: str | None = None
    """A folder instead of the store's."""
    length: Annotated[int, Field(ge=2)] | None = None
    """Tokens per caption, beyond which it is cut; null: 128 of minilm, 256 of t5, 77 of clip, 512 of umt5, 226 of t5-cogvideox.
    It is part of the encoder's identity."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """The encoder's arithmetic; auto is bf16 on a GPU, else fp32, as the trainer's. It is part of the encoder's identity."""
    dtype: Literal["bf16", "fp32"] = "bf16"
    """Of what is written; not stated by the paper."""

    reads = ("caption", "source")  # a plan has no place for members
    writes = (tensors.TEXT,)

    def __post_init__(self) -> None:
        self.resources = Resources(memory=MEMORY[self.encoder], batch=BATCH)  # type: ignore[misc]

    def models(self) -> tuple[str, ...]:
        return () if self.weights else (TEXT[self.encoder],)

    def resolve(self) -> None:
        if self.precision == "auto":
            self.precision = "bf16" if self.share > 0 else "fp32"

    def load(self) -> None:
        import torch

        from curation.models import device, encoders

        where = device.pick(self.share)
        folder = store.folder_of(TEXT[self.encoder], self.weights)
        kind = getattr(torch, tensors.DTYPES[self.precision])
        self._encoder = encoders.text_encoder(self.encoder, where, *folder, dtype=kind, length=self.length)

    def process_batch(self, samples: Sequence[Sample]) -> list[Result]:
        import torch

        found = self._encoder([sample.caption for sample in samples])
        embeddings, counts = found.embeddings.cpu(), found.mask.sum(1).tolist()
        results: list[Result] = []
        for sample, tokens, offsets, count in zip(samples, embeddings, found.offsets, counts, strict=True):
            if not bool(torch.isfinite(tokens).all()):
                results.append(DataError("not_finite", "the encoder's embeddings"))
                continue
            places = torch.tensor(offsets[:count], dtype=torch.int32).reshape(-1, 2)
            data = tensors.to_safetensors({"embeddings": tokens[:count], "offsets": places}, self.dtype)
            sample.files[tensors.TEXT] = data
            facts = {"encoder": self._encoder.identity, "dtype": self.dtype, "tokens": count, "dim": tokens.shape[1]}
            sample.meta[self.name] = facts | {"bytes": len(data)}
            results.append(sample)
        return results
