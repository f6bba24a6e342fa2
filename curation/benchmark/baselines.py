"""Other people's models on a benchmark's clips, by name. Those that no library carries are compared by the videos they made."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from curation.benchmark.case import Mode
from curation.benchmark.errors import BenchmarkError
from curation.benchmark.metrics.pictures import padded_square
from curation.buckets import Bucket
from curation.store import store
from curation.trainer import fill
from curation.trainer.fill import How
from curation.trainer.make import Asked
from curation.trainer.sample import Makes, Wanted, device

if TYPE_CHECKING:
    from curation.models.ip_adapter import IpAdapter

NAMES = ("ip-adapter",)
MODELS = ("stable-diffusion-1.5", "ip-adapter")
"""In the store."""


class Pictures:
    """Makes videos of a single frame: how image models are scored (V2; PAPER.md §6)."""

    def __init__(self, network: IpAdapter):
        self.network = network

    def __call__(self, wanted: Sequence[Wanted]) -> list[Tensor]:
        return [self._one(one) for one in wanted]

    def _one(self, wanted: Wanted) -> Tensor:
        shown = [padded_square(one.image.permute(1, 2, 0).numpy()) for one in wanted.references if one.kind != "background"]
        made = self.network(wanted.prompt, shown, wanted.noise(), wanted.bucket.width, wanted.bucket.height)
        return torch.from_numpy(made).permute(2, 0, 1)[None]


def by(name: str, mode: Mode, asked: Asked) -> tuple[Bucket, How]:
    """Shape of a baseline's pictures, and by what they are made; backgrounds it does not know. Raises `BenchmarkError`."""
    if name not in NAMES:
        others = "of others evaluate the videos they made (docs/sampling.md)"
        raise BenchmarkError(f"no baseline {name!r}; known: {', '.join(NAMES)}; {others}")
    from curation.models import ip_adapter

    if asked.frames not in (None, 1):
        raise BenchmarkError(f"--frames {asked.frames}: {name} makes pictures, of one frame")
    size = re.fullmatch(r"(\d+)x(\d+)", asked.size or f"{ip_adapter.SIDE}x{ip_adapter.SIDE}")
    if not size or any(int(side) < 64 or int(side) % 8 for side in size.groups()):
        raise BenchmarkError(f"--size {asked.size}: write WIDTHxHEIGHT of multiples of 8, as 512x512")
    if fill.rank()[0] == 0:
        store.fetch(MODELS)
    knobs = {"scale": ip_adapter.SCALE, "steps": ip_adapter.STEPS, "guidance": ip_adapter.GUIDANCE}
    made_by: dict[str, Any] = {"baseline": name, "mode": mode, "models": store.hashes(MODELS), **knobs}
    bucket = Bucket(frames=1, width=int(size[1]), height=int(size[2]))
    return bucket, How(partial(_load, mode), made_by, 1.0, asked.batch, asked.sheets, "png")


def _load(mode: Mode) -> Makes:
    from curation.models.ip_adapter import IpAdapter
    from curation.models.pretrained import WrongWeights

    base, adapter = (store.path(name) for name in MODELS)
    try:
        return Pictures(IpAdapter(base, adapter, mode, device()))
    except WrongWeights as error:
        raise BenchmarkError(str(error)) from error
