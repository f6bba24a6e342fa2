"""Where a torch model runs."""

from __future__ import annotations


def pick(share: float) -> str:
    """ "cuda" for whom a share of a GPU is meant, where torch sees one; else "cpu". From then on torch computes on one thread of
    this process: workers are the grain of parallelism, and sums keep their order, in whatever process a stage runs."""
    import torch

    torch.set_num_threads(1)
    return "cuda" if share > 0 and torch.cuda.is_available() else "cpu"
