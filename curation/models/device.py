"""Where a torch model runs."""

from __future__ import annotations


def pick(share: float) -> str:
    """ "cuda" for whom a share of a GPU is meant, where torch sees one; else "cpu"."""
    import torch

    return "cuda" if share > 0 and torch.cuda.is_available() else "cpu"
