"""`curation benchmark votes`: the papers' percentages of a preference study, with intervals."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from curation.benchmark.errors import BenchmarkError
from curation.benchmark.scores import LEVEL, RESAMPLES
from curation.benchmark.study import QUESTIONS, TIE

HEADER = ["study", "rater", "sample", "question", "choice"]
Vote = tuple[str, str, str]
"""Rater, sample, question."""


@dataclass(frozen=True)
class Share:
    """Of one method in one question, per cent of the votes; a tie is shared out among all methods. The interval is a bootstrap's
    over clips: the votes on one clip lean on each other."""

    method: str
    question: str
    percent: float
    low: float
    high: float


@dataclass(frozen=True)
class Result:
    shares: list[Share]
    ties: dict[str, float]
    """Question → per cent of its votes."""
    votes: dict[str, int]
    raters: int
    samples: int


def count(files: Sequence[Path], key: Path) -> Result:
    """Raises `BenchmarkError` for what is no file of votes, or of another study."""
    told = _key(key)
    votes: dict[Vote, str] = {}
    for file in files:
        votes |= read(file, told)
    if not votes:
        raise BenchmarkError(f"{', '.join(map(str, files))}: no vote in it")
    return tally(votes, list(told["methods"]))


def read(file: Path, told: Mapping[str, Any]) -> dict[Vote, str]:
    """Each vote's method, or `TIE`; who voted twice has changed their mind. Raises `BenchmarkError`."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.reader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BenchmarkError(f"{file}: {getattr(error, 'strerror', None) or error}") from error
    if not rows or rows[0] != HEADER:
        raise BenchmarkError(f"{file}: its columns are not {', '.join(HEADER)}: not saved by a study's page")
    found: dict[Vote, str] = {}
    for number, row in enumerate(rows[1:], start=2):
        if not row:
            continue
        study, rater, sample, question, choice = row if len(row) == len(HEADER) else [""] * len(HEADER)
        if study != told["study"]:
            raise BenchmarkError(f"{file}:{number}: of the study {study!r}; the key is of {told['study']!r}")
        files = told["samples"].get(sample, {}).get("files", {})
        if question not in QUESTIONS or choice not in (TIE, *files):
            raise BenchmarkError(f"{file}:{number}: no such vote in this study: {sample!r}, {question!r}, {choice!r}")
        found[rater, sample, question] = files.get(choice, TIE)
    return found


def tally(votes: Mapping[Vote, str], methods: Sequence[str]) -> Result:
    """Votes by rater, sample and question → shares."""
    shares, ties, counts = [], {}, {}
    for question in QUESTIONS:
        own = {(rater, sample): choice for (rater, sample, asked), choice in votes.items() if asked == question}
        if not own:
            continue
        samples = sorted({sample for _, sample in own})
        table = np.zeros((len(samples), len(methods)))
        for (_, sample), choice in own.items():
            row = table[samples.index(sample)]
            row[:] += 1 / len(methods) if choice == TIE else [choice == method for method in methods]
        whole = 100 * table.sum(0) / table.sum()
        draws = np.random.default_rng(0).integers(len(samples), size=(RESAMPLES, len(samples)))
        sums = table[draws].sum(1)
        low, high = np.quantile(100 * sums / sums.sum(1, keepdims=True), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
        shares += [Share(m, question, *map(float, row)) for m, *row in zip(methods, whole, low, high, strict=True)]
        ties[question] = 100 * Counter(own.values())[TIE] / len(own)
        counts[question] = len(own)
    return Result(shares, ties, counts, len({rater for rater, *_ in votes}), len({sample for _, sample, _ in votes}))


def table(result: Result) -> str:
    """Lines to show: a method's shares with their intervals."""
    asked = list(result.votes)
    width = max(len("ties"), *(len(share.method) for share in result.shares))
    lines = [f"{result.raters} raters, {result.samples} clips; % of votes, {LEVEL:.0%} interval over clips"]
    lines.append(" " * width + "".join(f"  {question:>20}" for question in asked))
    for method in dict.fromkeys(share.method for share in result.shares):
        own = {share.question: share for share in result.shares if share.method == method}
        cells = [f"{own[q].percent:.1f} [{own[q].low:.1f}, {own[q].high:.1f}]" for q in asked]
        lines.append(f"{method:{width}}" + "".join(f"  {text:>20}" for text in cells))
    lines.append(f"{'ties':{width}}" + "".join(f"  {f'{result.ties[q]:.1f} of {result.votes[q]}':>20}" for q in asked))
    return "\n".join(lines)


def _key(file: Path) -> dict[str, Any]:
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        if not {"study", "methods", "samples"} <= set(told):
            raise ValueError
    except OSError as error:
        raise BenchmarkError(f"--key {file}: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise BenchmarkError(f"--key {file}: not written by `curation benchmark study`") from error
    return told
