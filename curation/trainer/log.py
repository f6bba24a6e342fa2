"""What a training run says of itself: lines on the terminal, log.jsonl, TensorBoard."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

import torch

from curation.console import say
from curation.trainer.batch import Batch
from curation.trainer.distributed import Process
from curation.trainer.errors import TrainerError

T = TypeVar("T")
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "4090": 165e12}
"""Dense bfloat16 FLOP/s of GPUs by a part of their name, from NVIDIA's data sheets; others are measured by a matrix product."""


class Log:
    """Means since the last line; only the leading process writes.

    Of each line: `loss` and `norm` (of the gradient) over all processes and finite steps (null if there was none), `skipped`
    steps that were not finite, `rate`, `samples_per_second` of all processes, `flops_share` (of this device's peak: model FLOPs
    utilisation), `waiting` (share of the time spent waiting for data).
    """

    def __init__(
        self, out: Path, process: Process, flops: Callable[[Batch], float], steps: int, step: int, wandb: str | None = None
    ):
        self.out, self.process, self.flops, self.steps = out, process, flops, steps
        self.peak = peak(process.device)
        self.file: IO[str] | None = None
        self.since, self.project = step, wandb
        self.wandb: Any = None
        self.clear()

    def __enter__(self) -> Log:
        if self.process.leads:
            from torch.utils.tensorboard import SummaryWriter

            self.out.mkdir(parents=True, exist_ok=True)
            self.file = cut(self.out / "log.jsonl", self.since)
            self.board = SummaryWriter(str(self.out / "tensorboard"), purge_step=self.since + 1)
            self.validation = cut(self.out / "validation.jsonl", self.since)
            self.wandb = _wandb(self.project, self.out) if self.project else None
        return self

    def __exit__(self, *_: object) -> None:
        if self.file:
            self.file.close()
            self.validation.close()
            self.board.close()
        if self.wandb:
            self.wandb.finish()

    def clear(self) -> None:
        self.start, self.waited, self.work, self.samples, self.omitted = time.monotonic(), 0.0, 0.0, 0, 0
        self.losses: list[torch.Tensor] = []
        self.norms: list[torch.Tensor] = []

    def waiting(self, steps: Iterable[T]) -> Iterator[T]:
        """The loader's steps; the time until each comes is counted."""
        coming = iter(steps)
        while True:
            start = time.monotonic()
            try:
                step = next(coming)
            except StopIteration:
                return
            self.waited += time.monotonic() - start
            yield step

    def add(self, loss: torch.Tensor, norm: torch.Tensor, skipped: bool, batches: list[Batch], clips: int) -> None:
        """One step, of so many clips over all processes."""
        if skipped:
            self.omitted += 1
        else:
            self.losses.append(loss)
            self.norms.append(norm)
        self.samples += clips
        self.work += sum(self.flops(batch) for batch in batches)

    def write(self, step: int, rate: float) -> None:
        """One line about the steps since the last."""
        loss, norm = None, None
        if self.losses:  # in all processes alike
            loss = round(
                self.process.mean(torch.stack(self.losses).mean()).item(), 5
            )  # waits for the device: the time is the work's
            norm = round(torch.stack(self.norms).mean().item(), 5)
        seconds = time.monotonic() - self.start
        line: dict[str, Any] = {
            "step": step,
            "loss": loss,
            "norm": norm,
            "skipped": self.omitted,
            "rate": rate,
            "samples_per_second": round(self.samples / seconds, 3),
            "flops_share": round(self.work / seconds / self.peak, 4),
            "waiting": round(self.waited / seconds, 4),
        }
        self.clear()
        if self.file:
            self.file.write(json.dumps(line) + "\n")
            self.file.flush()
            there = {name: value for name, value in line.items() if name != "step" and value is not None}
            self._show(step, there)
            said = {name: value for name, value in there.items() if value or name != "skipped"}
            say(f"step {step}/{self.steps}  " + "  ".join(f"{name} {value:g}" for name, value in said.items()))

    def validated(self, step: int, found: dict[str, float]) -> None:
        """One line of validation.jsonl: the step, and figures by name."""
        if self.file and found:
            told = {name: round(value, 5) for name, value in found.items()}
            self.validation.write(json.dumps({"step": step, **told}) + "\n")
            self.validation.flush()
            self._show(step, {f"validation/{name}": value for name, value in told.items()})
            short = {name: value for name, value in told.items() if "@" not in name}
            say(f"step {step}/{self.steps}  validation: " + "  ".join(f"{name} {value:g}" for name, value in short.items()))

    def _show(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.board.add_scalar(name, value, step)
        if self.wandb:
            self.wandb.log(values, step=step)


def _wandb(project: str, out: Path) -> Any:
    """A run of Weights & Biases that a resumed training goes on with. Raises `TrainerError` where the package is missing."""
    try:
        import wandb
    except ImportError as error:
        raise TrainerError("training.wandb needs wandb: pip install 'curation[wandb]'") from error
    return wandb.init(project=project, name=out.name, dir=str(out), resume="allow", id=f"curation-{out.name}")


def not_trained_on(found: Counter[str], process: Process) -> None:
    """Clips of the data that were not trained on, by reason."""
    if found and process.leads:
        say("not trained on: " + ", ".join(f"{count} {reason}" for reason, count in sorted(found.items())))


def cut(path: Path, step: int) -> IO[str]:
    """The log open for writing behind the lines up to `step`: what a run wrote after its last checkpoint comes again."""
    lines = path.read_text().splitlines() if path.exists() else []
    kept = [line for line in lines if (found := re.match(r'\{"step": (\d+),.*\}$', line)) and int(found[1]) <= step]
    path.write_text("".join(f"{line}\n" for line in kept))
    return path.open("a")


def peak(device: torch.device) -> float:
    """The device's FLOP/s: by its name, else measured: matrix products of 4096² in bfloat16 on a GPU, 512² in float32 else."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        if known := [value for part, value in PEAKS.items() if part in name]:
            return known[0]
    side, dtype = (4096, torch.bfloat16) if device.type == "cuda" else (512, torch.float32)
    a = torch.ones(side, side, device=device, dtype=dtype)
    fastest = float("inf")
    for _ in range(20):
        start = time.perf_counter()
        (a @ a)[0, 0].item()
        fastest = min(fastest, time.perf_counter() - start)
    return 2 * side**3 / fastest
