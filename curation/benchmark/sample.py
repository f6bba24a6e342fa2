"""`curation sample --benchmark`: a video of every clip of a benchmark, from its prompt and its references (PAPER.md §6)."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

import torch

from curation.benchmark import folder
from curation.benchmark.case import Case, Mode, References
from curation.benchmark.errors import BenchmarkError
from curation.benchmark.given import SCENE, Given, given
from curation.buckets import Bucket
from curation.console import say
from curation.media import resample
from curation.trainer import config as configs
from curation.trainer import fill, make
from curation.trainer.batch import Reference
from curation.trainer.fill import How, Job
from curation.trainer.make import Asked
from curation.trainer.sample import Wanted, span_of, true_frames


def sample(
    name: str | None,
    weights: Path | None,
    output: Path,
    benchmark: Path | None,
    mode: Mode,
    references: References,
    background: bool,
    baseline: str | None,
    asked: Asked,
) -> None:
    """Fill the folder `output` with KEY.mp4 of a recipe's model, or KEY.png of a baseline that makes pictures. Raises
    `BenchmarkError`, `TrainerError`."""
    if benchmark is None:
        raise BenchmarkError("--baseline is for a benchmark's clips: --benchmark DIR")
    if output.suffix in (".mp4", ".png"):
        raise BenchmarkError(f"--output {output}: a benchmark's videos go into a folder")
    cases = folder.cases(benchmark, mode)
    if background and (bare := [case.key for case in cases if not (case.folder / SCENE).exists()]):
        say(f"{len(bare)} of {len(cases)} clips have no background.jpg and are made without, as {bare[0]}")
    if baseline:
        from curation.benchmark import baselines

        (bucket, how), slots, processes = baselines.by(baseline, mode, asked), None, 1
    elif name is None or weights is None:
        raise BenchmarkError("say by which model: a training recipe and --checkpoint, or --baseline")
    else:
        config = configs.load(name)
        slots, bucket, processes = config.model.slots, make.shape(config, asked), config.training.processes
        how = make.how(config, weights, asked)
    jobs = [job(case, mode, references, background, bucket, asked.seed, how) for case in cases]
    if slots is not None and (most := max(len(given(case, mode, references, background)) for case in cases)) > slots:
        raise BenchmarkError(f"clips have up to {most} references, but {name} has model.slots: {slots}")
    fill.fill(jobs, how, output, asked.address, processes)


def job(case: Case, mode: Mode, references: References, background: bool, bucket: Bucket, seed: int, how: How) -> Job:
    """The noise is by the clip's key, so that it is the same in every mode and with every number of references."""
    pictures = given(case, mode, references, background)
    told = [f"{word} {hashlib.sha256(_read(file)).hexdigest()[:12]}" for file, word, _ in pictures]
    opened = partial(wanted, case, pictures, bucket, seed, how.fps if how.sheets else None)
    return Job(case.key, bucket, make.made_of(case.prompt, seed, bucket, told), opened)


def wanted(case: Case, pictures: list[Given], bucket: Bucket, seed: int, fps: float | None) -> Wanted:
    """Read a clip's pictures: cut-outs and faces on white, as in training. `fps`: with the true frames, for a contact sheet."""
    references = [Reference(_picture(file), word, bound(case.prompt, word), kind) for file, word, kind in pictures]
    true = true_frames(_read(case.video), bucket, fps) if fps else None
    return Wanted(case.key, case.prompt, references, bucket, seed, true, case.key)


def bound(prompt: str, word: str) -> tuple[int, int] | None:
    """Where a clip's word stands in its prompt: by itself, else as a part of another; None where it does not, or is none."""
    if not word:
        return None
    first = prompt.find(word)
    return span_of(prompt, word) or ((first, first + len(word)) if first >= 0 else None)


def _picture(file: Path) -> torch.Tensor:
    try:
        return torch.from_numpy(resample.picture(_read(file)))
    except resample.DecodeError as error:
        raise BenchmarkError(f"{file}: {error}") from error


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise BenchmarkError(f"{file}: {error.strerror}") from error
