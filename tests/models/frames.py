"""Real frames for tests: the sample videos of the store."""

from __future__ import annotations

from itertools import islice

import av
import numpy as np
import torch
from torch import Tensor

from curation.media.picture import Painter
from curation.media.video import frames as decoded
from curation.store import store


def frames(count: int, width: int = 256, height: int = 144) -> Tensor:
    """The first `count` frames of each sample video, uint8 [3 videos, count, 3, height, width] (squeezed to that shape)."""
    painter = Painter(lambda *_: (width, height))
    videos = []
    for name in ("bikes.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4"):
        pictures = [torch.from_numpy(painter(frame)) for frame in islice(decoded(str(store.path("sample-videos") / name)), count)]
        videos.append(torch.stack(pictures).permute(0, 3, 1, 2))
    return torch.stack(videos)


def at(name: str, places: list[int]) -> list[np.ndarray]:
    """Frames of a sample video by their numbers, uint8 RGB [H, W, 3]."""
    with av.open(str(store.path("sample-videos") / name)) as container:
        shown = enumerate(islice(container.decode(video=0), max(places) + 1))
        found = {place: frame.to_ndarray(format="rgb24") for place, frame in shown if place in places}
    return [found[place] for place in places]
