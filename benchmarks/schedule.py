"""What a training recipe makes of so many GPUs, before they are asked for: who waits for whom, whole batches, memory.

    python benchmarks/schedule.py                                        # the papers' recipes on 8 … 256 GPUs
    python benchmarks/schedule.py train-v2-stage2b --world 64 --buckets [--tokens 20000] [--model '{"adaln": "shared"}']

Simulated, nothing is trained: the trainer's own plan draws `--steps` steps from made clips, its own split says what each GPU
computes of them, and the model's arithmetic what that costs. One JSON line per recipe and number of GPUs:

slowest_to_mean: the slowest GPU's FLOPs over the mean's, over all steps; micro-batches that are empty count as one clip, as they
    are computed. `own_buckets` is the same if every GPU drew its own bucket, as the trainer once did. Clips that are read late
    and GPUs that differ are not in it.
incomplete: steps whose clips over all GPUs are not the bucket's batch. `twice`: clips that a step has twice, where a round ends.
memory_gb: the largest bucket's, of `curation.trainer.memory`, in micro-batches of as many clips as `--tokens` tokens a GPU hold,
    at least one. Encoders come on top: T5-XXL 9.5 GB, CogVideoX's VAE 0.4, DINOv2 0.6 in bfloat16. `--buckets` has it for each.

The mesh is the recipe's where that suits its batches, slowest_to_mean ≤ 1.05; else with the fewest GPUs to a clip that does.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from curation.buckets import Bucket
from curation.storage import Storage
from curation.trainer import config as configs
from curation.trainer.clips import Clips, Group, Run
from curation.trainer.config import Config
from curation.trainer.data import parts
from curation.trainer.distributed import Parallel
from curation.trainer.errors import TrainerError
from curation.trainer.flops import forward_flops
from curation.trainer.memory import Memory, memory
from curation.trainer.model import DiT, Size
from curation.trainer.plan import Plan

RECIPES = ["train-v1-stage1", "train-v1-stage2", "train-v1-stage3", "train-v2-stage1", "train-v2-stage2a", "train-v2-stage2b"]
WORLDS = [8, 16, 32, 64, 128, 256]
CHANNELS, TEXT, IMAGE = 16, (256, 4096), (256, 1024)
"""CogVideoX's latent channels; tokens and channels of T5-XXL and of DINOv2 ViT-L/14."""
BOUND = 1.05
CLIPS = 1_000_003
"""Clips that are made up, all long enough for every bucket; no multiple of any batch."""


def tokens_of(bucket: Bucket) -> int:
    """Of a clip, with CogVideoX's autoencoder."""
    return DiT.tokens((1 + (bucket.frames - 1) // 4, bucket.height // 8, bucket.width // 8))


def made(buckets: list[Bucket]) -> Clips:
    """So many clips, each of which every bucket takes."""
    column = np.zeros(CLIPS, np.int32)
    facts: dict[str, Any] = dict.fromkeys(("tar", "offset", "size", "frames", "fps"), column)
    groups = [Group(0, (1 << len(buckets)) - 1, 0, CLIPS)]
    return Clips(runs=[Run("made")], tars=[(Storage("/"), "a")], groups=groups, passed_over=Counter(), **facts)


def meshes(config: Config, world: int, heads: int) -> Iterator[Parallel]:
    """The recipe's, and with 1 … 16 GPUs to a clip; those that suit every batch."""
    own = config.training.parallel
    for parallel in (own, *(dataclasses.replace(own, context=context) for context in (1, 2, 4, 8, 16) if not heads % context)):
        try:
            parallel.degrees(world)
            for bucket in config.data.table():
                parts(0, bucket.batch, 0, world // parallel.context, bucket.batch)
            yield parallel
        except TrainerError:
            continue


class Schedule:
    """A recipe on so many GPUs."""

    def __init__(self, config: Config, size: Size, parallel: Parallel, world: int, budget: int):
        self.config, self.size, self.parallel, self.world = config, size, parallel, world
        self.data_world = world // parallel.context
        self.buckets = config.data.table()
        self.most = {b: max(1, budget * parallel.context // tokens_of(b)) for b in self.buckets}
        self.flops = {b: forward_flops(size, tokens_of(b), TEXT[0]) / parallel.context for b in self.buckets}

    def parts(self, bucket: Bucket, rank: int) -> list[tuple[int, tuple[int, ...]]]:
        return parts(0, bucket.batch, rank, self.data_world, self.most[bucket])

    def costs(self, bucket: Bucket) -> np.ndarray:
        """FLOPs of a step of each group of GPUs that share clips."""
        held = [sum(max(1, len(slots)) for _, slots in self.parts(bucket, rank)) for rank in range(self.data_world)]
        return np.array(held) * self.flops[bucket]

    def waiting(self, plan: Plan, steps: int) -> dict[str, float]:
        costs = {bucket: self.costs(bucket) for bucket in self.buckets}
        useful = {bucket: bucket.batch / self.data_world * self.flops[bucket] for bucket in self.buckets}
        drawn = [plan.bucket(step) for step in range(steps)]
        slowest, mean = (sum(of[bucket] for bucket in drawn) for of in ({b: c.max() for b, c in costs.items()}, useful))
        weights = np.array([bucket.weight for bucket in self.buckets])
        own = np.random.Generator(np.random.PCG64(0)).choice(
            [useful[bucket] for bucket in self.buckets], (steps, self.data_world), p=weights / weights.sum()
        )
        return {"slowest_to_mean": slowest / mean, "own_buckets": own.max(1).sum() / own.mean(1).sum()}

    def batches(self, plan: Plan, steps: int) -> dict[str, int]:
        incomplete = twice = 0
        for step in range(steps):
            bucket = plan.bucket(step)
            slots = [slot for rank in range(self.data_world) for _, own in self.parts(bucket, rank) for slot in own]
            rows = plan.rows(step, slots)
            incomplete += sorted(slots) != list(range(bucket.batch)) or len(rows) != bucket.batch
            twice += len(rows) - len(np.unique(rows))
        return {"incomplete": incomplete, "twice": twice}

    def memory(self, bucket: Bucket) -> Memory:
        clips = min(self.most[bucket], math.ceil(bucket.batch / self.data_world))
        knobs, facts = self.config.training, {"tokens": tokens_of(bucket), "text_tokens": TEXT[0]}
        half = knobs.precision == "bf16"
        return memory(self.size, self.parallel, self.world, clips=clips, layers=knobs.layers, half=half, **facts)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", default=RECIPES)
    parser.add_argument("--world", type=int, nargs="+", default=WORLDS, help="GPUs")
    parser.add_argument("--steps", type=int, default=10_000, help="to draw; the clips of every hundredth of these are looked at")
    parser.add_argument("--tokens", type=int, default=20_000, help="per GPU and forward pass")
    parser.add_argument("--buckets", action="store_true", help="memory of each bucket, in parts")
    parser.add_argument("--model", type=json.loads, default={}, help="knobs of the recipe's section `model` to replace, as JSON")
    parser.add_argument("--parallel", type=json.loads, default=None, help="the same of `training.parallel`")
    return parser.parse_args()


def main() -> None:
    chosen = arguments()
    for name in chosen.recipes:
        config = configs.load(name)
        if chosen.parallel is not None:
            config = dataclasses.replace(
                config, training=dataclasses.replace(config.training, parallel=Parallel(**chosen.parallel))
            )
        architecture = dataclasses.replace(config.model, **chosen.model)
        size = architecture.size_with(channels=CHANNELS, text_dim=TEXT[1], image_dim=IMAGE[1], image_tokens=IMAGE[0])
        plan = Plan(made(config.data.table()), config.data.table(), config.training.seed)
        for world in chosen.world:
            told: dict[str, Any] = {"recipe": name, "gpus": world}
            schedules = [Schedule(config, size, parallel, world, chosen.tokens) for parallel in meshes(config, world, size.heads)]
            if not schedules:
                least = min(bucket.batch for bucket in config.data.table())
                print(json.dumps(told | {"refused": f"the smallest batch has {least} clips"}), flush=True)
                continue
            waits = [schedule.waiting(plan, chosen.steps) for schedule in schedules]
            at = next((i for i, wait in enumerate(waits) if wait["slowest_to_mean"] <= BOUND), 0)
            schedule = schedules[at]
            told |= dict(zip(("replicate", "shard", "context"), schedule.parallel.degrees(world), strict=True))
            told |= {k: round(v, 4) for k, v in waits[at].items()}
            told |= schedule.batches(plan, chosen.steps // 100)
            found = {bucket: schedule.memory(bucket) for bucket in schedule.buckets}
            told["memory_gb"] = round(max(one.total for one in found.values()) / 1e9, 1)
            print(json.dumps(told), flush=True)
            for bucket, one in found.items() if chosen.buckets else ():
                shares = {part: round(value / 1e9, 2) for part, value in vars(one).items()}
                print(json.dumps({"bucket": bucket.name, "sum": round(one.total / 1e9, 1), **shares}), flush=True)


if __name__ == "__main__":
    main()
