"""Encode a finished clip to the latents that training wants, so that it decodes no video and runs no codec."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from curation.buckets import EARLY, TABLES, Bucket, Buckets, check, fitting
from curation.faults import DataError
from curation.media import tensors
from curation.models.weights import CODECS
from curation.sample import Sample
from curation.stage import IN_HAND, Reject, Resources, Stage
from curation.store import store

if TYPE_CHECKING:
    from torch import Tensor

MEMORY = {"dct": 1.0, "cogvideox": 5.0, "cogvideox-2b": 5.0, "wan": 5.0}
"""GB of a worker. dct: measured, 0.6 with minilm in the same process. Others: estimated, 0.9 (wan 0.5) of weights in fp32 and
CUDA beside it; on a CPU what passes through it, too."""


@dataclass(kw_only=True)
class EncodeLatents(Stage):
    """Write the latents of a finished clip: of every bucket that it fits, from one or several of its frames on. One that fits
    none is rejected as the trainer would pass it over: too_short, too_small, too_much_cropped.

    Its frames are those that the trainer cuts itself: nearest to the times of the bucket's frames, scaled to cover it, cropped.
    `latents.safetensors` holds a tensor [C,T,H,W] for each, called BUCKET@FRAME (`17x512x288@24`: the clip's own frame 24 is the
    first). Metadata: `codec` (its identity), `fps`, `dtype`, `channels`, `latents` (names) and `places` (bytes) as the tensors
    lie in the member, `at` (share of what is cropped that is cut off at the left and at the top, of each; null: half).
    """

    codec: Literal["cogvideox", "cogvideox-2b", "wan", "dct"] = "cogvideox"
    """PAPER.md §4: CogVideoX-5B's autoencoder is V2's; "cogvideox-2b" and "wan" are those of pretrained backbones; "dct" is
    weight-free."""
    weights: str | None = None
    """A folder instead of the store's."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """The codec's arithmetic (dct's is always fp32); auto is bf16 on a GPU, else fp32, as the trainer's. It is part of the
    codec's identity."""
    dtype: Literal["bf16", "fp32"] = "bf16"
    """Of what is written. bf16 halves it, and rounds to 8 bits; not stated by the paper."""
    buckets: Buckets
    """Shapes of batches; or a paper's whole table (PAPER.md §5). `batch` and `weight` mean nothing here."""
    fps: Annotated[float, Field(gt=0)] = 24.0
    """Frames per second that the model sees (PAPER.md §5); a clip of another rate gives its frames nearest in time."""
    starts: Annotated[int, Field(ge=1)] = 1
    """First frames of each bucket, as many as the clip has; not stated by the paper."""
    spread: Literal["even", "random"] = "even"
    """Which: the clip's first frame, the last that the bucket still fits behind, and evenly between them; or drawn from all, by
    `seed` and the clip's key."""
    seed: int = 0
    """Of what is drawn at random."""
    upscale: bool = False
    """Whether clips smaller than a bucket may be blown up to it; not stated by the paper."""
    min_kept: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Least share of a picture that a bucket's shape may leave (4:3 in 16:9: 0.75; upright: 0.32); not stated by the paper."""
    crop: Literal["centre", "random"] = "centre"
    """Which part of a picture that does not have the bucket's shape, by `seed` and key; not stated by the paper."""

    reads = ("source",)
    writes = (tensors.LATENTS,)

    def __post_init__(self) -> None:
        self.resources = Resources(memory=MEMORY[self.codec])  # type: ignore[misc]
        check(self.table())

    def table(self) -> list[Bucket]:
        return TABLES[self.buckets] if isinstance(self.buckets, str) else self.buckets

    def models(self) -> tuple[str, ...]:
        return (CODECS[self.codec],) if self.codec in CODECS and not self.weights else ()

    def resolve(self) -> None:
        if self.precision == "auto":
            self.precision = "bf16" if self.share > 0 else "fp32"

    def units(self) -> int:
        return IN_HAND if self.share else 1

    def load(self) -> None:
        import torch

        from curation.models import codecs, device

        where = device.pick(self.share)
        folder = store.folder_of(CODECS[self.codec], self.weights) if self.codec in CODECS else ()
        self._codec = codecs.codec(self.codec, where, *folder, dtype=getattr(torch, tensors.DTYPES[self.precision]))
        self._device = torch.device(where)

    def process(self, sample: Sample) -> Sample:
        from curation.media.source import open_source

        video = _video(sample)
        fits, reason = fitting(self.table(), video, self.fps, self.upscale, self.min_kept)
        if not fits:
            raise Reject(reason)
        mp4 = open_source(sample.meta["source"], most=self.limits.megabytes * 1e6).read()
        made, at = {}, {}
        for bucket, first in self._wanted(sample.key, video, fits):
            name = tensors.latents_name(bucket.name, first)
            at[name] = self._at(sample.key, name)
            made[name] = self._encoded(mp4, [first / video.fps + i / self.fps for i in range(bucket.frames)], bucket, at[name])
        data = tensors.to_safetensors(made, self.dtype)
        places = tensors.places(data)
        sample.files[tensors.LATENTS] = data
        sample.meta[self.name] = {
            **{"codec": self._codec.identity, "fps": self.fps, "dtype": self.dtype, "channels": self._codec.channels},
            "latents": list(places),
            "places": [*(first for first, _ in places.values()), len(data)],
            "at": None if self.crop == "centre" else [at[name] for name in places],
        }
        return sample

    def _wanted(self, key: str, video: Any, fits: list[Bucket]) -> Iterator[tuple[Bucket, int]]:
        """Each bucket with each first frame."""
        for bucket in fits:
            slack = (video.frames - 1) / video.fps - (bucket.frames - 1) / self.fps
            last = int(slack * video.fps + EARLY)  # the trainer's own
            if self.spread == "random":
                draw = random.Random(f"{self.seed} {key} {bucket.name}")
                firsts = sorted(draw.sample(range(last + 1), min(self.starts, last + 1)))
            else:
                firsts = sorted({round(i * last / max(1, self.starts - 1)) for i in range(self.starts)})
            yield from ((bucket, first) for first in firsts)

    def _at(self, key: str, name: str) -> tuple[float, float]:
        """Where to crop, x and y from 0 (left, top) to 1."""
        draw = random.Random(f"{self.seed} {key} {name} crop")
        return (draw.random(), draw.random()) if self.crop == "random" else (0.5, 0.5)

    def _encoded(self, mp4: bytes, times: list[float], bucket: Bucket, at: tuple[float, float]) -> Tensor:
        import torch

        from curation.media import resample
        from curation.models.codecs import pixels

        try:
            clip = resample.clip(mp4, times, bucket.width, bucket.height, at)
        except resample.DecodeError as error:
            raise DataError("undecodable", str(error)) from error
        latents = self._codec.encode(pixels(torch.from_numpy(clip)[None].to(self._device)))[0]
        if not bool(torch.isfinite(latents).all()):
            raise DataError("not_finite", f"the codec's latents of {bucket.name}")
        return latents.cpu()


def _video(sample: Sample) -> Any:
    """What its shard says of the clip's video. Raises `DataError`."""
    source = sample.meta["source"]
    facts = (source.get("scores") or {}).get("split_shots") or {}
    found = {name: facts.get(name) for name in ("width", "height", "fps", "frames")}
    if source["start"] is not None or source["end"] is not None or None in found.values():
        raise DataError("no_metadata", "not a clip of a finished run")
    return SimpleNamespace(**found)
