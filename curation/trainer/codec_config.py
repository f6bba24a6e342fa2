"""A recipe for training a codec: YAML in, checked sections out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from curation import buckets, recipe
from curation.models.codecs import Magvit
from curation.models.magvit import Size
from curation.models.patch_gan import Loss
from curation.trainer.config import Count, file_of, of_buckets
from curation.trainer.data import Data
from curation.trainer.errors import TrainerError

Weight = Annotated[float, Field(ge=0)]


@dataclass(kw_only=True)
class Losses:
    """What the autoencoder minimises: a weighted sum. The papers state KL and nothing else; every number here is ours."""

    l1: Weight = 1.0
    """Of the absolute error, in the mean over pixels in −1..1."""
    l2: Weight = 0.0
    """Of the squared error, likewise."""
    kl: Weight = 1e-5
    """Of the posterior's divergence from a standard normal, in nats per latent number."""
    perceptual: Weight = 0.0
    """Of the distance of EfficientNet-Lite2's maps (`models.perceptual`), 0 to 4; needs sides of 32 px or more."""
    gan: Weight = 0.0
    """Of deceiving a 3D PatchGAN (`models.patch_gan`) that is trained along."""
    gan_from: Annotated[int, Field(ge=0)] = 0
    """The step with which it begins, after the autoencoder has learned what is easy."""
    gan_loss: Loss = "hinge"
    """MAGVIT's is "non-saturating"."""
    penalty: Literal["none", "r1", "lecam"] = "none"
    """Of the adversary: on its gradient at real clips, or on logits far beyond the other side's mean."""
    penalty_weight: Weight = 1.0


@dataclass(kw_only=True)
class Training:
    """The optimisation of a codec; nothing of it is stated by the papers."""

    steps: Count
    warmup: Annotated[int, Field(ge=0)] = 0
    """Steps in which the learning rate rises linearly; then it stays."""
    lr: Annotated[float, Field(gt=0)] = 1e-4
    """AdamW's, of both networks, without weight decay."""
    betas: Annotated[list[float], Field(min_length=2, max_length=2)] = field(default_factory=lambda: [0.9, 0.99])
    max_norm: Annotated[float, Field(gt=0)] = 1.0
    """Largest norm of the gradient, of each network."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the averaged weights, which are what is saved; reached by min(ema, (1+step)/(10+step))."""
    precision: Literal["bf16", "fp32"] = "bf16"
    checkpointing: bool = False
    """Compute a block's activations again in the backward pass rather than keep them."""
    seed: int = 0
    log_every: Count = 50
    save_every: Count = 1000
    """Where a later start goes on, and the codec as it then is; also at the end."""
    sample_every: Annotated[int, Field(ge=0)] = 1000
    """A clip beside what the averaged weights make of it, also at the end; 0: never."""


@dataclass(kw_only=True)
class CodecConfig:
    """A whole recipe; `data` and `training` must be given."""

    network: Size
    data: Data
    losses: Losses
    training: Training
    path: Path = Path()


SECTIONS: dict[str, Any] = {"network": Size, "data": Data, "losses": Losses, "training": Training}


def load(path: str | Path) -> CodecConfig:
    """Read and check a recipe, a path or a name in workflows/. Raises `RecipeError`, `TrainerError`."""
    file = file_of(path)
    config = CodecConfig(**recipe.sections(file, SECTIONS), path=file)
    with of_buckets(f"{file}: data.buckets"):
        buckets.check(config.data.table(), Magvit.step, Magvit.strides[1])
    small = [b.name for b in config.data.table() if min(b.width, b.height) < 32]
    if config.losses.perceptual and small:
        raise TrainerError(f"{file}: losses.perceptual needs sides of 32 px or more; bucket {small[0]} has less")
    return config
