"""How training is spread over processes: replicas, shards, shares of a video's tokens. torchrun, Ray Train and a lone process
look the same."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
import torch.distributed as dist
from pydantic import ConfigDict, Field
from torch import Tensor, nn
from torch.distributed import ProcessGroup
from torch.distributed._functional_collectives import all_to_all_single_autograd
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.functional import pad

from curation.trainer.errors import TrainerError

Degree = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True)
class Parallel:
    """How many processes do what; the product is all of them. Left out, the weights are sharded over all (FSDP)."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid", strict=True)

    replicate: Degree | None = None
    """Copies of the model, each with clips of its own (with `shard` > 1: HSDP); null: as many as are left."""
    shard: Degree | None = None
    """Processes over which a copy's weights, gradients, moments and averages are sharded (1: none, plain replicas); null: as many
    as are left."""
    context: Degree = 1
    """Processes that share the tokens of the same clips (Ulysses; must divide the heads); weights are sharded over them, too."""

    def degrees(self, world: int) -> tuple[int, int, int]:
        """Of replicate, shard and context with `world` processes. Raises `TrainerError`."""
        left = world // ((self.replicate or 1) * (self.shard or 1) * self.context)
        shard = self.shard or left
        replicate = self.replicate or (left if self.shard else 1)
        if replicate * shard * self.context != world:
            wanted = ", ".join(f"{k}: {v}" for k, v in vars(self).items() if v)
            raise TrainerError(f"training.parallel: {{{wanted}}} does not come to the {world} processes there are")
        return replicate, shard, self.context


@dataclass(frozen=True)
class Process:
    """This process: its rank of `world`, the device it computes on, and how many work on the same clips."""

    rank: int
    world: int
    device: torch.device
    context: int = 1

    @property
    def leads(self) -> bool:
        """Whether it is the one that writes logs, samples and names of checkpoints."""
        return self.rank == 0

    @property
    def data_rank(self) -> int:
        """Whose clips it has, of `data_world`."""
        return self.rank // self.context

    @property
    def data_world(self) -> int:
        return self.world // self.context

    def barrier(self) -> None:
        """Wait for all."""
        if self.world > 1:
            dist.barrier()

    def mean(self, value: Tensor) -> Tensor:
        """The mean over all processes, on each of them."""
        if self.world > 1:
            value = value.clone()
            dist.all_reduce(value)
            value /= self.world
        return value

    def any(self, *flags: Tensor | bool) -> list[bool]:
        """Of each flag whether it is raised in any process, on each of them. Waits for the device."""
        raised = torch.stack([torch.as_tensor(flag, device=self.device) for flag in flags]).int()
        if self.world > 1:
            dist.all_reduce(raised, dist.ReduceOp.MAX)
        return [bool(value) for value in raised.tolist()]

    def gathered(self, value: Any) -> list[Any]:
        """Every process's value, in order of rank, on each of them."""
        found = [value] * self.world
        if self.world > 1:
            dist.all_gather_object(found, value)
        return found


@contextmanager
def joined(parallel: Parallel) -> Iterator[Process]:
    """Join the group that the environment describes (torchrun sets WORLD_SIZE); a group that Ray Train made is taken as it is."""
    world, local_rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda", local_rank % torch.cuda.device_count()) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    ours = world > 1 and not dist.is_initialized()
    if ours:
        dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo")
    try:
        there = dist.is_initialized()
        process = Process(dist.get_rank() if there else 0, dist.get_world_size() if there else 1, device, parallel.context)
        parallel.degrees(process.world)
        yield process
        process.barrier()  # none leaves while another still talks to it
    finally:
        if ours:
            dist.destroy_process_group()


def parallelize(model: nn.Module, blocks: list[nn.Module], process: Process, parallel: Parallel, half: bool) -> None:
    """Spread a model, best on the meta device, over the processes (FSDP2, a group per block). Alone: it stays as it is.

    When `half`, blocks are gathered in bfloat16; what stands around them (paper: 0.09 of 16.5 billion parameters) and all
    reductions are float32. Raises `TrainerError`.
    """
    replicate, shard, context = parallel.degrees(process.world)
    if process.world == 1:
        return
    if context > 1:
        mesh = init_device_mesh(process.device.type, (process.data_world, context), mesh_dim_names=("data", "context"))
        share_tokens(model, mesh["context"].get_group(), context)
    both = init_device_mesh(process.device.type, (replicate, shard * context), mesh_dim_names=("replicate", "shard"))
    mesh = both if replicate > 1 else both["shard"]
    kind = torch.bfloat16 if half else None  # of the parameters; times and latents the model casts itself, where it must
    policy = MixedPrecisionPolicy(param_dtype=kind, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for block in blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    around = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)
    fully_shard(model, mesh=mesh, mp_policy=around, reshard_after_forward=True)  # the averaged weights can take its place


def share_tokens(model: nn.Module, group: ProcessGroup, context: int) -> None:
    """Tell a model's modules that have a `context_group`. Raises `TrainerError` where heads do not divide, or there are none."""
    modules: list[Any] = [module for module in model.modules() if hasattr(module, "context_group")]
    heads = [module.heads for module in modules if isinstance(getattr(module, "heads", None), int)]
    if not modules or any(count % context for count in heads):
        why = f"it does not divide {heads[0]} heads" if heads else "this model cannot share a video's tokens"
        raise TrainerError(f"training.parallel: context: {context}: {why}")
    for module in modules:
        module.context_group = group


def share(x: Tensor, group: ProcessGroup, dim: int) -> Tensor:
    """This process's part of `x` along `dim`: equal parts in order, the last ones filled up with zeros."""
    count = -(-x.shape[dim] // group.size())
    filling = count * group.size() - x.shape[dim]
    whole = pad(x, (*[0, 0] * (x.ndim - 1 - dim), 0, filling)) if filling else x
    return whole.narrow(dim, group.rank() * count, count)


def exchanged(x: Tensor, group: ProcessGroup, scatter: int, gather: int) -> Tensor:
    """Give each process its part of `x` along dimension `scatter` (which must divide) and get theirs, joined along `gather`."""
    count = group.size()
    parts = x.unflatten(scatter, (count, -1)).movedim(scatter, 0).contiguous()
    theirs = all_to_all_single_autograd(parts, [1] * count, [1] * count, group)
    return theirs.movedim(0, gather).flatten(gather, gather + 1)


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, group: ProcessGroup, dim: int) -> Tensor:
        context.group, context.dim, context.count = group, dim, x.shape[dim]
        parts = [torch.empty_like(x) for _ in range(group.size())]
        dist.all_gather(parts, x.contiguous(), group=group)
        return torch.cat(parts, dim)

    @staticmethod
    def backward(context: Any, *gradients: Any) -> Any:
        return gradients[0].narrow(context.dim, context.group.rank() * context.count, context.count), None, None


def gathered(x: Tensor, group: ProcessGroup, dim: int) -> Tensor:
    """Undoes `share`, but for the filling. Backward each process has the gradient of its own part, once: all of them compute the
    same loss, and parameters' gradients are summed over them later."""
    return _Gathered.apply(x, group, dim)


@torch.no_grad()
def put(target: Tensor, value: Tensor | float) -> None:
    """Fill a tensor, or this process's shard of it, with a whole one (or a number). Nothing is sent."""
    if not isinstance(value, Tensor):
        target.fill_(value)
    elif isinstance(target, DTensor):
        whole = value.to(target.device, target.dtype)
        target.copy_(distribute_tensor(whole, target.device_mesh, target.placements, src_data_rank=None))
    else:
        target.copy_(value)


def local(tensor: Tensor) -> Tensor:
    """What this process holds of it, sharing its memory."""
    tensor = tensor.detach()
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
