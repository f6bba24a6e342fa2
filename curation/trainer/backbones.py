"""The transformer of a recipe: this project's own, or a pretrained one of diffusers' that `personalize` extends, in its place."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from curation.models.pretrained import WrongWeights, loaded
from curation.store import store
from curation.trainer import flow
from curation.trainer.errors import TrainerError
from curation.trainer.layers import attention_kept
from curation.trainer.model import ADAPTER, PERSONALIZATION, Architecture, DiT, Size
from curation.trainer.personalize import Personalization, adapt, blocks, text_dim

if TYPE_CHECKING:
    from curation.trainer.conditions import Parts
    from curation.trainer.config import Config

ENCODERS = {
    "wan2.1-1.3b": ("umt5", "wan"),
    "wan2.1-14b": ("umt5", "wan"),
    "cogvideox-2b": ("t5-cogvideox", "cogvideox-2b"),
    "cogvideox-5b": ("t5-cogvideox", "cogvideox"),
}
"""Name of a backbone, in recipes and in the store → the text encoder and the codec that it was trained with."""


def check(config: Config) -> None:
    """Raises `TrainerError` where a recipe's sections do not go together."""
    name, lora = config.model.backbone, config.training.layers == "lora"
    told = config.encoders.text, config.encoders.codec
    if name != "own" and told != ENCODERS[name]:
        text, codec = ENCODERS[name]
        raise TrainerError(f"{config.path}: model.backbone {name} was trained with encoders: {{text: {text}, codec: {codec}}}")
    if name == "own" and (config.model.lora or config.model.backbone_weights):
        raise TrainerError(f"{config.path}: model.lora and model.backbone_weights are for a pretrained model.backbone")
    if lora != bool(config.model.lora):
        raise TrainerError(f"{config.path}: training.layers: lora and a rank, model.lora, go together")


def build(config: Config, parts: Parts) -> DiT | Backbone:
    """Our own transformer on the meta device, without weights; or a pretrained one on the CPU, its new layers drawn from the
    recipe's seed: `distributed.parallelize` brings each process its shards. Raises `TrainerError`, `StoreError`.

    A backbone that stays as it is has bfloat16 weights on a GPU, if the recipe computes in it; one that is trained float32 ones.
    """
    knobs, training = config.model, config.training
    if knobs.backbone == "own":
        with torch.device("meta"):
            return DiT(parts.size)
    frozen = training.layers in ("personalization", "lora")
    half = training.precision == "bf16" and frozen and parts.device.type == "cuda"
    transformer = _loaded(knobs, torch.bfloat16 if half else torch.float32)
    if text_dim(transformer) != parts.size.text_dim or transformer.config.in_channels != parts.size.channels:
        met = f"text of {text_dim(transformer)} and latents of {transformer.config.in_channels} channels"
        raise TrainerError(f"model.backbone takes {met}, not {parts.size.text_dim} and {parts.size.channels}")
    if (length := transformer.config.get("max_text_seq_length")) not in (None, parts.text_length):
        raise TrainerError(f"encoders.text_length: this CogVideoX reads {length} tokens, not {parts.text_length}")
    return _wrapped(transformer, parts.size, parts.schedule, training.seed)


def given(model: nn.Module) -> set[str]:
    """Names of a pretrained backbone's own parameters, which a file of the new layers lacks; nothing of our own transformer."""
    if isinstance(model, DiT):
        return set()
    return {name for name, _ in model.named_parameters() if PERSONALIZATION not in name and ADAPTER not in name}


def schedule(knobs: Architecture) -> flow.Schedule:
    """The times a recipe's transformer is trained at and makes videos by."""
    if not knobs.backbone.startswith("cogvideox"):
        return flow.Schedule()
    from diffusers import CogVideoXDDIMScheduler

    folder = _folder(knobs)
    for file in (folder / "scheduler" / "scheduler_config.json", folder / "scheduler_config.json"):
        if file.is_file():
            return Diffusion(CogVideoXDDIMScheduler.from_config(json.loads(file.read_text())))
    raise TrainerError(f"{folder}: no scheduler/scheduler_config.json, which says how noisy CogVideoX's steps are")


def _folder(knobs: Architecture) -> Path:
    return store.folder_of(knobs.backbone, knobs.backbone_weights)[0]


def _loaded(knobs: Architecture, dtype: torch.dtype) -> Any:
    from diffusers import CogVideoXTransformer3DModel, WanTransformer3DModel

    folder = _folder(knobs)
    cls = WanTransformer3DModel if knobs.backbone.startswith("wan") else CogVideoXTransformer3DModel
    try:
        transformer = loaded(cls, folder / "transformer" if (folder / "transformer").is_dir() else folder, "cpu", dtype)
    except WrongWeights as error:
        raise TrainerError(f"model.backbone: {error}") from error
    if knobs.backbone.startswith("cogvideox") and transformer.config.patch_size_t:
        raise TrainerError(f"{folder} is a CogVideoX 1.5; only 1.0 is known here")
    return transformer


class Diffusion(flow.Schedule):
    """CogVideoX's thousand steps as times of rectified flow.

    z_t of one is √(α²+σ²)-scaled z_t of the other where σ/α = t/(1 − t), so step k has time σ_k/(α_k + σ_k); the last, of zero
    signal-to-noise ratio, is 1. A DDIM step between two of them is then exactly an Euler step (a test holds them together).
    """

    def __init__(self, scheduler: Any):
        if scheduler.config.prediction_type != "v_prediction":
            raise TrainerError(f"CogVideoX predicts v, not {scheduler.config.prediction_type!r}")
        alpha, sigma = scheduler.alphas_cumprod.sqrt(), (1 - scheduler.alphas_cumprod).sqrt()
        self.of_step = (sigma / (alpha + sigma)).float()
        """Time of each step, rising."""

    def draw(self, n: int, generator: torch.Generator, shift: float) -> Tensor:
        """Each step as likely, as in diffusers' own training script (examples/cogvideo); there is no shift."""
        return self.of_step[torch.randint(len(self.of_step), (n,), generator=generator)]

    def nearest(self, t: Tensor) -> Tensor:
        return self.of_step.to(t.device)[self.steps(t)]

    def steps(self, t: Tensor) -> Tensor:
        """Those whose times are nearest to t [B]."""
        return (t[:, None] - self.of_step.to(t.device)).abs().argmin(1)

    def times(self, count: int, shift: float) -> Tensor:
        """`count` steps with one spacing that end ("trailing") at the noisiest, as in its pipeline."""
        steps = torch.arange(len(self.of_step), 0, -len(self.of_step) / count, dtype=torch.float64)[:count].round().long() - 1
        return torch.cat([self.of_step[steps], torch.zeros(1)])


class Backbone(nn.Module):
    """A pretrained transformer with personalization layers; what `DiT` is to the rest of the trainer. No self-conditioning."""

    tokens = staticmethod(DiT.tokens)

    def __init__(self, transformer: Any, size: Size, schedule: flow.Schedule, seed: int):
        super().__init__()
        self.size, self.schedule = size, schedule
        self.backbone = transformer
        self._flops: dict[tuple[int, ...], int] = {}
        if size.lora:
            adapt(transformer, size.lora, seed)
        if size.checkpointing == "full":
            transformer.enable_gradient_checkpointing()
        elif size.checkpointing == "selective":
            transformer.enable_gradient_checkpointing(partial(checkpoint, use_reentrant=False, context_fn=attention_kept))
        self.personalization: Personalization | None = None
        if size.personalization:
            self.personalization = Personalization(
                transformer,
                image_dim=size.image_dim,
                words=size.words,
                slots=size.slots,
                use_words=size.use_words,
                dropout=size.dropout,
            )
            self.personalization.initialise(seed)

    @property
    def blocks(self) -> nn.ModuleList:
        return blocks(self.backbone)

    def forward(
        self,
        z: Tensor,
        t: Tensor,
        text: Tensor,
        text_mask: Tensor | None,
        images: Tensor,
        words: Tensor,
        slots: Tensor | None,
        self_cond: Tensor | None = None,
    ) -> Tensor:
        """`DiT.forward`'s, but that the text's padding is read, as the backbone was trained; `self_cond` is None."""
        if self.personalization is not None:
            self.personalization.look(images, words, slots)
        kind = self.backbone.proj_out.weight.dtype
        return self.velocity(z, t, text.to(kind), kind)

    def velocity(self, z: Tensor, t: Tensor, text: Tensor, kind: torch.dtype) -> Tensor:
        raise NotImplementedError

    def step_flops(self, shape: tuple[int, int, int, int], text_tokens: int) -> int:
        """Of one training step on one video of latents [C,T,H,W], with what is frozen: counted by torch, without computing."""
        if shape not in self._flops:
            with torch.device("meta"):
                copy = _wrapped(type(self.backbone).from_config(self.backbone.config), self.size, self.schedule, 0)
                size = self.size
                images = torch.empty(1, size.slots, size.image_tokens, size.image_dim)
                words = torch.empty(1, size.slots, size.words, size.text_dim)
                slots, mask = (torch.empty(1, n, dtype=torch.bool) for n in (size.slots, text_tokens))
                given = torch.empty(1, *shape), torch.empty(1), torch.empty(1, text_tokens, size.text_dim), mask
            copy.backbone.disable_gradient_checkpointing()  # recomputation does not count
            for mine, theirs in zip(self.parameters(), copy.parameters(), strict=True):
                theirs.requires_grad_(mine.requires_grad)
            with FlopCounterMode(display=False) as counted:
                copy(*given, images, words, slots).sum().backward()
            self._flops[shape] = counted.get_total_flops()
        return self._flops[shape]


class Wan(Backbone):
    """Wan 2.1: rectified flow like ours, told of times as 0…1000."""

    def velocity(self, z: Tensor, t: Tensor, text: Tensor, kind: torch.dtype) -> Tensor:
        return self.backbone(z.to(kind), 1000 * t, text, return_dict=False)[0].float()


class CogVideoX(Backbone):
    """CogVideoX 1.0: of √ᾱ·x₀ + √(1−ᾱ)·ε it predicts v = √ᾱ·ε − √(1−ᾱ)·x₀; both are our latents and velocity in other words."""

    schedule: Diffusion

    def velocity(self, z: Tensor, t: Tensor, text: Tensor, kind: torch.dtype) -> Tensor:
        step = self.schedule.steps(t)
        length = torch.sqrt((1 - t) ** 2 + t**2)
        alpha, sigma = (part.view(-1, 1, 1, 1, 1) for part in ((1 - t) / length, t / length))
        noisy = z / length.view(-1, 1, 1, 1, 1)
        frames = noisy.to(kind).transpose(1, 2)
        v = self.backbone(frames, text, step, image_rotary_emb=self._rotary(z), return_dict=False)[0].float().transpose(1, 2)
        return (sigma + alpha) * v + (sigma - alpha) * noisy  # ε − x₀, of ε = σz + αv and x₀ = αz − σv

    def _rotary(self, z: Tensor) -> tuple[Tensor, Tensor] | None:
        """The 5B's rotary places, as its pipeline computes them: the grid it was trained at, cropped and stretched to ours."""
        known = self.backbone.config
        if not known.use_rotary_positional_embeddings:
            return None
        from diffusers.models.embeddings import get_3d_rotary_pos_embed
        from diffusers.pipelines.cogvideo.pipeline_cogvideox import get_resize_crop_region_for_grid

        grid = z.shape[3] // known.patch_size, z.shape[4] // known.patch_size
        base = known.sample_width // known.patch_size, known.sample_height // known.patch_size
        crops = get_resize_crop_region_for_grid(grid, *base)
        return get_3d_rotary_pos_embed(known.attention_head_dim, crops, grid, z.shape[2], device=z.device)


def _wrapped(transformer: Any, size: Size, schedule: flow.Schedule, seed: int) -> Backbone:
    cls = Wan if hasattr(transformer, "condition_embedder") else CogVideoX
    return cls(transformer, size, schedule, seed)
