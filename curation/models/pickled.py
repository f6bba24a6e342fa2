"""Weights out of a checkpoint that pickled its whole network, without that network's code: nothing it names is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor


class WrongWeights(ValueError):
    """The file holds no pickled network."""


class Shell:
    """Stands for an object of any class, and for any function; holds what was pickled of it."""

    def __init__(self, *given: Any, **named: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)


def weights_of(checkpoint: Path, *keys: str) -> dict[str, Tensor]:
    """The state dict, float32, of the first of `keys` under which a checkpoint holds a network. Raises `WrongWeights`.

    Read by torch's own reader of weights; all that it does not know becomes a `Shell`.
    """
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(checkpoint)
        shells: list[Any] = [(type(name.rpartition(".")[2], (Shell,), {}), name) for name in names]
        with torch.serialization.safe_globals(shells):
            content = torch.load(checkpoint, map_location="cpu", weights_only=True)
        network = next(content[key] for key in keys if content.get(key) is not None)
        found = dict(_tensors(network, ""))
    except Exception as error:  # the file may hold anything
        raise WrongWeights(
            f"{checkpoint} holds no network as {' or '.join(keys)}: {' '.join(str(error).split())[:200]}"
        ) from error
    return {name: value.detach().float() if value.is_floating_point() else value for name, value in found.items()}


def _tensors(module: Any, prefix: str) -> list[tuple[str, Tensor]]:
    own = [(prefix + name, value) for part in (module._parameters, module._buffers) for name, value in part.items()]
    inner = [pair for name, child in module._modules.items() if child is not None for pair in _tensors(child, f"{prefix}{name}.")]
    return [(name, value) for name, value in own if value is not None] + inner
