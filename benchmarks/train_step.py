"""The trainer's own step: samples/s, tokens/s, MFU, what waits for the loader and what the encoders take, peak memory.

    python benchmarks/train_step.py                             # made batches; on a GPU ~1B parameters, on a CPU tiny
    python benchmarks/train_step.py --model '{"size": "1b"}' --bucket 49x512x288 --batch 2 --training '{"compile": true}'
    python benchmarks/train_step.py train-tiny --shards runs/sample [--sidecars DIR]      # with the loader and the encoders

With shards a step is all that `curation train` does of it: the loader's decoding, text and image encoders, codec, augmentation,
the model's own estimate, forward, backward, clipping, AdamW, averages; then the same again with the loader's batches at hand, and
the encoders alone. Without, the latents and conditions are made (16 latent channels, text 226 × 4096, images 256 × 1024: V2's),
and a step is the rest. Steps are the trainer's `update`; sizes and knobs are the recipe's, replaced by what is given here.

FLOPs: matrix products of the transformer, a multiply–add is two; forward, twice that backward, and the forward pass of its own
estimate in every step (`curation/trainer/flops.py`); neither recomputation nor the encoders. `of_peak` is model FLOPs utilisation
against the GPU's data sheet, `of_gemm` against the feed-forward layer's matrix products alone, measured in the same run.
One JSON line per figure.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from curation.buckets import Bucket
from curation.trainer import backbones, clips
from curation.trainer import config as configs
from curation.trainer.batch import Batch, Reference
from curation.trainer.conditions import Conditions, Parts
from curation.trainer.config import Config
from curation.trainer.data import Loader
from curation.trainer.distributed import joined
from curation.trainer.flops import forward_flops, step_flops
from curation.trainer.log import PEAKS
from curation.trainer.model import Size, count_parameters
from curation.trainer.plan import Plan
from curation.trainer.train import Trainer

CHANNELS, TEXT, IMAGE = 16, (226, 4096), (256, 1024)
"""CogVideoX's latent channels; tokens and channels of T5-XXL, padded as CogVideoX does, and of DINOv2 ViT-L/14."""


def say(**line: object) -> None:
    print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in line.items()}), flush=True)


class Bench:
    """The device, how to time on it, and the type to compute in."""

    def __init__(self, rounds: int):
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.gpu, self.rounds = self.device.type == "cuda", rounds
        self.dtype = torch.bfloat16 if self.gpu else torch.float32

    def seconds(self, work: Callable[[], object]) -> float:
        """Mean seconds of `work`, after two calls that do not count."""
        for _ in range(2):
            work()
        self.wait()
        start = time.perf_counter()
        for _ in range(self.rounds):
            work()
        self.wait()
        return (time.perf_counter() - start) / self.rounds

    def best(self, work: Callable[[], object]) -> float:
        """The lowest of three means: a ceiling is what the device can do undisturbed."""
        return min(self.seconds(work) for _ in range(3))

    def wait(self) -> None:
        if self.gpu:
            torch.cuda.synchronize()

    def peak(self) -> float | None:
        """FLOP/s by the data sheet, where it is known."""
        name = torch.cuda.get_device_name() if self.gpu else ""
        return next((value for part, value in PEAKS.items() if part in name), None)

    def gemm(self, tokens: int, width: int, inner: int) -> float:
        """FLOP/s of the feed-forward layer's two products, forward and backward."""
        x = torch.randn(tokens, width, device=self.device, dtype=self.dtype, requires_grad=True)
        up, down = (
            nn.Linear(a, b, bias=False, device=self.device, dtype=self.dtype) for a, b in ((width, inner), (inner, width))
        )
        grad = torch.randn_like(x)
        return 3 * 4 * tokens * width * inner / self.best(lambda: down(up(x)).backward(grad))

    def sdpa(self, batch: int, heads: int, tokens: int, head: int) -> float:
        """FLOP/s of self-attention, forward and backward; the backward pass counted as twice the forward."""
        shape = batch, heads, tokens, head
        q, k, v = (torch.randn(shape, device=self.device, dtype=self.dtype, requires_grad=True) for _ in range(3))
        grad = torch.randn(shape, device=self.device, dtype=self.dtype)
        work = lambda: scaled_dot_product_attention(q, k, v).backward(grad)  # noqa: E731
        return 3 * 4 * batch * heads * tokens**2 * head / self.best(work)


class Made:
    """Stands where the trainer has its encoders: conditions and latents of V2's shapes, drawn once."""

    def __init__(self, config: Config, device: torch.device):
        self.device, self.text_length = device, TEXT[0]
        self.size: Size = config.model.size_with(channels=CHANNELS, text_dim=TEXT[1], image_dim=IMAGE[1], image_tokens=IMAGE[0])
        self.schedule = backbones.schedule(config.model)

    def shape(self, bucket: Bucket) -> tuple[int, int, int, int]:
        return CHANNELS, 1 + (bucket.frames - 1) // 4, bucket.height // 8, bucket.width // 8

    def latents(self, batch: Batch) -> Tensor:
        assert batch.latents is not None
        return batch.latents

    def conditioner(self, captions: Sequence[str], *_: object) -> Conditions:
        """Half of the text's tokens and of the slots are filled."""
        count, size, device = len(captions), self.size, self.device
        text_mask = (torch.arange(TEXT[0], device=device) < TEXT[0] // 2).expand(count, -1)
        slots = (torch.arange(size.slots, device=device) < size.slots // 2).expand(count, -1)
        return Conditions(
            text=torch.randn(count, *TEXT, device=device),
            text_mask=text_mask,
            images=torch.randn(count, size.slots, *IMAGE, device=device),
            words=torch.randn(count, size.slots, size.words, TEXT[1], device=device),
            slots=slots,
        )

    def batch(self, bucket: Bucket) -> Batch:
        count = bucket.batch
        none: list[list[Reference]] = [[] for _ in range(count)]
        told: dict[str, Any] = {"captions": [""] * count, "references": none, "firsts": [0] * count, "slots": list(range(count))}
        latents = torch.randn(count, *self.shape(bucket), device=self.device)
        return Batch(keys=[str(n) for n in range(count)], video=None, bucket=bucket, step=0, latents=latents, **told)


def arguments() -> argparse.Namespace:
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="train-1gpu" if gpu else "train-tiny")
    parser.add_argument("--shards", help="a run: with the loader and the encoders")
    parser.add_argument("--sidecars", nargs="*", default=[], help="what was encoded of it")
    parser.add_argument("--bucket", help="FRAMESxWIDTHxHEIGHT", metavar="SHAPE", default=None if not gpu else "49x512x288")
    parser.add_argument("--batch", type=int, default=4 if gpu else None)
    parser.add_argument("--model", type=json.loads, default={"size": "1b"} if gpu else {}, help="knobs to replace, as JSON")
    parser.add_argument("--training", type=json.loads, default={}, help="the same of the section `training`")
    parser.add_argument("--rounds", type=int, default=10 if gpu else 5)
    return parser.parse_args()


def recipe(chosen: argparse.Namespace) -> Config:
    """The recipe's, with one bucket."""
    config = configs.load(chosen.recipe)
    bucket = config.data.table()[0]
    if chosen.bucket:
        frames, width, height = map(int, chosen.bucket.split("x"))
        bucket = dataclasses.replace(bucket, frames=frames, width=width, height=height)
    bucket = dataclasses.replace(bucket, batch=chosen.batch or bucket.batch)
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, **chosen.model),
        training=dataclasses.replace(config.training, start=None, **chosen.training),
        data=dataclasses.replace(config.data, buckets=[bucket]),
    )


class Steps:
    """A trainer at work on batches as they come."""

    def __init__(self, trainer: Trainer, coming: Iterator[list[Batch]], bench: Bench):
        self.trainer, self.coming, self.bench = trainer, coming, bench
        if trainer.knobs.compile:
            for block in trainer.model.blocks:
                block.compile(dynamic=False)

    def __call__(self) -> list[Batch]:
        batches = next(self.coming)
        self.trainer.update(batches, sum(len(batch.keys) for batch in batches))
        self.trainer.step += 1
        return batches

    def measure(self, rounds: int) -> tuple[float, float, list[list[Batch]]]:
        """Seconds of a step, and of these waiting for its batches; after two that do not count."""
        self(), self()
        self.bench.wait()
        start, waited, seen = time.perf_counter(), 0.0, []
        for _ in range(rounds):
            asked = time.perf_counter()
            batches = next(self.coming)
            waited += time.perf_counter() - asked
            self.trainer.update(batches, sum(len(batch.keys) for batch in batches))
            self.trainer.step += 1
            seen.append(batches)
        self.bench.wait()
        return (time.perf_counter() - start) / rounds, waited / rounds, seen


def main() -> None:
    chosen = arguments()
    config, bench = recipe(chosen), Bench(chosen.rounds)
    (bucket,) = config.data.table()
    torch.set_num_threads(max(1, torch.get_num_threads() - config.data.workers * (not bench.gpu)))
    with tempfile.TemporaryDirectory() as scratch, joined(config.training.parallel) as process:
        parts: Any
        if chosen.shards:
            read, _ = clips.read([clips.Run(chosen.shards)], config.data, chosen.sidecars)
            parts = Parts(config, process.device, read.latents, read.text)
            loader = Loader(
                Plan(read, [bucket], config.training.seed), config.data, config.references, config.augment, pin=bench.gpu
            )
            coming: Iterator[list[Batch]] = loader.steps(0, 1_000_000)
        else:
            parts = Made(config, process.device)
            coming = itertools.repeat([parts.batch(bucket)])
        trainer = Trainer(config, cast(Parts, parts), Path(scratch), process)
        size, tokens = parts.size, trainer.tokens(bucket)
        name = torch.cuda.get_device_name() if bench.gpu else f"CPU, {torch.get_num_threads()} threads"
        options = {k: v for k, v in vars(chosen).items() if v}
        say(device=name, torch=torch.__version__, **options | {"bucket": bucket.name}, parameters=count_parameters(trainer.model))
        gemm = bench.gemm(bucket.batch * tokens, size.width, size.inner)
        attention = bench.sdpa(bucket.batch, size.heads, tokens, size.width // size.heads)
        say(ceiling="gemm", tflops=gemm / 1e12, of_peak=gemm / bench.peak() if bench.peak() else None)
        say(ceiling="sdpa", tflops=attention / 1e12, of_gemm=attention / gemm)
        if bench.gpu:
            torch.cuda.reset_peak_memory_stats()
        seconds, waited, seen = Steps(trainer, coming, bench).measure(chosen.rounds)
        work = step_flops(size, bucket.batch, tokens, parts.text_length)
        say(
            samples_per_second=bucket.batch / seconds,
            tokens_per_video=tokens,
            tokens_per_second=bucket.batch * tokens / seconds,
            tflops=work / seconds / 1e12,
            of_peak=work / seconds / bench.peak() if bench.peak() else None,
            of_gemm=work / seconds / gemm,
            waiting=waited / seconds,
            forward_tflop_per_video=forward_flops(size, tokens, parts.text_length) / 1e12,
            self_attention_share=4 * size.blocks * tokens**2 * size.width / forward_flops(size, tokens, parts.text_length),
            peak_gib=torch.cuda.max_memory_allocated() / 2**30 if bench.gpu else None,
        )
        if chosen.shards:
            del coming, loader  # its workers
            ready, _, _ = Steps(trainer, itertools.cycle(seen), bench).measure(chosen.rounds)
            encoding = iter(itertools.cycle(seen))
            alone = bench.seconds(lambda: [encoded(parts, batch) for batch in next(encoding)])
            say(batches_at_hand=seconds / ready, of_gemm=work / ready / gemm, encoders=alone / ready)


def encoded(parts: Parts, batch: Batch) -> tuple[Tensor, Conditions]:
    return parts.latents(batch), parts.conditioner(batch.captions, batch.references, batch.text)


if __name__ == "__main__":
    main()
