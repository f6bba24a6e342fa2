"""Weights out of a checkpoint that pickled its whole network, without that network's code: nothing it names is run."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

KNOWN = {
    ("collections", "OrderedDict"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch", "Size"),
    ("torch", "device"),
}
"""What tensors are made of. Everything else becomes a shell that holds what was pickled."""


class WrongWeights(ValueError):
    """The file holds no pickled network."""


class Shell:
    """Stands for an object of any class; its attributes are the object's."""

    def __init__(self, *given: Any, **named: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)

    def append(self, item: Any) -> None:
        """Of a list of some other class."""

    def extend(self, items: Any) -> None:
        """The same."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Of a dict of some other class."""


class Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return super().find_class(module, name) if (module, name) in KNOWN else Shell


def weights_of(checkpoint: Path, *keys: str) -> dict[str, Tensor]:
    """The state dict, float32, of the first of `keys` under which a checkpoint holds a network. Raises `WrongWeights`."""
    reader = SimpleNamespace(Unpickler=Unpickler, load=pickle.load, __name__="pickle")
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=False, pickle_module=reader)
        network = next(content[key] for key in keys if content.get(key) is not None)
        found = dict(_tensors(network, ""))
    except (pickle.UnpicklingError, RuntimeError, StopIteration, AttributeError, TypeError, KeyError, EOFError) as error:
        raise WrongWeights(
            f"{checkpoint} holds no network as {' or '.join(keys)}: {' '.join(str(error).split())[:200]}"
        ) from error
    return {name: value.detach().float() if value.is_floating_point() else value for name, value in found.items()}


def _tensors(module: Any, prefix: str) -> list[tuple[str, Tensor]]:
    own = [(prefix + name, value) for part in (module._parameters, module._buffers) for name, value in part.items()]
    inner = [pair for name, child in module._modules.items() if child is not None for pair in _tensors(child, f"{prefix}{name}.")]
    return [(name, value) for name, value in own if value is not None] + inner
