"""Steps/s, tokens/s, MFU and peak memory of training steps, beside what matrix products and attention reach in the same run.

    python benchmarks/train_step.py                                 # on a GPU: ~1B parameters; on a CPU: tiny
    python benchmarks/train_step.py --size 1b --frames 49 --width 512 --height 288 --batch 2 --compile --checkpointing full

Random weights, latents and conditions of V2's encoders (16 latent channels, text 226 × 4096, images 256 × 1024); the time does
not depend on their values. A step is the trainer's: the model's own estimate, forward, backward, gradient clipping, AdamW,
bfloat16 on a GPU. Encoders and the loader are not in it. One JSON line per figure. `of_peak` is model FLOPs utilisation against
the GPU's data sheet, `of_gemm` against the feed-forward layer's matrix products alone, measured in the same run.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import nn
from torch.nn.functional import mse_loss, scaled_dot_product_attention

from curation.trainer import flow
from curation.trainer.flops import forward_flops, step_flops
from curation.trainer.log import PEAKS
from curation.trainer.model import SIZES, Architecture, DiT, Size, count_parameters

TEXT_TOKENS = 226
"""CogVideoX's padded length of a prompt."""


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

    def half(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.gpu)

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


class Step:
    """Training steps on one batch."""

    def __init__(self, bench: Bench, size: Size, shape: tuple[int, int, int, int, int], compiled: bool):
        device = bench.device
        self.bench = bench
        with device:
            self.model = DiT(size)
            draw = torch.Generator(device).manual_seed(0)
            self.x0, self.noise = (torch.randn(shape, generator=draw) for _ in range(2))
            self.t = flow.draw_times(shape[0], draw)
            self.conditions = {
                "text": torch.randn(shape[0], TEXT_TOKENS, size.text_dim, generator=draw),
                "text_mask": torch.arange(TEXT_TOKENS).expand(shape[0], -1) < TEXT_TOKENS // 2,
                "images": torch.randn(shape[0], size.slots, size.image_tokens, size.image_dim, generator=draw),
                "words": torch.randn(shape[0], size.slots, size.words, size.text_dim, generator=draw),
                "slots": torch.arange(size.slots).expand(shape[0], -1) < size.slots // 2,
            }
        if compiled:
            for block in self.model.blocks:
                block.compile()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, betas=(0.9, 0.99), fused=True)

    def __call__(self) -> None:
        z, self_cond = flow.noised(self.x0, self.noise, self.t), None
        with self.bench.half():
            if self.model.size.self_conditioning:
                with torch.no_grad():
                    self_cond = flow.estimate(z, self.model(z, self.t, **self.conditions), self.t)
            velocity = self.model(z, self.t, **self.conditions, self_cond=self_cond)
        mse_loss(velocity, flow.target(self.x0, self.noise)).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 0.05)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def arguments() -> argparse.Namespace:
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="1b" if gpu else "tiny")
    parser.add_argument("--batch", type=int, default=4 if gpu else 1)
    parser.add_argument("--frames", type=int, default=49 if gpu else 9)
    parser.add_argument("--width", type=int, default=512 if gpu else 128)
    parser.add_argument("--height", type=int, default=288 if gpu else 128)
    parser.add_argument("--compile", action="store_true", help="torch.compile, block by block")
    parser.add_argument("--checkpointing", choices=["none", "full", "selective"], default="none")
    parser.add_argument("--no-self-conditioning", action="store_true", help="no self-conditioning")
    parser.add_argument("--rounds", type=int, default=10 if gpu else 3)
    return parser.parse_args()


def main() -> None:
    chosen = arguments()
    bench = Bench(chosen.rounds)
    architecture = Architecture(
        size=chosen.size, checkpointing=chosen.checkpointing, self_conditioning=not chosen.no_self_conditioning
    )
    size = architecture.size_with(channels=16, text_dim=4096, image_dim=1024, image_tokens=256)
    shape = (chosen.batch, 16, 1 + (chosen.frames - 1) // 4, chosen.height // 8, chosen.width // 8)
    step = Step(bench, size, shape, chosen.compile)
    tokens = step.model.tokens(shape)
    name = torch.cuda.get_device_name() if bench.gpu else f"CPU, {torch.get_num_threads()} threads"
    say(device=name, torch=torch.__version__, dtype=str(bench.dtype), **vars(chosen), parameters=count_parameters(step.model))
    gemm = bench.gemm(chosen.batch * tokens, size.width, size.inner)
    attention = bench.sdpa(chosen.batch, size.heads, tokens, size.width // size.heads)
    say(ceiling="gemm", tflops=gemm / 1e12, of_peak=gemm / bench.peak() if bench.peak() else None)
    say(ceiling="sdpa", tflops=attention / 1e12, of_gemm=attention / gemm)
    if bench.gpu:
        torch.cuda.reset_peak_memory_stats()
    seconds = bench.seconds(step)
    work = step_flops(size, chosen.batch, tokens, TEXT_TOKENS)
    say(
        steps_per_second=1 / seconds,
        tokens_per_video=tokens,
        tokens_per_second=chosen.batch * tokens / seconds,
        tflops=work / seconds / 1e12,
        of_peak=work / seconds / bench.peak() if bench.peak() else None,
        of_gemm=work / seconds / gemm,
        forward_tflop_per_video=forward_flops(size, tokens, TEXT_TOKENS) / 1e12,
        self_attention_share=4 * size.blocks * tokens**2 * size.width / forward_flops(size, tokens, TEXT_TOKENS),
        peak_gib=torch.cuda.max_memory_allocated() / 2**30 if bench.gpu else None,
    )


if __name__ == "__main__":
    main()
