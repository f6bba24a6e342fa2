"""What is looked at while a model trains, from its averaged weights: its loss on clips that it does not see, at fixed times and
with fixed noise; and videos of given prompts and references."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor, nn

from curation.buckets import Bucket
from curation.trainer import flow
from curation.trainer.batch import Batch
from curation.trainer.clips import Clips
from curation.trainer.conditions import Parts
from curation.trainer.config import Config
from curation.trainer.data import Loader
from curation.trainer.distributed import Process
from curation.trainer.errors import TrainerError
from curation.trainer.plan import Plan
from curation.trainer.sample import Maker, Picture, Wanted, of_files
from curation.trainer.seeds import generator
from curation.trainer.sheet import publish


class Fixed(Plan):
    """The same clips again and again: step n is the n-th bucket, with the first of its list."""

    def _draw(self, step: int) -> None:
        self._drawn, self._nth = np.arange(len(self.buckets)), np.zeros(len(self.buckets), np.int64)


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One video to make, of a file of them."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    prompt: str
    references: dict[str, str | list[str]] = field(default_factory=dict)
    """Word of the prompt → picture or pictures of it; paths from the file."""
    background: str | dict[str, str] | None = None
    """A picture, or {WORD: PICTURE}."""
    seed: int = 0
    bucket: str | None = None
    """By its name, `17x256x144`; null: the recipe's first."""


Measure = Callable[[Wanted, Tensor], Mapping[str, float]]
"""A metric of the videos made: what was wanted, and uint8 [F,3,H,W] → figures by name. The benchmark's come from here."""


def prompts(file: Path, table: Sequence[Bucket]) -> list[Wanted]:
    """Read a file of prompts: YAML, a list of `Prompt`. Raises `TrainerError`, one line."""
    try:
        told = yaml.safe_load(file.read_text(encoding="utf-8"))
        found = TypeAdapter(list[Prompt]).validate_python(told)
    except (OSError, yaml.YAMLError) as error:
        raise TrainerError(f"{file}: {' '.join(str(error).split())[:200]}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise TrainerError(f"{file}: {where}: {first['msg']}") from error
    buckets = {bucket.name: bucket for bucket in table}
    wanted = []
    for number, one in enumerate(found):
        if one.bucket and one.bucket not in buckets:
            raise TrainerError(f"{file}: no bucket {one.bucket}; the recipe has {', '.join(buckets)}")
        try:
            references = of_files(one.prompt, *_pictures(one, file.parent))
        except TrainerError as error:
            raise TrainerError(f"{file}: {error}") from error
        name = f"{number:02d}-{re.sub(r'[^a-z0-9]+', '-', one.prompt.lower())[:40].strip('-')}"
        wanted.append(Wanted(name, one.prompt, references, buckets[one.bucket or table[0].name], one.seed))
    return wanted


def _pictures(one: Prompt, folder: Path) -> tuple[Sequence[Picture], Picture | None]:
    """Those of references, and of the background."""
    pairs: list[Picture] = [
        (word, folder / file) for word, files in one.references.items() for file in ([files] if isinstance(files, str) else files)
    ]
    told = one.background if isinstance(one.background, dict) else {"": one.background} if one.background else {}
    scene: list[Picture] = [(word, folder / file) for word, file in told.items()]
    return pairs, next(iter(scene), None)


class Validator:
    """One process's part of it; all processes call the same methods at the same steps."""

    def __init__(
        self,
        config: Config,
        parts: Parts,
        process: Process,
        clips: Clips,
        held: Clips,
        tokens: Callable[[Bucket], int],
        measures: Sequence[Measure] = (),
    ):
        """`clips`: those trained on, for samples where none are `held` and no prompts are given. Raises `TrainerError`."""
        self.config, self.knobs, self.parts, self.process, self.measures = config, config.validation, parts, process, measures
        knobs, table, world = self.knobs, config.data.table(), process.data_world
        each = -(-knobs.clips // world) * world  # all compute alike
        self.loader: Loader | None = None
        if len(held):
            sized = [replace(bucket, batch=each) for bucket in table]
            self.loader = self._loader(held, sized, tokens)
        if knobs.prompts:
            self.wanted = prompts(Path(knobs.prompts), table)
        else:
            self.wanted = self._own(held if len(held) else clips, table, "held out" if len(held) else "trained on")

    def _loader(
        self, clips: Clips, table: Sequence[Bucket], tokens: Callable[[Bucket], int] | None, alone: bool = False
    ) -> Loader:
        plan = Fixed(clips, table, self.config.training.seed)
        data = replace(self.config.data, workers=0)
        rank, world = (0, 1) if alone else (self.process.data_rank, self.process.data_world)
        return Loader(plan, data, self.config.references, rank=rank, world=world, tokens=tokens)

    def _own(self, clips: Clips, table: Sequence[Bucket], what: str) -> list[Wanted]:
        """Captions and references of the first clips of the first bucket that has some."""
        if not self.knobs.samples or not len(clips):
            return []
        loader = self._loader(clips, [replace(bucket, batch=self.knobs.samples) for bucket in table], None, alone=True)
        ((batch,),) = loader.steps(0, 1)
        seed = self.config.training.seed
        return [
            Wanted(
                f"{n:02d}-{what.replace(' ', '-')}-{batch.keys[n]}", batch.captions[n], batch.references[n], batch.bucket, seed, v
            )
            for n, v in enumerate(batch.video if batch.video is not None else [None] * len(batch.keys))
        ]

    @torch.no_grad()
    def losses(self, model: nn.Module, autocast: Callable[[], AbstractContextManager[Any]]) -> dict[str, float]:
        """The mean squared error of the velocity: `loss` over all buckets and times, of each bucket by its name, and of each time
        of it, `17x256x144@0.1`. Text and images are given, no estimate, and nothing is augmented."""
        found: dict[str, float] = {}
        for batches in self.loader.steps(0, len(self.loader.plan.buckets)) if self.loader else ():
            times = self.knobs.times
            sums = torch.zeros(len(times) + 1, device=self.process.device)
            for batch in batches:
                sums[:-1] += self._errors(batch, model, autocast)
                sums[-1] += len(batch.keys)
            *errors, count = (self.process.mean(sums) * self.process.world).tolist()
            name = batches[0].bucket.name
            found |= {f"{name}@{t:g}": error / count for t, error in zip(times, errors, strict=True)}
            found[name] = sum(errors) / count / len(times)
        means = [value for name, value in found.items() if "@" not in name]
        return {"loss": sum(means) / len(means), **found} if means else {}

    def _errors(self, batch: Batch, model: nn.Module, autocast: Callable[[], AbstractContextManager[Any]]) -> Tensor:
        """Of each time, summed over the clips."""
        x0 = self.parts.latents(batch)
        seed, name = self.config.training.seed, batch.bucket.name
        draws = [generator(seed, "validation", name, slot) for slot in batch.slots]
        noise = torch.stack([torch.randn(x0.shape[1:], generator=draw) for draw in draws]).to(x0.device)
        told = self.parts.conditioner(batch.captions, batch.references, batch.text).keywords()
        errors = []
        for time in self.knobs.times:
            t = self.parts.schedule.nearest(torch.full((len(x0),), time, device=x0.device))
            with autocast():
                velocity = model(flow.noised(x0, noise, t), t, **told)
            errors.append((velocity - flow.target(x0, noise)).square().flatten(1).mean(1).sum())
        return torch.stack(errors)

    def samples(self, model: nn.Module, autocast: Callable[[], AbstractContextManager[Any]], folder: Path) -> dict[str, float]:
        """Make the wanted videos, NAME.mp4 and NAME.png each, shared out over the processes; the means of what is measured.

        Processes that share shards must compute alike: those of one turn make videos of one bucket, and where a turn has fewer
        videos than processes, some make the last one again."""
        maker = Maker(self.parts, model, self.config.sampling, autocast)
        rank, world = self.process.data_rank, self.process.data_world
        told: dict[str, list[float]] = {}
        for bucket in dict.fromkeys(one.bucket for one in self.wanted):
            these = [one for one in self.wanted if one.bucket == bucket]
            for turn in range(0, len(these), world):
                one = these[min(turn + rank, len(these) - 1)]
                (video,) = maker([one])
                if turn + rank < len(these) and self.process.rank % self.process.context == 0:
                    publish(folder / f"{one.name}.mp4", video, self.config.data.fps, one.prompt, one.references, one.true)
                    for measure in self.measures:
                        for name, value in measure(one, video).items():
                            told.setdefault(name, []).append(value)
        gathered = self.process.gathered(told) if self.measures else [told]
        names = sorted({name for each in gathered for name in each})
        return {name: float(np.mean([value for each in gathered for value in each.get(name, ())])) for name in names}
