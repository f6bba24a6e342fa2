"""Memory per GPU of a training recipe on so many GPUs, before they are asked for.

    python benchmarks/memory.py train-v2-stage2b --world 64 [--tokens 20000] [--model '{"adaln": "shared"}']

One JSON line per bucket, GB: what `curation.trainer.memory` counts, for micro-batches of as many clips as `--tokens` tokens a GPU
hold, at least one. Encoders come on top: T5-XXL 9.5 GB, CogVideoX's VAE 0.4, DINOv2 0.6 in bfloat16.
"""

from __future__ import annotations

import argparse
import dataclasses
import json

from curation.trainer import config as configs
from curation.trainer.memory import memory
from curation.trainer.model import DiT

CHANNELS, TEXT, IMAGE = 16, (256, 4096), (256, 1024)
"""CogVideoX's latent channels; tokens and channels of T5-XXL and of DINOv2 ViT-L/14."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--world", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=20_000, help="per GPU and forward pass")
    parser.add_argument("--model", type=json.loads, default={}, help="knobs of the recipe's section `model` to replace, as JSON")
    parser.add_argument("--parallel", type=json.loads, default=None, help="the same of `training.parallel`")
    chosen = parser.parse_args()
    config = configs.load(chosen.recipe)
    architecture = dataclasses.replace(config.model, **chosen.model)
    size = architecture.size_with(channels=CHANNELS, text_dim=TEXT[1], image_dim=IMAGE[1], image_tokens=IMAGE[0])
    knobs = config.training
    parallel = knobs.parallel if chosen.parallel is None else type(knobs.parallel)(**chosen.parallel)
    for bucket in config.data.table():
        tokens = DiT.tokens((1 + (bucket.frames - 1) // 4, bucket.height // 8, bucket.width // 8))
        clips = max(1, chosen.tokens * parallel.context // tokens)
        half = knobs.precision == "bf16"
        found = memory(
            size, parallel, chosen.world, clips=clips, tokens=tokens, text_tokens=TEXT[0], layers=knobs.layers, half=half
        )
        parts = {name: round(value / 1e9, 2) for name, value in vars(found).items()}
        print(json.dumps({"bucket": bucket.name, "clips": clips, **parts, "sum": round(found.total / 1e9, 1)}), flush=True)


if __name__ == "__main__":
    main()
