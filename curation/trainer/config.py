"""A training recipe: YAML in, checked sections out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from curation import buckets, recipe
from curation.models import codecs, encoders
from curation.store import store
from curation.trainer.augment import Augment
from curation.trainer.data import Data
from curation.trainer.errors import TrainerError
from curation.trainer.flow import Sampling
from curation.trainer.model import PATCH, Architecture, Layers
from curation.trainer.references import References

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


@dataclass(kw_only=True)
class Encoders:
    """The frozen networks around the transformer, by name."""

    text: Literal["minilm", "t5", "clip"] = "t5"
    """Not named by the papers."""
    text_weights: str | None = None
    """A folder instead of the store's."""
    text_length: Annotated[int, Field(ge=2)] | None = None
    """Tokens per caption, padded or cut; null: `encoders.LENGTHS`."""
    image: Literal["dinov2", "clip", "mae", "patches"] = "dinov2"
    """PAPER.md §4: DINOv2 ViT-L/14 is V2's; "patches" is weight-free."""
    image_weights: str | None = None
    """A folder instead of the store's."""
    codec: Literal["cogvideox", "magvit", "dct"] = "cogvideox"
    """PAPER.md §4: CogVideoX-5B's autoencoder is V2's, MAGVIT V1's; "dct" is weight-free."""
    codec_weights: str | None = None
    """A folder instead of the store's; "magvit" needs one, `RUN/model` of `curation train-codec`."""
    cache: bool = False
    """Keep captions' embeddings and videos' latents beside the shards; each clip then gives the same frames in every epoch."""

    def models(self) -> tuple[str, ...]:
        """Names in the store of what these need."""
        return tuple(entry for entry, own in self._wanted() if entry and own is None)

    def folders(self) -> list[tuple[Path, str] | tuple[()]]:
        """Of text, image and codec: the folder of weights and its digest, fetched now if need be; nothing where none are needed.
        Raises `StoreError`."""
        return [store.folder_of(entry, own) if entry is not None else () for entry, own in self._wanted()]

    def _wanted(self) -> list[tuple[str | None, str | None]]:
        """Of text, image and codec: the store's entry, if there is one, and the user's own folder."""
        return [
            (encoders.TEXT_STORE.get(self.text), self.text_weights),
            (encoders.IMAGE_STORE.get(self.image), self.image_weights),
            (codecs.STORE.get(self.codec), self.codec_weights),
        ]


@dataclass(kw_only=True)
class Training:
    """The optimisation. Defaults are the papers' (PAPER.md §5) unless a line says otherwise."""

    steps: Count
    """V2: 60,000 for stage I and 40,000 for stage II."""
    warmup: Annotated[int, Field(ge=0)] = 0
    """Steps in which the learning rate rises linearly; then it stays. V1: 10,000 in stage I, 5,000 in III; V2: 1,000 in II."""
    layers: Layers = "all"
    """What is trained: V1's stage I has no personalization layers ("backbone"), its II trains only them, its III all."""
    new_layers_first: Annotated[int, Field(ge=0)] = 0
    """Steps in which only the personalization layers are trained, before `layers` counts. V2's stage II: 10,000."""
    start: str | None = None
    """Where the weights come from: an earlier stage's output, a checkpoint or a safetensors file. The personalization layers
    may be absent from it: their gates start at zero."""
    lr: Annotated[float, Field(gt=0)] = 1e-4
    betas: Annotated[list[float], Field(min_length=2, max_length=2)] = field(default_factory=lambda: [0.9, 0.99])
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    max_norm: Annotated[float, Field(gt=0)] = 0.05
    """Largest norm of the gradient."""
    drop_text: Share = 0.1
    """How often a sample's text is set to zero, for guidance."""
    drop_images: Share = 0.1
    """How often its images are, independently."""
    self_conditioning: Share = 0.9
    """How often the model is given its own estimate (self-conditioning)."""
    shift: Annotated[float, Field(gt=0)] | None = None
    """α of the times' shift t' = αt/(1+(α−1)t); null: by the number of tokens (`flow.resolution_shift`). Not stated by the
    papers."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.9999
    """Decay of the averaged weights, reached by min(ema, (1+step)/(10+step)); DiT's, not stated by the papers."""
    precision: Literal["bf16", "fp32"] = "bf16"
    parallel: Literal["ddp", "fsdp"] = "fsdp"
    """With several processes: replicas, or FSDP2."""
    processes: Count = 1
    """Workers of Ray Train (`--address`); torchrun brings its own number."""
    compile: bool = False
    seed: int = 0
    log_every: Count = 50
    save_every: Count = 1000
    """A checkpoint; also one at the end."""
    keep: Count = 3
    """Checkpoints that stay."""
    sample_every: Annotated[int, Field(ge=0)] = 0
    """A sample video from the averaged weights; 0: never."""


@dataclass(kw_only=True)
class Config:
    """A whole training recipe; every section is optional but `training` and `data`."""

    model: Architecture
    encoders: Encoders
    data: Data
    references: References
    augment: Augment
    training: Training
    sampling: Sampling
    path: Path = Path()


SECTIONS: dict[str, type] = {
    "model": Architecture,
    "encoders": Encoders,
    "data": Data,
    "references": References,
    "augment": Augment,
    "training": Training,
    "sampling": Sampling,
}


def file_of(path: str | Path) -> Path:
    """A recipe's file by its path, or by its name in workflows/."""
    named = recipe.WORKFLOWS / f"{path}.yaml"
    return named if not Path(path).exists() and named.exists() else Path(path)


def load(path: str | Path) -> Config:
    """Read and check a training recipe, a path or a name in workflows/. Raises `RecipeError`; imports nothing heavy but torch."""
    file = file_of(path)
    config = Config(**recipe.sections(file, SECTIONS), path=file)
    if config.references.slots > config.model.slots:
        raise TrainerError(f"{file}: references.slots: {config.references.slots}, but model.slots: {config.model.slots}")
    if config.encoders.codec == "magvit" and config.encoders.codec_weights is None:
        raise TrainerError(f"{file}: encoders.codec_weights: magvit has no public weights; `curation train-codec` makes them")
    kind = codecs.KINDS[config.encoders.codec]
    try:
        buckets.check(config.data.table(), kind.step, kind.strides[1] * PATCH[1])
    except ValueError as error:
        raise TrainerError(f"{file}: data.buckets with encoders.codec {config.encoders.codec}: {error}") from error
    return config
