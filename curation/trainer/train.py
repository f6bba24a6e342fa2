"""The training loop: rectified flow on latents, conditioned on text and on pictures bound to its words (PAPER.md §4, §5)."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from curation.buckets import Bucket
from curation.console import say
from curation.trainer import backbones, checkpoint, flow
from curation.trainer.batch import Batch
from curation.trainer.clips import Clips
from curation.trainer.conditions import Parts
from curation.trainer.config import Config, Training
from curation.trainer.data import Loader
from curation.trainer.distributed import Process, joined, local, parallelize
from curation.trainer.errors import Stopped, TrainerError
from curation.trainer.flops import step_flops
from curation.trainer.log import Log, not_trained_on
from curation.trainer.model import ADAPTER, PERSONALIZATION, DiT, count_parameters, freeze
from curation.trainer.plan import Plan
from curation.trainer.seeds import generator, seed
from curation.trainer.validate import Validator

Step = tuple[list[Batch], int]
"""This process's micro-batches of one step, and how many clips the step has over all processes."""


def run(config: Config, clips: Clips, held: Clips, out: Path) -> None:
    """Train to the recipe's last step, from the newest checkpoint in `out` where there is one; in every process of a group.

    `held`: clips that are not trained on."""
    knobs = config.training
    with joined(knobs.parallel) as process:
        if process.device.type == "cpu":  # threads that wait for a core cost more than they bring
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // process.world - config.data.workers))
        plan = Plan(clips, config.data.table(), knobs.seed)
        trainer = Trainer(config, Parts(config, process.device, clips.latents, clips.text), out, process)
        rank, world, pin = process.data_rank, process.data_world, process.device.type == "cuda"
        shared: dict[str, Any] = {"rank": rank, "world": world, "tokens": trainer.tokens, "pin": pin}
        loader = Loader(plan, config.data, config.references, config.augment, **shared)
        if process.leads:
            say(plan.described(knobs.steps))
        validator = None
        if config.validation.every:
            validator = Validator(config, trainer.parts, process, clips, held, trainer.tokens)
        steps = lambda first: ((b, b[0].bucket.batch) for b in loader.steps(first, knobs.steps))  # noqa: E731
        trainer.run(steps, validator)
        not_trained_on(loader.skipped, process)


def adamw(model: nn.Module, knobs: Training) -> torch.optim.AdamW:
    """The papers' optimiser (PAPER.md §5). Only matrices decay: norms, biases and index embeddings do not (not stated by the
    papers). Every trained parameter has its moments from the start."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    decay = {name: parameter.ndim > 1 and not name.endswith("index") for name, parameter in trained.items()}
    groups = [{"params": [p for name, p in trained.items() if decay[name] == kind], "weight_decay": rate}
              for kind, rate in ((True, knobs.weight_decay), (False, 0.0))]  # fmt: skip
    fused = all(parameter.is_cuda for parameter in trained.values())
    betas = (knobs.betas[0], knobs.betas[1])
    optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=knobs.lr, betas=betas, fused=fused)
    for parameter in trained.values():
        moments = {"exp_avg": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter)}
        updates = torch.zeros((), device=parameter.device if fused else "cpu")
        optimizer.state[parameter] = {"step": updates, **moments}
    return optimizer


class Trainer:
    """One process of a training run."""

    def __init__(self, config: Config, parts: Parts, out: Path, process: Process):
        self.config, self.parts, self.out, self.process = config, parts, out, process
        self.knobs = knobs = config.training
        found = checkpoint.steps(out)
        self.step = found[-1] if found else 0
        self.model = backbones.build(config, parts)
        freeze(self.model, knobs.layers)
        parallelize(self.model, list(self.model.blocks), process, knobs.parallel, knobs.precision == "bf16")
        if isinstance(self.model, DiT):
            self.model.to_empty(device=process.device).initialise(knobs.seed)
        else:
            self.model.to(process.device)
        if knobs.start and not found:
            absent = {name for name, _ in self.model.named_parameters() if PERSONALIZATION in name or ADAPTER in name}
            checkpoint.fill(self.model, checkpoint.weights(Path(knobs.start)), absent | backbones.given(self.model))
        self.optimizer = adamw(self.model, knobs)
        self.trained = {name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        self.average = {name: parameter.detach().clone() for name, parameter in self.trained.items()}
        self.checkpoints = checkpoint.Checkpoints(out, process, knobs.keep)
        self.skipped = 0
        """Steps in a row that were not finite."""
        self.terminated, self.saved = False, time.monotonic()
        if found:
            checkpoint.restore(out, self.step, self._state(), process)

    def run(self, steps: Callable[[int], Iterator[Step]], validator: Validator | None = None) -> None:
        """To the last step; with checkpoints and validation on the way. `steps`: the data from a step on. Raises `Stopped` after
        SIGTERM."""
        knobs = self.knobs
        if self.process.leads:
            trained = sum(parameter.numel() for parameter in self.trained.values())
            numbers = f"{count_parameters(self.model):,} parameters, {trained:,} of them trained"
            say(f"{numbers}; from step {self.step} on {self.process.world} × {self.process.device.type}")
        if knobs.compile:  # block by block: one graph serves all of them, also where they are sharded or recomputed
            torch._dynamo.config.recompile_limit = 8 * len(self.config.data.table())  # each bucket has its shapes
            for block in self.model.blocks:
                block.compile(dynamic=False)
        with self._heeding(), Log(self.out, self.process, self._flops, knobs.steps, self.step, knobs.wandb) as log:
            coming = log.waiting(steps(self.step))
            while self.step < knobs.steps:
                batches, clips = next(coming)
                loss, norm, skipped, terminated, due = self.update(batches, clips)
                log.add(loss, norm, skipped, batches, clips)
                self.step += 1
                last = self.step == knobs.steps
                if last or terminated or self.step % knobs.log_every == 0:
                    log.write(self.step, self._rate(self.step - 1))
                self.checkpoints.settle()
                if last or terminated or due or self.step % knobs.save_every == 0:
                    self.checkpoints.save(self.step, self._state(), last)
                    self.saved = time.monotonic()
                if validator and (last or self.step % self.config.validation.every == 0):
                    self._validate(validator, log)
                if terminated and not last:
                    self.checkpoints.settle(wait=True)
                    raise Stopped(f"stopped by SIGTERM; step {self.step} is saved, the same command goes on")
            self.checkpoints.settle(wait=True)

    def update(self, batches: list[Batch], clips: int) -> tuple[Tensor, Tensor, bool, bool, bool]:
        """One step of the optimiser on `clips` clips, of which this process has some. Returns its loss, to be averaged over the
        processes, the norm of its gradient, and, agreed by all processes, whether it was left out because one of these is not
        finite, whether SIGTERM has come and whether a checkpoint is due by the clock. Raises `TrainerError`."""
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(self.step)
        total = torch.zeros((), device=self.process.device)
        for part, batch in enumerate(batches):
            if isinstance(self.model, FSDPModule):  # shards' gradients are reduced each time, which saves memory; copies' once
                self.model.set_requires_all_reduce(part == len(batches) - 1)
            loss = self.loss(batch).sum() / clips
            (loss * self.process.world).backward()  # gradients are averaged over all processes
            total += loss.detach() * self.process.data_world
        norm = nn.utils.clip_grad_norm_([p for p in self.trained.values() if p.grad is not None], self.knobs.max_norm)
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        skipped, terminated, due = self.process.any(~(total + norm).isfinite(), self.terminated, self._due())
        self.skipped = self.skipped + 1 if skipped else 0
        if self.skipped > self.knobs.max_skipped:
            why = f"the loss or its gradient was not finite in {self.skipped} steps in a row"
            raise TrainerError(f"step {self.step + 1}: {why}: take a lower training.lr, or an earlier checkpoint")
        if not skipped:
            self.optimizer.step()
            self._keep_average()
        self.optimizer.zero_grad(set_to_none=True)
        return total, norm, skipped, terminated, due

    def loss(self, batch: Batch) -> Tensor:
        """The mean squared error of the velocity of each clip, [B] (PAPER.md §5 "Rectified flow"). All that is drawn for a clip
        depends on the seed, the step and its slot alone. Of an empty batch: [0], after the same forward passes."""
        if not batch.keys:
            return self.loss(self._one_like(batch)) * 0
        knobs, device = self.knobs, self.process.device
        drawn = [generator(knobs.seed, self.step, slot) for slot in batch.slots]
        x0 = self.parts.latents(batch)
        often = torch.tensor([knobs.drop_text, knobs.drop_images, knobs.self_conditioning])
        drop_text, drop_images, given = (torch.stack([torch.rand(3, generator=g) for g in drawn]) < often).T.to(device)
        shift = knobs.shift or flow.resolution_shift(self.model.tokens(x0.shape))
        t = torch.cat([self.parts.schedule.draw(1, g, shift) for g in drawn]).to(device)
        noise = torch.stack([torch.randn(x0.shape[1:], generator=g) for g in drawn]).to(device)
        conditions = self.parts.conditioner(batch.captions, batch.references, batch.text)
        told = conditions.without(text=drop_text, images=drop_images).keywords(cut=not knobs.compile)
        z = flow.noised(x0, noise, t)
        if self.parts.size.dropout:
            torch.manual_seed(seed(knobs.seed, self.step, self.process.rank, batch.slots[0], "dropout"))
        with self.autocast():
            self_cond = None
            if self.parts.size.self_conditioning:
                with torch.no_grad():
                    first = self.model(z, t, **told)
                self_cond = flow.estimate(z, first, t) * given.view(-1, 1, 1, 1, 1)
            velocity = self.model(z, t, **told, self_cond=self_cond)
        return (velocity - flow.target(x0, noise)).square().flatten(1).mean(1)

    def autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.process.device.type, torch.bfloat16, enabled=self.knobs.precision == "bf16")

    def _rate(self, step: int) -> float:
        return self.knobs.lr * min(1.0, (step + 1) / max(1, self.knobs.warmup))

    @torch.no_grad()
    def _keep_average(self) -> None:
        decay = min(self.knobs.ema, (1 + self.step) / (10 + self.step))
        averages = [local(value) for value in self.average.values()]
        torch._foreach_lerp_(averages, [local(value) for value in self.trained.values()], 1 - decay)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The model with its averaged weights, for sampling."""
        own = {name: value.detach().clone() for name, value in self.trained.items()}
        self._put(self.average)
        try:
            yield
        finally:
            self._put(own)

    @torch.no_grad()
    def _put(self, values: dict[str, Tensor]) -> None:
        for name, value in self.trained.items():
            value.copy_(values[name])

    def _state(self) -> checkpoint.State:
        return checkpoint.State(self.model, self.optimizer, self.average, frozen=isinstance(self.model, DiT))

    def _due(self) -> bool:
        """By the leading process's clock."""
        minutes = self.knobs.save_minutes
        return self.process.leads and minutes is not None and time.monotonic() - self.saved > 60 * minutes

    @contextmanager
    def _heeding(self) -> Iterator[None]:
        """SIGTERM is noted; the step under way ends first. Ray Train, which works in a thread, keeps it for itself."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGTERM, lambda *_: setattr(self, "terminated", True))
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def _validate(self, validator: Validator, log: Log) -> None:
        with self.averaged():
            self.model.eval()
            found = validator.losses(self.model, self.autocast)
            found |= validator.samples(self.model, self.autocast, self.out / "samples" / f"step-{self.step:08d}")
        self.process.barrier()
        log.validated(self.step, found)

    def _flops(self, batch: Batch) -> float:
        """Of one step on a batch, in this process."""
        if isinstance(self.model, backbones.Backbone):
            whole = len(batch.keys) * self.model.step_flops(self.parts.shape(batch.bucket), self.parts.text_length)
        else:
            whole = step_flops(self.parts.size, len(batch.keys), self.tokens(batch.bucket), self.parts.text_length)
        return whole / self.process.context

    def tokens(self, bucket: Bucket) -> int:
        """Of one clip."""
        return self.model.tokens(self.parts.shape(bucket))

    def _one_like(self, batch: Batch) -> Batch:
        """A batch of one clip of the same shape, all zeros, with no text and no references; nothing is encoded for it."""
        latents = torch.zeros(1, *self.parts.shape(batch.bucket))
        text = [(torch.zeros(0, self.parts.size.text_dim), torch.zeros(0, 2))]
        told: dict[str, Any] = {"captions": [""], "references": [[]], "firsts": [0], "slots": [0]}
        return dataclasses.replace(batch, keys=[""], video=None, latents=latents, text=text, **told)
