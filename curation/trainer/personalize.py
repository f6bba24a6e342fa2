"""Personalization layers on a transformer of diffusers': after each of its blocks a cross-attention to reference images, bound to
words (PAPER.md §4). The transformer stays what it is, in its class, its weights' names and its pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import silu

from curation.trainer.errors import TrainerError
from curation.trainer.layers import Binding, CrossAttention, Residual
from curation.trainer.model import ADAPTER, PERSONALIZATION, Context

if TYPE_CHECKING:
    from curation.trainer.conditions import Conditions

PROJECTIONS = ["to_q", "to_k", "to_v", "to_out.0"]
"""Of a backbone's attention layers, that get adapters: all, as diffusers' own scripts choose."""


class Personalization:
    """The new layers of a transformer, and what they look at. Their gates start at zero: the transformer then does, bit for bit,
    what it does without them."""

    def __init__(self, transformer: Any, *, image_dim: int, words: int, slots: int, use_words: bool, dropout: float = 0.0):
        """Adds them, in float32, to a `WanTransformer3DModel` or `CogVideoXTransformer3DModel`; nothing is drawn yet."""
        known = transformer.config
        heads, width = known.num_attention_heads, known.num_attention_heads * known.attention_head_dim
        wan = hasattr(transformer, "condition_embedder")
        embedder = transformer.condition_embedder if wan else transformer.time_embedding
        self.transformer, self.words, self.slots = transformer, words, slots
        self.images: Context | None = None
        """Bound tokens [B,N·l,image_dim] of the pictures; None: the new layers are passed over."""
        self.shared: Tensor | None = None
        """Of this pass: shift, scale and gate that the blocks share, [B, 3·width], as in Wan. A matrix for each block would be as
        large as the cross-attention itself."""
        transformer.personalization_binding = Binding(
            image_dim=image_dim, text_dim=text_dim(transformer), words=words, slots=slots, use_words=use_words
        )
        transformer.personalization_modulation = nn.Linear(width if wan else known.time_embed_dim, 3 * width)
        embedder.register_forward_hook(self._after_time)
        for block in blocks(transformer):
            block.personalization = Residual(CrossAttention(width, heads, True, image_dim), width, dropout, "shared")
            block.register_forward_hook(self._after_block)

    @torch.no_grad()
    def initialise(self, seed: int) -> None:
        """As `DiT.initialise`: weights Xavier-uniform, index embeddings normal(0.02), modulations and biases zero."""
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.transformer.named_parameters():
            if PERSONALIZATION not in name or parameter.is_meta:
                continue
            if name.endswith("index"):
                parameter.copy_(torch.empty(parameter.shape).normal_(std=0.02, generator=generator))
            elif parameter.ndim == 1:
                parameter.fill_(1.0 if "_norm." in name else 0.0)
            elif "modulation" in name:
                parameter.zero_()
            else:
                parameter.copy_(nn.init.xavier_uniform_(torch.empty(parameter.shape), generator=generator))

    def look(self, images: Tensor, words: Tensor, slots: Tensor | None) -> None:
        """What the passes from now on are shown: `DiT.forward`'s images, words and slots."""
        binding = self.transformer.personalization_binding
        kind = binding.linear.weight.dtype
        self.images = binding(images.to(kind), words.to(kind), slots)

    @torch.no_grad()
    def show(self, conditions: Conditions) -> None:
        """The same for a pipeline's next calls, of one caption with its references."""
        self.look(conditions.images, conditions.words, conditions.slots)

    def _after_time(self, module: nn.Module, given: Any, made: Any) -> None:
        if self.images is not None:
            self.shared = self.transformer.personalization_modulation(silu(made[0] if isinstance(made, tuple) else made))

    def _after_block(self, block: Any, given: Any, made: Any) -> Any:
        """Wan's blocks give the video's tokens, CogVideoX's these and the text's."""
        if self.images is None:
            return made
        x, *text = made if isinstance(made, tuple) else (made,)
        copies = len(x) // len(self.images[0])  # CogVideoX's pipeline makes both passes of guidance in one
        tokens, mask = (part if part is None else part.repeat(copies, *[1] * (part.ndim - 1)) for part in self.images)
        x = block.personalization(x, self.shared, tokens, mask, shared=self.shared).type_as(x)
        return (x, *text) if text else x


def blocks(transformer: Any) -> nn.ModuleList:
    return transformer.blocks if hasattr(transformer, "blocks") else transformer.transformer_blocks


def text_dim(transformer: Any) -> int:
    """Channels of a text token's embedding."""
    return transformer.config.get("text_dim") or transformer.config.text_embed_dim


def adapt(transformer: Any, rank: int, seed: int = 0) -> None:
    """Low-rank adapters (LoRA), in float32, around the projections of the transformer's own attention; they start as if absent.

    Raises `TrainerError` without the package peft.
    """
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise TrainerError("model.lora needs the package peft: pip install 'curation[train]'") from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=PROJECTIONS))
    for name, parameter in transformer.named_parameters():
        if ADAPTER in name:
            parameter.data = parameter.data.float()


def load(transformer: Any, file: str | Path) -> Personalization:
    """Put what a training run saved with a frozen backbone (its `weights.safetensors`: the new layers, perhaps adapters) into the
    transformer of a diffusers pipeline, in its dtype and on its device. Raises `TrainerError` when they do not fit."""
    values = {name.removeprefix("backbone."): value for name, value in load_file(file).items()}
    if not any(PERSONALIZATION in name for name in values):
        raise TrainerError(f"{file} has no personalization layers")
    slots, image_dim = values["personalization_binding.index"].shape
    words = (values["personalization_binding.linear.weight"].shape[1] - image_dim) // text_dim(transformer)
    if ranks := [len(value) for name, value in values.items() if "lora_A" in name]:
        adapt(transformer, ranks[0])
    made = Personalization(transformer, image_dim=image_dim, words=words, slots=slots, use_words=words > 0)
    own = transformer.state_dict()
    wrong = [name for name in own if (PERSONALIZATION in name or ADAPTER in name) and name not in values]
    wrong += [name for name, value in values.items() if name not in own or own[name].shape != value.shape]
    if wrong:
        raise TrainerError(f"{file} does not fit this {type(transformer).__name__}: {wrong[0]}")
    transformer.load_state_dict(values, strict=False)
    for name, parameter in transformer.named_parameters():
        if PERSONALIZATION in name or ADAPTER in name:
            parameter.data = parameter.data.to(transformer.device, transformer.proj_out.weight.dtype)
    return made
