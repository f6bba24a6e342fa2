"""Checkpoints of a training run: each process writes its shards in the background, a name says that all is written; and averaged
weights out of them, tensor by tensor."""

from __future__ import annotations

import json
import re
import shutil
import struct
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.optim import Optimizer

from curation.storage import publish, replacing
from curation.trainer.distributed import Process, put
from curation.trainer.errors import TrainerError

warnings.filterwarnings("ignore", message=".*torch.distributed is disabled")  # a lone process is no matter for a warning
WEIGHTS = "weights.safetensors"
"""The averaged weights by parameter name, in a run's last checkpoint and where `export` puts them. Nothing in it is code."""


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
    """AdamW, with its moments there."""
    average: dict[str, Tensor]
    """Trained parameter's name → its exponential moving average, float32, sharded as the parameter is."""
    frozen: bool = True
    """Whether the parameters that are not trained are in it, too; a pretrained backbone's are where they came from."""

    def tensors(self) -> dict[str, Any]:
        """By part and parameter; sharded ones as `DTensor`, so another number of processes may read them."""
        moments = {name: self.optimizer.state[p] for name, p in self.model.named_parameters() if p.requires_grad}
        return {
            "model": {n: p.detach() for n, p in self.model.named_parameters() if self.frozen or p.requires_grad},
            "average": self.average,
            **{kind: {name: m[kind] for name, m in moments.items()} for kind in ("exp_avg", "exp_avg_sq")},
            "updates": next(iter(moments.values()))["step"].clone(),
        }

    def updated(self, count: Tensor) -> None:
        """Tell the optimiser how many updates there were."""
        for moments in self.optimizer.state.values():
            moments["step"].fill_(count.item())


class Checkpoints:
    """Writes checkpoints of a run; all processes call the same methods at the same steps.

    A save copies the state to the host's memory (16 bytes a parameter, over all processes together) and returns; threads write
    while training goes on. The checkpoint gets its name when all is written, so one that has a name is whole; all but the newest
    `keep` go.
    """

    def __init__(self, out: Path, process: Process, keep: int):
        self.out, self.process, self.keep = out, process, keep
        self.group = dist.new_group(backend="gloo") if process.world > 1 else None  # the threads talk apart from the training
        self._pending: tuple[int, bool, Future[Metadata]] | None = None

    def save(self, step: int, state: State, last: bool = False) -> None:
        """Begin one. `last`: with the averaged weights as `WEIGHTS` in it."""
        self.settle(wait=True)
        temporary = self._temporary(step)
        if self.process.leads:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
        self.process.barrier()
        writer = dcp.FileSystemWriter(temporary)
        begun = dcp.async_save(state.tensors(), storage_writer=writer, process_group=self.group, no_dist=self.group is None)
        assert isinstance(begun, Future)  # this writer copies before it returns
        self._pending = (step, last, begun)

    def settle(self, wait: bool = False) -> None:
        """Give the checkpoint under way its name if it is written; `wait` until it is. Raises `TrainerError` if it fails."""
        if self._pending and (wait or self.process.leads and self._pending[2].done()):
            step, last, written = self._pending
            self._pending = None
            try:
                written.result()
            except Exception as error:
                reason = str(error.__cause__ or error).strip().splitlines()[-1:]
                raise TrainerError(f"the checkpoint of step {step} could not be written: {' '.join(reason)}") from error
            if self.process.leads:
                self._publish(step, last)
        if wait:
            self.process.barrier()

    def _publish(self, step: int, last: bool) -> None:
        temporary, target = self._temporary(step), folder(self.out, step)
        if last:
            export(temporary, temporary / WEIGHTS)
        shutil.rmtree(target, ignore_errors=True)
        publish(temporary, target)
        for old in steps(self.out)[: -self.keep]:
            shutil.rmtree(folder(self.out, old))

    def _temporary(self, step: int) -> Path:
        target = folder(self.out, step)
        return target.with_name(f".{target.name}.tmp")  # one name for all ranks


def restore(out: Path, step: int, state: State, process: Process) -> None:
    """Load a checkpoint of this run in place, also one that another number of processes wrote."""
    source, tensors = folder(out, step), state.tensors()
    dcp.load(tensors, checkpoint_id=source, no_dist=process.world == 1)
    state.updated(tensors["updates"])


class Weights(Mapping[str, Tensor]):
    """Averaged weights by parameter name, each read when it is asked for."""

    def __init__(self, path: Path, shapes: dict[str, torch.Size], read: Callable[[str], Tensor]):
        self.path, self.shapes, self._read = path, shapes, read

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.shapes:
            raise KeyError(name)
        return self._read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


def weights(path: Path) -> Weights:
    """The averaged weights of a safetensors file, of a checkpoint's folder, or of the newest checkpoint of a training run.

    Parameters that were not trained have no average: theirs are the weights themselves. Raises `TrainerError`.
    """
    newest = steps(path)
    checkpoint = folder(path, newest[-1]) if newest else path
    for file in (path, checkpoint / WEIGHTS):
        if file.is_file():
            return _of_safetensors(file)
    if (checkpoint / ".metadata").is_file():
        return _of_shards(checkpoint)
    raise TrainerError(f"{path} is no training run, checkpoint or safetensors file: no {WEIGHTS} in it")


def _of_safetensors(path: Path) -> Weights:
    try:
        file = safe_open(path, "pt")
        shapes = {name: torch.Size(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 it is no mapping
    except SafetensorError as error:
        raise TrainerError(f"{path} is no safetensors file: {error}") from error
    return Weights(path, shapes, file.get_tensor)


def _of_shards(path: Path) -> Weights:
    """Of a distributed checkpoint, in this process alone. Its table of contents is a pickle (`docs/security.md`)."""
    reader = dcp.FileSystemReader(path)
    metadata = reader.read_metadata()
    reader.read_metadata = lambda *_, **__: metadata  # type: ignore[method-assign] # read once, not once a tensor
    stored = {key: value for key, value in metadata.state_dict_metadata.items() if isinstance(value, TensorStorageMetadata)}
    names = [key.removeprefix("model.") for key in stored if key.startswith("model.")]
    keys = {name: next(key for key in (f"average.{name}", f"model.{name}") if key in stored) for name in names}

    def read(name: str) -> Tensor:
        entry = stored[keys[name]]
        found = torch.empty(entry.size, dtype=entry.properties.dtype)
        dcp.load({keys[name]: found}, storage_reader=reader, no_dist=True)
        return found

    return Weights(path, {name: stored[key].size for name, key in keys.items()}, read)


def export(source: Path, file: Path) -> None:
    """Write the averaged weights of a run or checkpoint as one safetensors file, float32; in one process, a tensor in memory at
    a time.

    Raises `TrainerError`.
    """
    found = weights(source)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in found.shapes.items():
        begin, end = end, end + 4 * shape.numel()
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, end]}
    stated = json.dumps(header).encode()
    stated += b" " * (-len(stated) % 8)
    with replacing(file) as temporary, temporary.open("wb") as out:
        out.write(struct.pack("<Q", len(stated)) + stated)
        for value in found.values():
            out.write(value.float().contiguous().numpy().tobytes())


def fill(model: nn.Module, values: Weights, absent: Collection[str] = ()) -> None:
    """Load weights by name, into shards too, one whole tensor at a time. Parameters that `absent` names may be missing and keep
    their start values.

    Raises `TrainerError` when others are missing, too many or of another shape.
    """
    own: dict[str, Tensor] = dict(model.named_parameters())
    wrong = [f"no {name}" for name in own if name not in values and name not in absent]
    wrong += [f"unknown {name}" for name in values if name not in own]
    for name, value in own.items():
        if name in values and values.shapes[name] != value.shape:
            wrong.append(f"{name} {tuple(values.shapes[name])}, not {tuple(value.shape)}")
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise TrainerError(f"{values.path} does not fit this model: {wrong[0]}{more}")
    for name, value in values.items():
        put(own[name], value)
