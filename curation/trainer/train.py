"""The training loop: rectified flow on latents, conditioned on text and on pictures bound to its words (PAPER.md §4, §5)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from curation.buckets import Bucket
from curation.console import say
from curation.trainer import checkpoint, flow
from curation.trainer.batch import Batch
from curation.trainer.clips import Clips
from curation.trainer.conditions import Parts
from curation.trainer.config import Config, Training
from curation.trainer.data import Loader
from curation.trainer.distributed import Process, joined, parallelize
from curation.trainer.flops import step_flops
from curation.trainer.log import Log
from curation.trainer.model import PERSONALIZATION, DiT, count_parameters, freeze, parameters_of
from curation.trainer.plan import Plan
from curation.trainer.sample import Maker, publish
from curation.trainer.seeds import generator


def run(config: Config, clips: Clips, held: Clips, out: Path) -> None:
    """Train to the recipe's last step, from the newest checkpoint in `out` where there is one; in every process of a group.

    `held`: clips that are not trained on."""
    with joined() as process:
        Trainer(config, clips, held, out, process).run()


def adamw(model: nn.Module, knobs: Training) -> torch.optim.AdamW:
    """The papers' optimiser (PAPER.md §5). Every trained parameter has its moments from the start, so that all checkpoints hold
    the same, also while some are left alone."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    betas = (knobs.betas[0], knobs.betas[1])
    optimizer = torch.optim.AdamW(trained, lr=knobs.lr, betas=betas, weight_decay=knobs.weight_decay)
    for parameter in trained:
        moments = {"exp_avg": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter)}
        optimizer.state[parameter] = {"step": torch.tensor(0.0), **moments}
    return optimizer


class Trainer:
    """One process of a training run."""

    def __init__(self, config: Config, clips: Clips, held: Clips, out: Path, process: Process):
        self.config, self.out, self.process = config, out, process
        self.knobs = knobs = config.training
        if process.device.type == "cpu":  # threads that wait for a core cost more than they bring
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // process.world - config.data.workers))
        self.parts = Parts(config, process.device, clips.runs[0].where)
        self.bare = DiT(self.parts.size, knobs.seed).to(process.device)
        found = checkpoint.steps(out)
        self.step = found[-1] if found else 0
        if knobs.start and not found:
            checkpoint.fill(self.bare, checkpoint.weights(Path(knobs.start)), Path(knobs.start), new=PERSONALIZATION)
        freeze(self.bare, knobs.layers)
        self.model = parallelize(self.bare, list(self.bare.blocks), process, knobs.parallel, knobs.precision == "bf16")
        self.optimizer = adamw(self.bare, knobs)
        self.average = {name: value.detach().float().clone() for name, value in self.bare.named_parameters()}
        self.plan = Plan(clips, config.data.table(), knobs.seed)
        most = {bucket: max(1, (config.data.tokens or 1 << 62) // self._tokens(bucket)) for bucket in self.plan.buckets}
        sharing = {"rank": process.rank, "world": process.world}
        self.loader = Loader(self.plan, config.data, config.references, **sharing, most=most, pin=process.device.type == "cuda")
        if found:
            checkpoint.restore(out, self.step, self._state(), process)

    def run(self) -> None:
        """To the last step; with checkpoints and samples on the way."""
        knobs = self.knobs
        if self.process.leads:
            trained = sum(p.numel() for p in self.bare.parameters() if p.requires_grad)
            numbers = f"{count_parameters(self.bare):,} parameters, {trained:,} of them trained"
            say(f"{numbers}; from step {self.step} on {self.process.world} × {self.process.device.type}")
            say(self.plan.described(knobs.steps))
        if knobs.compile:  # block by block: one graph serves all of them, also where they are sharded or recomputed
            torch._dynamo.config.recompile_limit = 8 * len(self.config.data.table())  # each bucket has its shapes
            for block in self.bare.blocks:
                block.compile(dynamic=False)
        with Log(self.out, self.process, self._flops, knobs.steps, self.step) as log:
            for step in log.waiting(self.loader.steps(self.step, knobs.steps)):
                log.add(*self.update(step), step)
                self.step += 1
                if self.step % knobs.log_every == 0 or self.step == knobs.steps:
                    log.write(self.step, self._rate())
                if self.step % knobs.save_every == 0 or self.step == knobs.steps:
                    self._save()
                if knobs.sample_every and self.step % knobs.sample_every == 0:
                    self._sample(step[-1])
            log.skipped(self.loader.skipped)

    def update(self, batches: list[Batch]) -> tuple[torch.Tensor, torch.Tensor]:
        """One step of the optimiser. Returns its loss and the norm of its gradient."""
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        total = torch.zeros((), device=self.process.device)
        clips = batches[0].bucket.batch / self.process.world
        for part, batch in enumerate(batches):
            with self._synchronised(part == len(batches) - 1):
                drawn = generator(self.knobs.seed, self.step, self.process.rank, part)
                loss = self.loss(batch, drawn) * (len(batch.keys) * batch.counts / clips)
                loss.backward()
            total += loss.detach()
        if self.step < self.knobs.new_layers_first:
            for _, parameter in parameters_of(self.bare, "backbone"):
                parameter.grad = None  # left alone by the optimiser; computed, for the sharded model cannot change what it trains
        norm = nn.utils.clip_grad_norm_([p for p in self.bare.parameters() if p.grad is not None], self.knobs.max_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._keep_average()
        return total, norm.full_tensor() if isinstance(norm, DTensor) else norm

    def _synchronised(self, last: bool) -> AbstractContextManager[Any]:
        """Replicas' gradients travel with the last of several batches alone."""
        return nullcontext() if last or not isinstance(self.model, DistributedDataParallel) else self.model.no_sync()

    def loss(self, batch: Batch, generator: torch.Generator) -> torch.Tensor:
        """The mean squared error of the velocity over one batch (PAPER.md §5 "Rectified flow"); all chance is the generator's."""
        knobs, device = self.knobs, self.process.device
        x0 = self.parts.latents(batch)
        conditions = self.parts.conditioner(batch.captions, batch.references, generator)
        count = len(x0)
        often = torch.tensor([knobs.drop_text, knobs.drop_images, knobs.self_conditioning])
        drop_text, drop_images, given = (torch.rand(3, count, generator=generator) < often[:, None]).to(device)
        conditions = conditions.without(text=drop_text, images=drop_images)
        shift = knobs.shift or flow.resolution_shift(self.bare.tokens(x0.shape))
        t = flow.draw_times(count, generator, shift).to(device)
        noise = torch.randn(x0.shape, generator=generator).to(device)
        z = flow.noised(x0, noise, t)
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))  # for dropout
        with self.autocast():
            self_cond = None
            if self.parts.size.self_conditioning:
                with torch.no_grad():
                    first = self.model(z, t, **conditions.keywords())
                self_cond = flow.estimate(z, first, t) * given.view(-1, 1, 1, 1, 1)
            velocity = self.model(z, t, **conditions.keywords(), self_cond=self_cond)
        return F.mse_loss(velocity, flow.target(x0, noise))

    def autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.process.device.type, torch.bfloat16, enabled=self.knobs.precision == "bf16")

    def _rate(self) -> float:
        return self.knobs.lr * min(1.0, (self.step + 1) / max(1, self.knobs.warmup))

    @torch.no_grad()
    def _keep_average(self) -> None:
        decay = min(self.knobs.ema, (1 + self.step) / (10 + self.step))
        for name, value in self.bare.named_parameters():
            self.average[name].lerp_(value.float(), 1 - decay)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The model with its averaged weights, for sampling."""
        own = {name: value.detach().clone() for name, value in self.bare.named_parameters()}
        self._put(self.average)
        try:
            yield
        finally:
            self._put(own)

    @torch.no_grad()
    def _put(self, values: checkpoint.Averages) -> None:
        for name, value in self.bare.named_parameters():
            value.copy_(values[name])

    def _save(self) -> None:
        checkpoint.save(self.out, self.step, self._state(), self.process, self.knobs.keep)

    def _state(self) -> checkpoint.State:
        return checkpoint.State(self.bare, self.optimizer, self.average)

    def _sample(self, batch: Batch) -> None:
        """What the averaged weights make of this batch's first clip: its caption and references, beside the clip itself."""
        with self.averaged():
            self.model.eval()
            maker = Maker(self.parts, self.model, self.config.sampling, self.autocast)
            video = maker(batch.captions[0], batch.references[0], batch.bucket, self.knobs.seed)
        if self.process.leads:
            file = self.out / "samples" / f"step-{self.step:08d}.mp4"
            publish(file, video, self.config.data.fps, batch.captions[0], batch.references[0], batch.video[0])

    def _flops(self, batch: Batch) -> float:
        """Of one step on a batch, in this process."""
        shape = self.parts.codec.shape(batch.bucket.frames, batch.bucket.height, batch.bucket.width)
        return step_flops(self.parts.size, len(batch.keys), self.bare.tokens(shape), self.parts.text.length)

    def _tokens(self, bucket: Bucket) -> int:
        """Of one clip."""
        return self.bare.tokens(self.parts.codec.shape(bucket.frames, bucket.height, bucket.width))
