"""Checkpoints of a training run: written by all processes together, named when they are whole, and weights apart for sampling."""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from curation.storage import publish
from curation.trainer.distributed import Process
from curation.trainer.errors import TrainerError

WEIGHTS = "weights.safetensors"
"""The averaged weights of a checkpoint, by parameter name: what sampling and a later stage read. Nothing in it is code."""
Averages = dict[str, torch.Tensor]
"""Parameter name → its exponential moving average, float32, sharded as the parameter is."""


def folder(out: Path, step: int) -> Path:
    return out / "checkpoints" / f"step-{step:08d}"


def steps(out: Path) -> list[int]:
    """Steps of which there is a whole checkpoint, in order."""
    found = (re.fullmatch(r"step-(\d{8})", path.name) for path in (out / "checkpoints").glob("step-*"))
    return sorted(int(match[1]) for match in found if match)


@dataclass
class State:
    """What a checkpoint holds of the training, changed in place by `restore`."""

    model: nn.Module
    optimizer: Optimizer
    average: Averages

    def tensors(self) -> dict[str, Any]:
        weights, moments = get_state_dict(self.model, self.optimizer)
        return {"model": weights, "optimizer": moments, "average": self.average}


def save(out: Path, step: int, state: State, process: Process, keep: int) -> None:
    """Write one checkpoint: the state by torch's distributed checkpoint, and the averaged weights.

    It gets its name when all is written, so a checkpoint that has one is whole; all but the newest `keep` go.
    """
    target = folder(out, step)
    temporary = target.with_name(f".{target.name}.tmp")  # one name for all ranks
    if process.leads:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    process.barrier()
    with _quietly():
        dcp.save(state.tensors(), checkpoint_id=temporary, no_dist=process.world == 1)
    whole = {name: value.detach().cpu().contiguous() for name, value in _gathered(state.average)}
    if process.leads:
        save_file(whole, temporary / WEIGHTS)
    process.barrier()
    if process.leads:
        shutil.rmtree(target, ignore_errors=True)
        publish(temporary, target)
        for old in steps(out)[:-keep]:
            shutil.rmtree(folder(out, old))
    process.barrier()


def _gathered(average: Averages) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and whole tensor, one after another; every rank must go along."""
    for name, value in average.items():
        yield name, value.full_tensor() if isinstance(value, DTensor) else value


@contextmanager
def _quietly() -> Iterator[None]:
    """A lone process is no matter for a warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def restore(out: Path, step: int, state: State, process: Process) -> None:
    """Load a checkpoint of this run in place, on any number of processes."""
    source = folder(out, step)
    tensors = state.tensors()
    with _quietly():
        dcp.load(tensors, checkpoint_id=source, no_dist=process.world == 1)
    whole = {"model_state_dict": tensors["model"], "optim_state_dict": tensors["optimizer"]}
    set_state_dict(state.model, state.optimizer, **whole)


def weights(path: Path) -> Averages:
    """The averaged weights of a safetensors file, of a checkpoint's folder, or of the newest checkpoint of a training run."""
    newest = steps(path)
    for file in (path, path / WEIGHTS, *([folder(path, newest[-1]) / WEIGHTS] if newest else [])):
        if file.is_file():
            try:
                return load_file(file)
            except SafetensorError as error:
                raise TrainerError(f"{file} is no safetensors file: {error}") from error
    raise TrainerError(f"{path} is no training run, checkpoint or safetensors file: no {WEIGHTS} in it")


def fill(model: nn.Module, values: Averages, source: Path, new: str = "") -> None:
    """Load weights by name. Parameters whose name contains `new` may be absent and keep their start values.

    Raises `TrainerError` when others are missing, too many or of another shape.
    """
    own = model.state_dict()
    wrong = [f"no {name}" for name in own if name not in values and not (new and new in name)]
    wrong += [f"unknown {name}" for name in values if name not in own]
    for name, value in own.items():
        if name in values and values[name].shape != value.shape:
            wrong.append(f"{name} {tuple(values[name].shape)}, not {tuple(value.shape)}")
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise TrainerError(f"{source} does not fit this model: {wrong[0]}{more}")
    model.load_state_dict(values, strict=False)
