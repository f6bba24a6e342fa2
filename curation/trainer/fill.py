"""A folder of videos, each made once: processes take a slice each, whoever comes back goes on, and what was made with something
else is not mixed with it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from curation.buckets import Bucket
from curation.console import counting, say
from curation.fingerprint import changes
from curation.storage import replacing
from curation.trainer import sheet
from curation.trainer.errors import TrainerError
from curation.trainer.sample import Makes, Wanted

CLAIM = "sampling.json"
SHEETS = "sheets"
"""The folder of contact sheets, in that of the videos: beside a video KEY.png would be taken for one of a single frame."""


@dataclass(frozen=True)
class Job:
    """A file to be made: NAME.mp4."""

    name: str
    bucket: Bucket
    made_of: dict[str, str]
    """What decides it beside `How`, to be compared: prompt, seed, shape, pictures by what is in them."""
    open: Callable[[], Wanted]
    """Reads the pictures; may go to another process."""


@dataclass(frozen=True)
class How:
    """By what videos are made."""

    load: Callable[[], Makes]
    """Once in each process; may go to another one."""
    made_by: dict[str, Any]
    """What decides its videos, to be compared."""
    fps: float
    """Frames a second of the files."""
    batch: int = 1
    """Videos made at once, of one shape."""
    sheets: bool = False
    """Whether each gets a contact sheet, too."""
    suffix: Literal["mp4", "png"] = "mp4"
    """png: of models that make pictures."""


def rank() -> tuple[int, int]:
    """This process's number, and of how many: torchrun's. They need not know of each other."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def fill(jobs: Sequence[Job], how: How, folder: Path, address: str | None = None, processes: int = 1) -> None:
    """Make what is not there yet of `jobs`, in this process (or torchrun's), or on the Ray cluster at an address: on each of its
    GPUs, or in so many processes. Raises `TrainerError` where the folder holds what was made otherwise."""
    claim(jobs, how, folder)
    if address:
        from curation.trainer import ray_fill

        ray_fill.run(jobs, how, folder, address, processes)
    else:
        part(jobs, how, folder, *rank())
    if rank()[0] == 0:
        left = len(missing(jobs, how, folder))
        say(f"{folder}: {len(jobs) - left} of {len(jobs)} are there" + ("; other processes are at the rest" if left else ""))


def part(jobs: Sequence[Job], how: How, folder: Path, rank: int, world: int) -> None:
    """One process's slice of them: every `world`-th, whatever is there already, so that processes agree without a word."""
    mine = missing(jobs[rank::world], how, folder)
    if not mine:
        return
    makes = how.load()
    with counting("sample", len(mine)) as count:
        for batch in _batches(mine, how.batch):
            wanted = [job.open() for job in batch]
            for one, video in zip(wanted, makes(wanted), strict=True):
                _write(one, video, how, folder)
                count.add(1)


def missing(jobs: Sequence[Job], how: How, folder: Path) -> list[Job]:
    return [job for job in jobs if not (folder / f"{job.name}.{how.suffix}").exists()]


def one(job: Job, how: How, file: Path) -> Path:
    """Make a single video, anew if it is there, with its contact sheet beside it."""
    wanted = job.open()
    (video,) = how.load()([wanted])
    sheet.publish(file, video, how.fps, wanted.prompt, wanted.references, wanted.true)
    return file


def _batches(jobs: Sequence[Job], most: int) -> Iterator[list[Job]]:
    """Of one bucket each, in order."""
    for _, same in groupby(jobs, key=lambda job: job.bucket):
        row = list(same)
        yield from (row[start : start + most] for start in range(0, len(row), most))


def _write(wanted: Wanted, video: Any, how: How, folder: Path) -> None:
    file = folder / f"{wanted.name}.{how.suffix}"
    if how.sheets:
        drawn = sheet.contact_sheet(video, how.fps, wanted.prompt, wanted.references, wanted.true)
        sheet.save(folder / SHEETS / f"{wanted.name}.png", drawn)
    if how.suffix == "png":
        sheet.save(file, video[0].permute(1, 2, 0).numpy())
    else:
        sheet.write_video(file, video, how.fps)


def claim(jobs: Sequence[Job], how: How, folder: Path) -> None:
    """Write down what the folder's files are made with, or raise `TrainerError` naming what changed since. Others may come on top
    (a larger benchmark, more of a list), and fewer be asked for."""
    file = folder / CLAIM
    if not file.exists() and (stray := next((job.name for job in jobs if (folder / f"{job.name}.{how.suffix}").exists()), None)):
        raise TrainerError(f"{folder} holds {stray}.{how.suffix}, and no {CLAIM} that says what made it: take another --output")
    there = json.loads(file.read_text()) if file.exists() else {"by": how.made_by, "of": {}}
    wanted = json.loads(json.dumps({"by": how.made_by, "of": {job.name: job.made_of for job in jobs}}))
    before = {name: there["of"][name] for name in wanted["of"] if name in there["of"]}
    now = {name: wanted["of"][name] for name in before}
    if changed := changes({"by": there["by"], "of": before}, {"by": wanted["by"], "of": now}):
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        told = "; ".join(changed[:3]) + more
        raise TrainerError(f"{folder} was made with something else ({told}): take another --output, or delete it")
    if rank()[0] == 0:
        with replacing(file) as temporary:
            temporary.write_text(json.dumps({"by": wanted["by"], "of": there["of"] | wanted["of"]}, indent=1, ensure_ascii=False))
