"""Memory that training takes of one device, by arithmetic on the meta device: before a cluster is asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from curation.trainer.distributed import Parallel
from curation.trainer.model import Block, DiT, Layers, Size, freeze


@dataclass(frozen=True)
class Memory:
    """Bytes of one process, the one with the largest shards. Encoders, the allocator's losses, kernels' workspaces are not in."""

    weights: int
    """float32, its shards of all parameters."""
    gradients: int
    moments: int
    averages: int
    """Of its shards of what is trained."""
    gathered: int
    """Two blocks' whole weights, the one at work and the next, one's whole gradients, and what stands around the blocks; alone,
    autocast's bfloat16 copies of all weights."""
    kept: int
    """Activations that wait for the backward pass: of all blocks, or with checkpointing the blocks' inputs (float32) and with
    `selective` also attention's outputs."""
    block: int
    """With checkpointing, the activations of the one block that is computed again."""

    @property
    def total(self) -> int:
        return sum(vars(self).values())


def memory(
    size: Size,
    parallel: Parallel,
    world: int,
    *,
    clips: int,
    tokens: int,
    text_tokens: int,
    layers: Layers = "all",
    half: bool = True,
) -> Memory:
    """Of training with micro-batches of `clips` clips of so many tokens on each group of `context` processes.

    Activations are those of eager mode, counted on the very layers; compiled ones are fewer. Raises `TrainerError`.
    """
    _, shard, context = parallel.degrees(world)
    with torch.device("meta"):
        model = DiT(size)
    freeze(model, layers)
    count = shard * context
    shards = {name: 4 * math.prod([-(-p.shape[0] // count), *p.shape[1:]]) for name, p in model.named_parameters()}
    trained = sum(shards[name] for name, p in model.named_parameters() if p.requires_grad)
    kind = 2 if half else 4
    block = sum(p.numel() for p in model.blocks[0].parameters())
    around = sum(p.numel() for p in model.parameters()) - size.blocks * block
    gathered = (2 * kind + kind + 4) * block + 2 * 4 * around if world > 1 else 2 * half * (block * size.blocks + around)
    saved = saved_by_a_block(size, clips, -(-tokens // context), text_tokens, half)
    kept = size.blocks * saved
    if size.checkpointing != "none":
        rows = clips * -(-tokens // context)
        kept = size.blocks * rows * size.width * 4
        if size.checkpointing == "selective":
            attentions = 2 + size.personalization
            kept += size.blocks * attentions * rows * (size.width * kind + 4 * size.heads)
    return Memory(
        weights=sum(shards.values()),
        gradients=trained,
        moments=2 * trained,
        averages=trained,
        gathered=gathered,
        kept=kept,
        block=0 if size.checkpointing == "none" else saved,
    )


def saved_by_a_block(size: Size, clips: int, tokens: int, text_tokens: int, half: bool) -> int:
    """Bytes that one block saves for its backward pass, beside its weights."""
    found: dict[int, tuple[int, torch.UntypedStorage]] = {}  # the storages are held, so that no two have one address
    with FakeTensorMode():
        block = Block(size)
        for module in block.modules() if half else ():  # as they are gathered, or as autocast copies them
            for name, parameter in module.named_parameters(recurse=False):
                setattr(module, name, nn.Parameter(parameter.detach().bfloat16()))
        x = torch.empty(clips, tokens, size.width, requires_grad=True)
        time = torch.empty(clips, size.width)
        rotary = (torch.empty(tokens, size.width // size.heads // 2), torch.empty(tokens, size.width // size.heads // 2))
        contexts = [
            (torch.empty(clips, length, channels), torch.ones(clips, length, dtype=torch.bool))
            for length, channels in ((text_tokens, size.text_dim), (size.slots * size.image_tokens, size.image_dim))
        ]
        residuals = ["attention", "text", "personalization", "mlp"] if size.adaln != "full" else []
        shared = {name: torch.empty(clips, 3 * size.width) for name in residuals}
        given = [*block.parameters(), time, *rotary, *contexts[0], *contexts[1], *shared.values()]
        others = {tensor.untyped_storage()._cdata for tensor in given}

        def note(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in others:
                found[storage._cdata] = (storage.nbytes(), storage)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16, half):
            block.layers(x, time, rotary, tokens, contexts[0], contexts[1], shared)
    return sum(count for count, _ in found.values())
