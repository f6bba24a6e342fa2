"""Where a training process stands among the others: torchrun, Ray Train and a lone process look the same."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

Parallel = Literal["ddp", "fsdp"]


@dataclass(frozen=True)
class Process:
    """This process: its rank of `world`, and the device it computes on."""

    rank: int
    world: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether it is the one that writes logs, samples and names of checkpoints."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait for all."""
        if self.world > 1:
            dist.barrier()

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """The mean over all processes, on each of them."""
        if self.world > 1:
            value = value.clone()
            dist.all_reduce(value)
            value /= self.world
        return value


@contextmanager
def joined() -> Iterator[Process]:
    """Join the group that the environment describes (torchrun sets WORLD_SIZE); a group that Ray Train made is taken as it is."""
    world, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda", local % torch.cuda.device_count()) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    ours = world > 1 and not dist.is_initialized()
    if ours:
        dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo")
    try:
        there = dist.is_initialized()
        process = Process(dist.get_rank() if there else 0, dist.get_world_size() if there else 1, device)
        yield process
        process.barrier()  # none leaves while another still talks to it
    finally:
        if ours:
            dist.destroy_process_group()


def parallelize(model: nn.Module, blocks: list[nn.Module], process: Process, how: Parallel, half: bool) -> nn.Module:
    """The model on all processes: replicated (`ddp`), or its parameters, gradients and optimiser states sharded (`fsdp`: FSDP2, a
    group per block, gathered in bfloat16 when `half`). Alone: as it is."""
    if process.world == 1:
        return model
    if how == "fsdp":
        mesh = init_device_mesh(process.device.type, (process.world,))
        kind = torch.bfloat16 if half else None  # of the parameters; times and latents the model casts itself, where it must
        policy = MixedPrecisionPolicy(param_dtype=kind, reduce_dtype=torch.float32, cast_forward_inputs=False)
        for block in blocks:
            fully_shard(block, mesh=mesh, mp_policy=policy)
        fully_shard(model, mesh=mesh, mp_policy=policy, reshard_after_forward=True)  # the averaged weights can take its place
        return model
    return DistributedDataParallel(model, device_ids=[process.device.index] if process.device.type == "cuda" else None)
