"""Images/s and clips/s of every paper backend, how busy the GPU is, and how long it waits. Prints one JSON line per figure.

    python benchmarks/gpu_stages.py                    # on a GPU: the papers' sizes, random weights
    python benchmarks/gpu_stages.py --tiny             # on a CPU: that it runs, not how fast
    python benchmarks/gpu_stages.py --only sam,score_quality --seconds 20

Weights are random (TransNetV2's are the published ones if the store has them), saved and loaded through the real loading code;
time does not depend on their values, with one exception: what a detector finds. A line of `TABLE` makes one batch of work and
everything that belongs to it on a CPU (resizing; for stages also JPEG, decoding, encoding), so `gpu_waits` is what a recipe with
one worker would see. `gpu_use` is nvidia-smi's: the share of time with a kernel on the GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from backends import Setup, Work, grounding_dino, sam, say, score_quality, split_shots, stable_diffusion, transnetv2, yolo_face


@dataclass(frozen=True)
class Line:
    """A backend: what it counts, what makes a batch of its work, how many items that is at full and at tiny size."""

    name: str
    unit: str
    build: Callable[[Setup], Work]
    batch: int
    tiny: int = 2


TABLE = [
    Line("transnetv2", "windows of 50 frames", transnetv2, 8),
    Line("split_shots", "clips", split_shots, 16),
    Line("score_quality", "clips", score_quality, 8),
    Line("grounding_dino", "images", grounding_dino, 24),
    Line("sam", "images", sam, 8),
    Line("yolo_face", "images", yolo_face, 8),
    Line("stable_diffusion", "images", stable_diffusion, 4),
]


class Watch:
    """nvidia-smi, asked ten times a second, for as long as the block lasts. Without a GPU it sees nothing."""

    def __init__(self) -> None:
        self.use: list[float] = []

    @contextlib.contextmanager
    def __call__(self, device: str) -> Iterator[Watch]:
        if device != "cuda":
            yield self
            return
        # CUDA_VISIBLE_DEVICES' first card, by number or uuid; nvidia-smi itself does not heed that variable
        card = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
        query = ["nvidia-smi", f"--id={card}", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "100"]
        with subprocess.Popen(query, stdout=subprocess.PIPE, text=True) as smi:
            reader = threading.Thread(target=self._read, args=(smi,), daemon=True)
            reader.start()
            try:
                yield self
            finally:
                smi.terminate()
                reader.join()

    def _read(self, smi: subprocess.Popen[str]) -> None:
        for line in smi.stdout or ():
            if line.strip().isdigit():
                self.use.append(int(line) / 100)


def measure(line: Line, setup: Setup, seconds: float) -> None:
    """Warm up by two batches, then as many as fit into `seconds`, at least two."""
    import torch

    work = line.build(setup)
    for _ in range(2):
        work()
    cuda = setup.device == "cuda"
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    batches, watch = 0, Watch()
    with watch(setup.device):
        start = time.perf_counter()
        while batches < 2 or time.perf_counter() - start < seconds:
            work()
            batches += 1
        if cuda:
            torch.cuda.synchronize()
        took = time.perf_counter() - start
    facts = {"unit": line.unit, "batch": setup.batch, "batches": batches, "device": setup.device, "tiny": setup.tiny}
    say(line.name, "per_second", round(batches * setup.batch / took, 2), **facts)
    if watch.use:
        use = statistics.fmean(watch.use)
        say(line.name, "gpu_use", round(use, 3), samples=len(watch.use))
        say(line.name, "gpu_waits", round(1 - use, 3), samples=len(watch.use))
    if cuda:
        say(line.name, "gpu_memory_gb", round(torch.cuda.max_memory_allocated() / 1e9, 2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--only", default=",".join(line.name for line in TABLE))
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()
    import torch

    from curation.models.device import pick

    torch.set_num_threads(1)
    device, wanted = pick(1.0), arguments.only.split(",")
    if unknown := set(wanted) - {line.name for line in TABLE}:
        parser.error(f"--only knows {', '.join(line.name for line in TABLE)}, not {', '.join(unknown)}")
    if device == "cpu" and not arguments.tiny:
        parser.error("there is no GPU: --tiny runs small models on the CPU")
    for line in (line for line in TABLE if line.name in wanted):
        with tempfile.TemporaryDirectory(prefix="curation-bench-") as folder:
            batch = line.tiny if arguments.tiny else line.batch
            try:
                measure(line, Setup(Path(folder), arguments.tiny, device, batch), arguments.seconds)
            except ImportError as error:
                say(line.name, "skipped", str(error))
        if device == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
