"""One update, held to the papers' formulas written out a second time (PAPER.md §5), and what is drawn for it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from curation.trainer import checkpoint, flow
from curation.trainer import config as configs
from curation.trainer.conditions import Parts
from curation.trainer.distributed import Process
from curation.trainer.errors import TrainerError
from curation.trainer.model import DiT
from curation.trainer.seeds import generator
from curation.trainer.train import Trainer
from tests.trainer import recipes, steps

pytestmark = pytest.mark.trainer
ALONE = Process(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("texts") / "minilm"


def trainer(folder: Path, texts: Path, model: dict[str, Any] | None = None, **training: Any) -> Trainer:
    """One whose weights are not the zeros of the start."""
    file = recipes.write(folder / "recipe.yaml", texts, model=model or {}, training=training)
    config = configs.load(file)
    made = Trainer(config, Parts(config, ALONE.device), folder / "out", ALONE)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in made.model.named_parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=draw)
            if name in made.average:
                made.average[name].copy_(parameter)
    return made


def velocity_loss(one: Trainer, model: DiT, step: int) -> Tensor:
    """The mean over all clips of a step, from the text of PAPER.md §5."""
    knobs, losses = one.knobs, []
    for slot in range(steps.CLIPS):
        clip, draw = steps.batch(step, [slot]), generator(knobs.seed, step, slot)
        x0 = one.parts.codec.encode(clip.video.transpose(1, 2).float() / 127.5 - 1)
        drop_text, drop_images, given = (torch.rand(3, generator=draw) < torch.tensor([0.3, 0.3, 0.9])).tolist()
        alpha = math.sqrt(x0.shape[2] * x0.shape[3] * x0.shape[4] / 4 / 2)
        t = torch.sigmoid(torch.randn(1, generator=draw))
        t = alpha * t / (1 + (alpha - 1) * t)
        noise = torch.randn(x0.shape[1:], generator=draw)[None]
        told = one.parts.conditioner(clip.captions, clip.references).without(text=drop_text, images=drop_images)
        arguments = told.keywords(cut=False)
        z = (1 - t) * x0 + t * noise
        estimate = None
        if given:
            with torch.no_grad():
                estimate = z - t * model(z, t, **arguments)
        losses.append((model(z, t, **arguments, self_cond=estimate) - (noise - x0)).square().mean())
    return torch.stack(losses).mean()


def test_three_steps_are_those_of_the_papers(tmp_path, texts, monkeypatch):
    """Loss, warm-up, clipping, AdamW with its betas and decay, averages; two micro-batches here, clip by clip there."""
    monkeypatch.setattr(flow.resolution_shift, "__defaults__", (2,))  # so that 15 tokens are shifted, too
    knobs = {"lr": 1e-2, "warmup": 2, "weight_decay": 0.3, "max_norm": 0.05, "betas": [0.8, 0.9], "ema": 0.15}
    one = trainer(tmp_path, texts, steps=3, save_every=3, drop_text=0.3, drop_images=0.3, **knobs)
    model = DiT(one.parts.size)
    model.load_state_dict(one.model.state_dict())
    average = {name: p.detach().clone() for name, p in model.named_parameters()}
    first, second = ({name: torch.zeros_like(p) for name, p in model.named_parameters()} for _ in range(2))
    one.run(lambda first: steps.steps(first, parts=2))
    lines = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    for step in range(3):
        loss = velocity_loss(one, model, step)
        model.zero_grad()
        loss.backward()
        norm = torch.stack([p.grad.square().sum() for p in model.parameters()]).sum().sqrt()
        rate = 1e-2 * [0.5, 1, 1][step]
        assert lines[step]["loss"] == pytest.approx(loss.item(), rel=1e-4)
        assert lines[step]["norm"] == pytest.approx(norm.item(), rel=1e-3)
        assert lines[step]["rate"] == pytest.approx(rate)
        with torch.no_grad():
            for name, p in model.named_parameters():
                g = p.grad * min(1, 0.05 / norm)
                first[name] = 0.8 * first[name] + 0.2 * g
                second[name] = 0.9 * second[name] + 0.1 * g**2
                decays = p.ndim > 1 and name != "personalization_binding.index"
                p *= 1 - rate * 0.3 * decays
                m, v = first[name] / (1 - 0.8 ** (step + 1)), second[name] / (1 - 0.9 ** (step + 1))
                p -= rate * m / (v.sqrt() + 1e-8)
                decay = [0.1, 0.15, 0.15][step]  # min(ema, (1 + step) / (10 + step))
                average[name] = decay * average[name] + (1 - decay) * p
    found = checkpoint.weights(tmp_path / "out")
    for name, p in model.named_parameters():
        torch.testing.assert_close(one.model.get_parameter(name), p, atol=2e-4, rtol=0, msg=name)  # a step is 1e-2
        torch.testing.assert_close(found[name], average[name], atol=2e-4, rtol=0, msg=name)
        assert (average[name] - p).abs().max() > 5e-4 or not name.endswith("weight")


def test_conditions_are_dropped_as_often_as_the_recipe_says(tmp_path, texts):
    count = 300
    one = trainer(tmp_path, texts, steps=1, drop_text=0.3, drop_images=0.2, self_conditioning=0.6)
    seen: list[tuple[Tensor, Tensor, Tensor | None]] = []
    one.model.register_forward_hook(
        lambda _, args, given, out: seen.append((given["text_mask"], given["slots"], given.get("self_cond"))), with_kwargs=True
    )
    tiny = steps.batch(0, [1] * count)  # a clip with a reference
    tiny.video, tiny.slots = tiny.video[:, :1, :, :, :16], list(range(count))
    with torch.no_grad():
        one.loss(tiny)
    (text, slots, none), (_, _, given) = seen
    assert none is None, "the first pass has no estimate"
    dropped = torch.stack([~text.any(1), ~slots.any(1), given.flatten(1).any(1)]).double()
    assert dropped.mean(1).tolist() == pytest.approx([0.3, 0.2, 0.6], abs=0.08)
    assert torch.corrcoef(dropped)[0, 1].abs() < 0.2, "independently"


def test_only_what_is_trained_moves_and_has_averages(tmp_path, texts):
    one = trainer(tmp_path, texts, steps=1, layers="personalization")
    before = {name: p.detach().clone() for name, p in one.model.named_parameters()}
    one.update([steps.batch(0, range(3))], 3)
    moved = {name for name, p in one.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == set(one.average) == {name for name in before if "personalization" in name}
    assert {id(p) for p in one.optimizer.state} == {id(p) for p in one.trained.values()}


def poisoned(one: Trainer, when: set[int]) -> None:
    """Let the velocity of some steps be no number."""
    one.model.register_forward_hook(lambda _, args, out: out * torch.nan if one.step in when else out)


def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(tmp_path, texts):
    one = trainer(tmp_path, texts, steps=3, save_every=1, keep=3)
    poisoned(one, {1})
    one.run(steps.steps)
    lines = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert [line["skipped"] for line in lines] == [0, 1, 0] and lines[1]["loss"] is None
    first, second, third = (checkpoint.weights(checkpoint.folder(tmp_path / "out", n)) for n in (1, 2, 3))
    assert all(torch.equal(first[name], second[name]) and third[name].isfinite().all() for name in first)
    assert any(not torch.equal(second[name], third[name]) for name in first)
    assert one.optimizer.state[one.model.patch.weight]["step"] == 2


def test_many_steps_that_are_not_finite_end_the_run(tmp_path, texts):
    one = trainer(tmp_path, texts, steps=9, save_every=9, max_skipped=2)
    poisoned(one, {1, 2, 4, 5, 6})
    with pytest.raises(TrainerError, match="step 7: the loss or its gradient was not finite in 3 steps in a row: take a lower"):
        one.run(steps.steps)


def test_an_empty_micro_batch_is_as_good_as_none_but_makes_the_same_passes(tmp_path, texts):
    one = trainer(tmp_path, texts, steps=1)
    passes: list[int] = []
    one.model.register_forward_hook(lambda *_: passes.append(1))
    losses = one.loss(steps.batch(0, []))
    losses.sum().backward()
    assert len(passes) == 2 and losses.sum() == 0
    assert not any(p.grad.any() for p in one.model.parameters() if p.grad is not None)


def test_checkpoints_come_by_the_clock_too(tmp_path, texts):
    one = trainer(tmp_path, texts, steps=3, save_every=100, save_minutes=1e-9, keep=9)
    one.run(steps.steps)
    assert checkpoint.steps(tmp_path / "out") == [1, 2, 3]


def test_weights_are_read_and_exported_tensor_by_tensor(tmp_path, texts):
    one = trainer(tmp_path, texts, steps=2, save_every=1, layers="personalization")
    one.run(steps.steps)
    out = tmp_path / "out"
    first = checkpoint.folder(out, 1)
    assert not (first / checkpoint.WEIGHTS).exists() and (checkpoint.folder(out, 2) / checkpoint.WEIGHTS).exists()
    checkpoint.export(first, tmp_path / "first.safetensors")
    sharded, exported = checkpoint.weights(first), checkpoint.weights(tmp_path / "first.safetensors")
    assert set(exported) == set(sharded) == {name for name, _ in one.model.named_parameters()}
    assert all(torch.equal(exported[name], sharded[name]) for name in sharded)
    last = checkpoint.weights(out)
    for name, p in one.model.named_parameters():
        assert torch.equal(last[name], one.average.get(name, p)), "averages of what is trained, the rest as it is"


def test_no_clip_of_what_was_encoded_before_counts_for_nothing(tmp_path, texts):
    """Where processes have fewer clips than parts: the same forward passes, without a text encoder or a codec."""
    one = trainer(tmp_path, texts, steps=1)
    none = replace(steps.batch(0, []), video=None, latents=torch.zeros(0, *one.parts.shape(steps.BUCKET)), text=[])
    loss = one.loss(none).sum()
    loss.backward()
    assert loss == 0 and any(p.grad is not None and not p.grad.any() for p in one.model.parameters())


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path, texts):
    """What is saved is the state of its step, whatever is changed meanwhile."""
    one = trainer(tmp_path, texts, steps=1)
    before = {name: p.detach().clone() for name, p in one.model.named_parameters()}
    one.checkpoints.save(1, one._state())
    assert checkpoint.steps(tmp_path / "out") == [], "it has no name yet"
    with torch.no_grad():
        for p in one.model.parameters():
            p.fill_(7)
    one.checkpoints.settle(wait=True)
    again = trainer(tmp_path, texts, steps=1)
    checkpoint.restore(tmp_path / "out", 1, again._state(), ALONE)
    assert all(torch.equal(p, before[n]) for n, p in again.model.named_parameters())


def test_a_checkpoint_that_cannot_be_written_is_one_line(tmp_path, texts):
    one = trainer(tmp_path, texts, steps=1)
    (tmp_path / "out").mkdir(exist_ok=True)
    one.checkpoints.save(1, one._state())
    one.checkpoints.settle(wait=True)
    one.checkpoints._pending = (2, False, _failed())
    with pytest.raises(TrainerError, match="the checkpoint of step 2 could not be written: No space left"):
        one.checkpoints.settle(wait=True)
    assert checkpoint.steps(tmp_path / "out") == [1]


def _failed() -> Any:
    from concurrent.futures import Future

    future: Any = Future()
    future.set_exception(OSError("No space left"))
    return future
