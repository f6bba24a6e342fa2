"""`curation train-codec`: V1's autoencoder on finished shards, alone or on any number of processes (torchrun), replicated.

What a step holds follows from the seed and its number, so a run that was stopped goes on to the same weights.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from curation.buckets import Bucket
from curation.console import say
from curation.models.codecs import pictures, pixels
from curation.models.magvit import STRIDES, Magvit
from curation.storage import publish, replacing
from curation.store import store
from curation.trainer import clips, codec_config, sheet
from curation.trainer.batch import Batch
from curation.trainer.clips import Clips
from curation.trainer.codec_config import CodecConfig
from curation.trainer.codec_losses import EYES, Objective
from curation.trainer.data import Loader
from curation.trainer.distributed import Parallel, Process, joined
from curation.trainer.errors import TrainerError
from curation.trainer.log import cut
from curation.trainer.plan import Plan
from curation.trainer.run import FREE, claim_as
from curation.trainer.seeds import generator

RECENT = 0.01
"""Share that a step has in the latents' mean and variance, once 100 are through."""
STATE, MODEL = "state.pt", "model"


def train(name: str, shards: list[str], out: Path) -> None:
    """Train by the recipe `name` on some runs, `PATH` or `PATH=WEIGHT`. `out` gets the codec in `model/`, `log.jsonl`, `samples/`
    and `state.pt` to go on from. Raises `RecipeError`, `TrainerError`."""
    config = codec_config.load(name)
    eyes = [EYES] if config.losses.perceptual else []
    if int(os.environ.get("RANK", "0")) == 0:
        store.fetch(eyes)
    chosen, _ = clips.read([clips.Run.of(text) for text in shards], config.data)
    sections = {name: dataclasses.asdict(getattr(config, name)) for name in codec_config.SECTIONS}
    free = (*FREE["data"], *FREE["training"], "checkpointing", "sample_every")
    told = {name: {k: v for k, v in section.items() if k not in free} for name, section in sections.items()}
    there = {"shards": shards, "clips": f"{len(chosen):,} ({chosen.digest[:8]})"}
    claim_as({**there, **told, "models": store.hashes(eyes)}, out)
    with joined(Parallel(shard=1)) as process:
        CodecTrainer(config, chosen, out, process).run()


class CodecTrainer:
    """One process of a training run. All have the whole networks; gradients are averaged once a step."""

    def __init__(self, config: CodecConfig, chosen: Clips, out: Path, process: Process):
        self.config, self.out, self.process, self.knobs = config, out, process, config.training
        if process.device.type == "cpu":
            free = (os.cpu_count() or 1) // process.world - config.data.workers
            torch.set_num_threads(max(1, min(torch.get_num_threads(), free)))
        with torch.random.fork_rng():
            torch.manual_seed(self.knobs.seed)
            self.network = Magvit(config.network, self.knobs.checkpointing).to(process.device)
            self.objective = Objective(config.losses, process.device, self._autocast)
        self.optimizers = [self._adamw(network) for network in self._networks()]
        self.average = {name: value.detach().clone() for name, value in self.network.named_parameters()}
        self.plan = Plan(chosen, config.data.table(), self.knobs.seed)
        rank, world, pin = process.rank, process.world, process.device.type == "cuda"
        self.loader = Loader(self.plan, config.data, None, rank=rank, world=world, tokens=_tokens, pin=pin)
        self.step = self._restore() if (out / STATE).exists() else 0

    def run(self) -> None:
        """To the last step."""
        knobs, leads = self.knobs, self.process.leads
        if leads:
            count = sum(p.numel() for p in self.network.parameters())
            say(f"{count:,} parameters; from step {self.step} on {self.process.world} × {self.process.device.type}")
            say(self.plan.described(knobs.steps))
            lines = cut(self.out / "log.jsonl", self.step)
        sums: list[dict[str, Tensor]] = []
        start = time.monotonic()
        for batches in self.loader.steps(self.step, knobs.steps):
            sums.append(self.update(batches))
            self.step += 1
            last = self.step == knobs.steps
            if self.step % knobs.log_every == 0 or last:
                line = {"step": self.step, **self._means(sums), "rate": self._rate()}
                line["seconds"] = round((time.monotonic() - start) / len(sums), 3)
                if leads:
                    lines.write(json.dumps(line) + "\n")
                    lines.flush()
                    told = "  ".join(f"{name} {value:g}" for name, value in line.items() if name != "step")
                    say(f"step {self.step}/{knobs.steps}  {told}")
                sums, start = [], time.monotonic()
            if self.step % knobs.save_every == 0 or last:
                self._save()
            if knobs.sample_every and (self.step % knobs.sample_every == 0 or last) and leads and batches[0].keys:
                self._sample(batches[0])
        if leads:
            lines.close()

    def update(self, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """One step of the optimisers. Returns its terms, this process's share of them, and the norm of the gradient."""
        self.network.train()
        total: dict[str, Tensor] = {}
        channels = self.config.network.channels
        seen = torch.zeros(2, channels, device=self.process.device)
        clips = batches[0].bucket.batch / self.process.world
        for batch in batches:
            if batch.video is None or not batch.keys:  # nothing is shared before the step's end
                continue
            share = len(batch.keys) / clips
            video = pixels(batch.video.to(self.process.device))
            with self._autocast():
                made, posterior = self.network(video, self._noise(batch))
            terms = self.objective.terms(made.float(), video, posterior, self.step)
            (terms["loss"] * share).backward()
            mean = posterior.mean.detach().float()
            seen += share * torch.stack([mean.mean((0, 2, 3, 4)), mean.square().mean((0, 2, 3, 4))])
            if self.objective.has_adversary(self.step):
                terms |= (judged := self.objective.judged(made.detach().float(), video))
                (judged["judge"] * share).backward()
            for name, value in terms.items():
                total[name] = total.get(name, 0) + share * value.detach()
        total["norm"] = self._apply(total)
        self._keep(seen)
        return total

    def _apply(self, total: dict[str, Tensor]) -> Tensor:
        """Average the gradients over the processes and step. Returns the autoencoder's norm."""
        norms = []
        for network, optimizer in zip(self._networks(), self.optimizers, strict=True):
            trained = [p for p in network.parameters() if p.grad is not None]
            if self.process.world > 1:
                for parameter in trained:
                    parameter.grad = self.process.mean(parameter.grad) if parameter.grad is not None else None
            norms.append(nn.utils.clip_grad_norm_(trained, self.knobs.max_norm))
            if not norms[-1].isfinite():
                raise TrainerError(f"step {self.step}: the gradient is not finite: go on with a smaller training.lr, or fp32")
            for group in optimizer.param_groups:
                group["lr"] = self._rate()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if self.objective.adversary and "real" in total:
            self.objective.adversary.remember(self.process.mean(total["real"]), self.process.mean(total["fake"]))
        return norms[0]

    @torch.no_grad()
    def _keep(self, seen: Tensor) -> None:
        """Averaged weights; the latents' mean and variance, whose first value is the first step's."""
        decay = min(self.knobs.ema, (1 + self.step) / (10 + self.step))
        for name, value in self.network.named_parameters():
            self.average[name].lerp_(value, 1 - decay)
        mean, square = self.process.mean(seen)
        old, share = self.network, max(RECENT, 1 / (1 + self.step))
        squares = (old.variance + old.mean.square()).lerp(square, share)
        old.mean.lerp_(mean, share)
        old.variance.copy_(squares - old.mean.square())

    def _noise(self, batch: Batch) -> Tensor:
        """Of each clip by step and slot, however the step is shared."""
        bucket = batch.bucket
        shape = (1 + (bucket.frames - 1) // STRIDES[0], bucket.height // STRIDES[1], bucket.width // STRIDES[2])
        drawn = [generator(self.knobs.seed, batch.step, slot, "posterior") for slot in batch.slots]
        noise = [torch.randn(self.config.network.channels, *shape, generator=source) for source in drawn]
        return torch.stack(noise).to(self.process.device)

    def _means(self, sums: list[dict[str, Tensor]]) -> dict[str, float]:
        """Of the last steps' terms over all processes, and the PSNR that the mean squared error is."""
        names = list(sums[-1])
        means = self.process.mean(torch.stack([torch.stack([one[n] for one in sums if n in one]).mean() for n in names]))
        found = dict(zip(names, means.tolist(), strict=True))
        found["psnr"] = 10 * torch.log10(4 / means[names.index("l2")]).item()
        return {name: round(value, 5) for name, value in found.items()}

    def _rate(self) -> float:
        return self.knobs.lr * min(1.0, (self.step + 1) / max(1, self.knobs.warmup))

    def _autocast(self) -> Any:
        return torch.autocast(self.process.device.type, torch.bfloat16, enabled=self.knobs.precision == "bf16")

    def _networks(self) -> list[nn.Module]:
        return [self.network, *([self.objective.adversary] if self.objective.adversary else [])]

    def _adamw(self, network: nn.Module) -> torch.optim.AdamW:
        return torch.optim.AdamW(
            network.parameters(), self.knobs.lr, (self.knobs.betas[0], self.knobs.betas[1]), weight_decay=0.0
        )

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The network with its averaged weights."""
        own = {name: value.detach().clone() for name, value in self.network.named_parameters()}
        self.network.load_state_dict(self.average, strict=False)
        try:
            yield
        finally:
            self.network.load_state_dict(own, strict=False)

    def _save(self) -> None:
        """`model/`, then `state.pt`: a state is there only with its model."""
        if self.process.leads:
            temporary = self.out / f".{MODEL}.tmp"
            shutil.rmtree(temporary, ignore_errors=True)
            with self._averaged():
                self.network.save(temporary)
            shutil.rmtree(self.out / MODEL, ignore_errors=True)
            publish(temporary, self.out / MODEL)
            states = [network.state_dict() for network in self._networks()]
            moments = [optimizer.state_dict() for optimizer in self.optimizers]
            with replacing(self.out / STATE) as file:
                torch.save({"step": self.step, "networks": states, "optimizers": moments, "average": self.average}, file)
        self.process.barrier()

    def _restore(self) -> int:
        found = torch.load(self.out / STATE, map_location=self.process.device, weights_only=True)
        for network, state in zip(self._networks(), found["networks"], strict=True):
            network.load_state_dict(state)
        for optimizer, state in zip(self.optimizers, found["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self.average = found["average"]
        return int(found["step"])

    @torch.no_grad()
    def _sample(self, batch: Batch) -> None:
        """A clip of the batch, and what the averaged weights make of it."""
        assert batch.video is not None
        self.network.eval()
        video = pixels(batch.video[:1].to(self.process.device))
        with self._averaged(), self._autocast():
            made = self.network.decode(self.network.encode(video, STRIDES[0]).mean, 1).float()
        psnr = 10 * torch.log10(4 / F.mse_loss(made.clamp(-1, 1), video)).item()
        file = self.out / "samples" / f"step-{self.step:08d}.mp4"
        sheet.publish(file, pictures(made)[0].cpu(), self.config.data.fps, f"{psnr:.1f} dB", [], batch.video[0])


def _tokens(bucket: Bucket) -> int:
    """Places of one clip's latents."""
    return (1 + (bucket.frames - 1) // STRIDES[0]) * bucket.width * bucket.height // STRIDES[1] ** 2
