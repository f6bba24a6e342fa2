"""Does the binding bind? A small world in which a picture alone does not tell whose it is: the papers' ablation (PAPER.md §4).

    python benchmarks/binding_world.py [--steps 400] [--sided] [--positions] [--sheet /tmp/world.png]

A clip shows two of three shapes side by side, drifting; its caption names both. The references are two striped discs, one of
each shape's colour, in random order: only the word that a disc is bound to says whose colour it is. A tiny transformer is
trained twice on the same clips, with words and without. Then captions are sampled twice from the same noise, the discs' words
exchanged in between, and shapes and colours are measured. Without words the model cannot tell the two apart, so at best half of
its videos are right. One JSON line per figure; `--sheet` draws what was sampled; `--sided` has the caption say which shape is
left, `--positions` is the model's knob.
"""

from __future__ import annotations

import argparse
import colorsys
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, mse_loss, pixel_unshuffle

from curation.models.codecs import codec
from curation.models.encoders import TextTokens, words_of
from curation.trainer import flow
from curation.trainer.flow import Guidance
from curation.trainer.model import Architecture, DiT
from curation.trainer.seeds import generator

SHAPES = ("ball", "pole", "plank")
WORDINGS = {False: "a {0} and a {1}", True: "a {0} to the left of a {1}"}
"""By `sided`. Without sides the words come in random order."""
VOCABULARY = ("a", "and", *SHAPES, "to", "the", "left", "of")
LENGTH = 8
SHIFT = 2.0
"""Of training times: what stands where is decided early, at much noise."""
FRAMES, HEIGHT, WIDTH = 5, 32, 64
DISC, PATCH = 16, 4
CODEC = codec("dct", "cpu", channels=16)


@dataclass
class Scenes:
    """Clips to be: what each caption says, the colours [B,2,3] in 0..1 of its left and right shape, the discs' order."""

    captions: list[str]
    shapes: list[tuple[str, str]]
    colours: Tensor
    order: Tensor
    """int [B,2]: the side (0 left, 1 right) whose colour slot n shows."""

    def swapped(self) -> Scenes:
        """The same pictures in the same slots, bound to each other's word."""
        return Scenes(self.captions, self.shapes, self.colours.flip(1), self.order.flip(1))


def scenes(count: int, chance: torch.Generator, sided: bool = False) -> Scenes:
    """Scenes at random; hues are at least a quarter of the circle apart."""
    captions, shapes, colours = [], [], []
    for pair, wording, hue, apart in torch.rand(count, 4, generator=chance).tolist():
        left = SHAPES[int(pair * 6) // 2]
        right = [s for s in SHAPES if s != left][int(pair * 6) % 2]
        named = (left, right) if sided or wording < 0.5 else (right, left)
        captions.append(WORDINGS[sided].format(*named))
        shapes.append((left, right))
        colours.append([colorsys.hsv_to_rgb(h % 1, 0.9, 0.85) for h in (hue, hue + 0.25 + apart * 0.5)])
    order = (torch.rand(count, 1, generator=chance) < 0.5).long()
    return Scenes(captions, shapes, torch.tensor(colours), torch.cat([order, 1 - order], 1))


def draw(world: Scenes, chance: torch.Generator) -> Tensor:
    """Videos [B,3,F,H,W] in −1..1: the shapes drift to the right on white, each from a place of its own."""
    count = len(world.captions)
    start = 4 * torch.rand(count, 2, 1, generator=chance) - 2
    x = torch.tensor([[16.0], [48.0]]) + start + 2 * torch.linspace(-1, 1, FRAMES)  # [B,2,F]
    y = torch.full_like(x, 16)
    rows, columns = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    inside = outlines(columns - x[..., None, None], rows - y[..., None, None])
    video = torch.ones(count, 3, FRAMES, HEIGHT, WIDTH)
    for b, pair in enumerate(world.shapes):
        for side, shape in enumerate(pair):
            cover = (0.5 - inside[shape][b, side]).clamp(0, 1)
            video[b] += cover * (world.colours[b, side, :, None, None, None] - 1)
    return video * 2 - 1


def outlines(dx: Tensor, dy: Tensor) -> dict[str, Tensor]:
    """How far outside of each shape (inside: negative) a point (dx, dy) from its centre is, in pixels."""
    across, down = dx.abs(), dy.abs()
    return {
        "ball": (dx**2 + dy**2).sqrt() - 8,
        "pole": torch.maximum(across - 4, down - 12),
        "plank": torch.maximum(across - 12, down - 4),
    }


def discs(world: Scenes, chance: torch.Generator) -> Tensor:
    """Reference pictures [B,2,3,16,16] in 0..1: a striped disc on white for each slot, its mean the colour."""
    count = len(world.captions)
    angle, size, place = torch.rand(3, count, 2, 1, 1, generator=chance)
    rows, columns = torch.meshgrid(*[torch.arange(DISC) - DISC / 2 + 0.5] * 2, indexing="ij")
    stripes = 1 + 0.15 * torch.sin(2 * (rows * (6.28 * angle).sin() + columns * (6.28 * angle).cos()) + 6.28 * place)
    cover = (5 + 2.5 * size - (rows**2 + columns**2).sqrt()).clamp(0, 1)
    colours = world.colours.gather(1, world.order[..., None].expand(-1, -1, 3))[..., None, None]
    return 1 + cover[:, :, None] * ((colours * stripes[:, :, None]).clamp(0, 1) - 1)


def read(captions: list[str]) -> TextTokens:
    """A text encoder without weights or context: a word's number and its place, one-hot."""
    embeddings, offsets = torch.zeros(len(captions), LENGTH, len(VOCABULARY) + LENGTH), []
    for b, caption in enumerate(captions):
        first, spans = 0, []
        for i, word in enumerate(caption.split()):
            embeddings[b, i, [VOCABULARY.index(word), len(VOCABULARY) + i]] = 2.0
            spans.append((first, first + len(word)))
            first += len(word) + 1
        offsets.append(spans)
    return TextTokens(embeddings, torch.tensor([[i < len(s) for i in range(LENGTH)] for s in offsets]), offsets)


def conditions(world: Scenes, chance: torch.Generator) -> dict[str, Tensor]:
    """What the model is told of the scenes: captions, discs and whose they are."""
    tokens, pictures = read(world.captions), discs(world, chance)
    spans = []
    for caption, pair, order in zip(world.captions, world.shapes, world.order.tolist(), strict=True):
        starts = [caption.index(pair[side]) for side in order]
        spans.append([(start, start + len(pair[side])) for start, side in zip(starts, order, strict=True)])
    return {
        "text": tokens.embeddings,
        "text_mask": tokens.mask,
        "images": pixel_unshuffle(2 * pictures - 1, PATCH).flatten(3).transpose(2, 3),
        "words": words_of(tokens, spans, 1),
        "slots": torch.ones(len(spans), 2, dtype=torch.bool),
    }


def new_model(use_words: bool, positions: bool = False) -> DiT:
    """2.0M parameters; no self-conditioning and no dropout, which would only cost time here."""
    cheap: dict[str, Any] = {"slots": 2, "words": 1, "self_conditioning": False, "dropout": 0.0}
    chosen = Architecture(size="tiny", **cheap, use_words=use_words, positions=positions)
    met = {"channels": CODEC.channels, "text_dim": len(VOCABULARY) + LENGTH}
    return DiT(chosen.size_with(**met, image_dim=3 * PATCH**2, image_tokens=(DISC // PATCH) ** 2))


def train(model: DiT, steps: int, sided: bool = False, batch: int = 64, rate: float = 2e-3) -> Iterator[float]:
    """Train on scenes drawn anew for each step; yields its loss. The learning rate falls to zero over the last half."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=0.01)
    for step in range(steps):
        chance = generator("train", step)
        world = scenes(batch, chance, sided)
        x0, told = CODEC.encode(draw(world, chance)), conditions(world, chance)
        noise, t = torch.randn(x0.shape, generator=chance), flow.draw_times(batch, chance, SHIFT)
        loss = mse_loss(model(flow.noised(x0, noise, t), t, **told), flow.target(x0, noise))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 50, 2 * (1 - step / steps))
        optimizer.step()
        optimizer.zero_grad()
        yield float(loss.detach())


@torch.no_grad()
def imagine(model: DiT, world: Scenes, count: int = 20) -> Tensor:
    """Sampled videos [B,3,F,H,W] in −1..1, without guidance; always from the same noise and the same stripes."""
    model.eval()
    told = conditions(world, generator("discs"))
    shape = (len(world.captions), *CODEC.shape(FRAMES, HEIGHT, WIDTH))
    velocity: flow.Velocity = lambda z, t, self_cond, condition: model(z, t, **told)  # noqa: E731
    knobs = {"count": count, "shift": 1.0, "guidance": Guidance(text_scale=0, image_scale=0)}
    return CODEC.decode(flow.sample(velocity, torch.randn(shape, generator=generator("noise")), **knobs)).clamp(-1, 1)


def seen(video: Tensor) -> tuple[list[list[str]], Tensor]:
    """What stands in the left and the right half: the shape that covers it best, and its colour [B,2,3] in 0..1."""
    halves = ((video + 1) / 2).unflatten(-1, (2, -1)).permute(0, 4, 2, 1, 3, 5)  # [B,2,F,3,H,W/2]
    there = 1 - halves.amin(3) > 0.4
    columns = torch.arange(-12, 13).expand(25, -1)
    forms = torch.stack([(outlines(columns, columns.T)[shape] < 0).float() for shape in SHAPES])[:, None]
    both = conv2d(there.float().flatten(0, 2)[:, None], forms, padding=12)
    either = there.sum((-1, -2)).flatten()[:, None, None, None] + forms.sum((-1, -2))[None, :, :, None] - both
    best = (both / either).amax((-1, -2)).unflatten(0, there.shape[:3]).mean(2).argmax(-1)
    inside = halves.masked_fill(~there[:, :, :, None], torch.nan).transpose(2, 3).flatten(3)
    return [[SHAPES[i] for i in row] for row in best.tolist()], inside.nanmedian(3).values


def verdicts(video: Tensor, world: Scenes) -> Tensor:
    """bool [B,3]: both shapes are there; they are on the sides of the scene; and each, wherever it is, has the colour of its
    own word's reference rather than the other's."""
    rows = []
    for shapes, colours, pair, true in zip(*seen(video), world.shapes, world.colours, strict=True):
        there = sorted(shapes) == sorted(pair)
        own = true if tuple(shapes) == pair else true.flip(0)
        bound = bool(((colours - own).norm(dim=-1) < (colours - own.flip(0)).norm(dim=-1)).all())
        rows.append([there, tuple(shapes) == pair, there and bound])
    return torch.tensor(rows)


def judged(model: DiT, count: int, sided: bool = False) -> dict[str, float]:
    """Shares of `count` new scenes and as many with exchanged words: both shapes are there (`shapes`), on the side that a sided
    caption says (`sides`), and in their own colours (`follows`); and of scenes that follow both ways (`pairs`)."""
    world = scenes(count, generator("test"), sided)
    found = torch.stack([verdicts(imagine(model, scene), scene) for scene in (world, world.swapped())]).float()
    shapes, sides, follows = found.mean((0, 1)).tolist()
    return {"shapes": shapes, "sides": sides, "follows": follows, "pairs": float(found[..., 2].prod(0).mean())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--every", type=int, default=50, help="steps between measurements")
    parser.add_argument("--count", type=int, default=64, help="captions to sample, each twice")
    parser.add_argument("--only", choices=["words", "none"])
    parser.add_argument("--sided", action="store_true")
    parser.add_argument("--positions", action="store_true")
    parser.add_argument("--sheet", type=Path)
    chosen = parser.parse_args()
    for name, use_words in (("words", True), ("none", False)):
        if chosen.only not in (None, name):
            continue
        model, start, losses = new_model(use_words, chosen.positions), time.process_time(), []
        for step, loss in enumerate(train(model, chosen.steps, chosen.sided), 1):
            losses.append(loss)
            if step % chosen.every == 0 or step == chosen.steps:
                line = {
                    "use_words": use_words,
                    "step": step,
                    "cpu_seconds": time.process_time() - start,
                    "loss": mean(losses[-100:]),
                }
                line |= judged(model, chosen.count, chosen.sided)
                print(json.dumps({k: v if k == "use_words" else round(v, 4) for k, v in line.items()}), flush=True)
                model.train()
        if chosen.sheet:
            sheet(model, chosen.sheet.with_stem(f"{chosen.sheet.stem}-{name}"), chosen.sided)


def sheet(model: DiT, path: Path, sided: bool = False, rows: int = 8) -> None:
    """A picture: per row the caption, the discs in their slots, the first and last frame; again with the words exchanged."""
    world, columns = scenes(rows, generator("test"), sided), []
    for scene in (world, world.swapped()):
        frames = (imagine(model, scene)[:, :, [0, FRAMES - 1]] + 1) / 2
        columns += [interpolate(disc, (64, 64)) for disc in discs(scene, generator("discs")).unbind(1)]
        columns += [interpolate(frame, (64, 128)) for frame in frames.unbind(2)]
    rgb = (torch.cat(columns, 3).permute(0, 2, 3, 1).flatten(0, 1) * 255).byte().numpy()
    picture = np.ascontiguousarray(rgb[..., ::-1])
    for row, caption in enumerate(world.captions):
        cv2.putText(picture, caption, (4, row * 64 + 11), cv2.FONT_HERSHEY_SIMPLEX, 0.35, (0, 0, 0), 1, cv2.LINE_AA)
    cv2.imwrite(str(path), picture)


if __name__ == "__main__":
    main()
