"""A training recipe: YAML in, checked sections out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from curation import buckets, recipe
from curation.models import codecs, encoders, weights
from curation.store import store
from curation.store.weights import weights_digest
from curation.trainer import backbones
from curation.trainer.augment import Augment
from curation.trainer.data import Data
from curation.trainer.distributed import Parallel
from curation.trainer.errors import TrainerError
from curation.trainer.flow import Sampling
from curation.trainer.model import PATCH, Architecture, Layers
from curation.trainer.references import References

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


@dataclass(kw_only=True)
class Encoders:
    """The frozen networks around the transformer, by name."""

    text: Literal["minilm", "t5", "clip", "umt5", "t5-cogvideox"] = "t5"
    """Not named by the papers. "umt5" is Wan's; "t5-cogvideox" is T5 as CogVideoX reads it, padding and all."""
    text_weights: str | None = None
    """A folder instead of the store's."""
    text_length: Annotated[int, Field(ge=2)] | None = None
    """Tokens per caption, padded or cut; null: `encoders.LENGTHS`."""
    image: Literal["dinov2", "clip", "mae", "patches"] = "dinov2"
    """PAPER.md §4: DINOv2 ViT-L/14 is V2's; "patches" is weight-free."""
    image_weights: str | None = None
    """A folder instead of the store's."""
    codec: Literal["cogvideox", "cogvideox-2b", "wan", "magvit", "dct"] = "cogvideox"
    """PAPER.md §4: CogVideoX-5B's autoencoder is V2's, MAGVIT V1's; "cogvideox-2b" and "wan" are those of pretrained backbones;
    "dct" is weight-free."""
    codec_weights: str | None = None
    """A folder instead of the store's; "magvit" needs one, `RUN/model` of `curation train-codec`."""

    def models(self) -> tuple[str, ...]:
        """Names in the store of what these need."""
        return tuple(entry for entry, own in self._wanted().values() if entry and own is None)

    def folder(self, what: Literal["text", "image", "codec"]) -> tuple[Path, str] | tuple[()]:
        """The folder of weights and its digest, fetched now if need be; nothing where none are needed. Raises `StoreError`."""
        entry, own = self._wanted()[what]
        return store.folder_of(entry, own) if entry is not None else ()

    def codec_identity(self) -> str:
        """As the codec names itself, less its arithmetic."""
        digest = self._digest("codec")
        return f"{self.codec}:{digest}" if digest else f"{self.codec}:{codecs.CHANNELS}"

    def text_identity(self) -> str:
        """As the text encoder names itself, less its arithmetic."""
        return f"{self.text}:{self._digest('text')}:{self.text_length or encoders.LENGTHS[self.text]}"

    def _digest(self, what: Literal["text", "image", "codec"]) -> str:
        entry, own = self._wanted()[what]
        return weights_digest(own) if own else store.entry(entry).digest if entry else ""

    def _wanted(self) -> dict[str, tuple[str | None, str | None]]:
        """The store's entry, if there is one, and the user's own folder."""
        return {
            "text": (weights.TEXT.get(self.text), self.text_weights),
            "image": (weights.IMAGE.get(self.image), self.image_weights),
            "codec": (weights.CODECS.get(self.codec), self.codec_weights),
        }


@dataclass(kw_only=True)
class Training:
    """The optimisation. Defaults are the papers' (PAPER.md §5) unless a line says otherwise."""

    steps: Count
    """V2: 60,000 for stage I and 40,000 for stage II."""
    warmup: Annotated[int, Field(ge=0)] = 0
    """Steps in which the learning rate rises linearly; then it stays. V1: 10,000 in stage I, 5,000 in III; V2: 1,000 in II."""
    layers: Layers = "all"
    """What is trained: V1's stage I has no personalization layers ("backbone"), its II trains only them, its III all. V2's stage
    II trains only them for 10,000 steps, then all: two recipes, the second with the first as its `start`. "lora": they and the
    adapters of `model.lora`."""
    start: str | None = None
    """Where the weights come from: an earlier stage's output, a checkpoint or a safetensors file. It gives its averaged weights;
    the optimiser starts anew. The personalization layers may be absent from it: their gates start at zero."""
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
    max_skipped: Annotated[int, Field(ge=0)] = 10
    """Steps in a row that may be left out because the loss or its gradient is not finite; with one more the run ends. Not stated
    by the papers."""
    precision: Literal["bf16", "fp32"] = "bf16"
    parallel: Parallel = field(default_factory=Parallel)
    """With several processes: what each of them has a share of. Weights do not depend on it, and a run may go on with another."""
    processes: Count = 1
    """Workers of Ray Train (`--address`); torchrun brings its own number."""
    compile: bool = False
    seed: int = 0
    log_every: Count = 50
    save_every: Count = 1000
    """Steps from one checkpoint to the next; there is also one at the end, and when SIGTERM ends the run early."""
    save_minutes: Annotated[float, Field(gt=0)] | None = None
    """Minutes after which there is a checkpoint, too; null: never."""
    keep: Count = 3
    """Checkpoints that stay."""
    wandb: str | None = None
    """Project of Weights & Biases that gets the log, too (`pip install 'curation[wandb]'`); null: none."""


@dataclass(kw_only=True)
class Validation:
    """What is looked at on the way, from the averaged weights: the loss on what `data.holdout` keeps out, and videos."""

    every: Annotated[int, Field(ge=0)] = 0
    """Steps from one time to the next, also at the end; 0: never."""
    clips: Count = 16
    """Of each bucket, whose loss is taken; rounded up to a multiple of the processes."""
    times: Annotated[list[Annotated[float, Field(gt=0, lt=1)]], Field(min_length=1)] = field(
        default_factory=lambda: [0.1, 0.3, 0.5, 0.7, 0.9]
    )
    """At which the loss is taken, 0 clean to 1 noise. Not stated by the papers."""
    prompts: str | None = None
    """A YAML file of videos to make: a list of {prompt, references: {WORD: PICTURE or a list}, background, seed, bucket}."""
    samples: Annotated[int, Field(ge=0)] = 2
    """Without such a file: videos of so many clips' own captions and references, held out where `data.holdout` keeps some."""


@dataclass(kw_only=True)
class Config:
    """A whole training recipe; every section is optional but `training` and `data`."""

    model: Architecture
    encoders: Encoders
    data: Data
    references: References
    augment: Augment
    training: Training
    validation: Validation
    sampling: Sampling
    path: Path = Path()

    def models(self, encoders: bool = True) -> tuple[str, ...]:
        """Names in the store of what this needs, with the encoders or without."""
        backbone = self.model.backbone != "own" and self.model.backbone_weights is None
        return (*(self.encoders.models() if encoders else ()), *([self.model.backbone] if backbone else []))


SECTIONS: dict[str, type] = {
    "model": Architecture,
    "encoders": Encoders,
    "data": Data,
    "references": References,
    "augment": Augment,
    "training": Training,
    "validation": Validation,
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
    backbones.check(config)
    if config.encoders.codec == "magvit" and config.encoders.codec_weights is None:
        raise TrainerError(f"{file}: encoders.codec_weights: magvit has no public weights; `curation train-codec` makes them")
    kind = codecs.KINDS[config.encoders.codec]
    with of_buckets(f"{file}: data.buckets with encoders.codec {config.encoders.codec}"):
        buckets.check(config.data.table(), kind.step, kind.strides[1] * PATCH[1])
    return config


@contextmanager
def of_buckets(where: str) -> Iterator[None]:
    """What is wrong with buckets as one line that says `where`."""
    try:
        yield
    except ValueError as error:
        raise TrainerError(f"{where}: {error}") from error
