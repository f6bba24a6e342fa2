"""Pretrained transformers in our place, from tiny random checkpoints of diffusers' own classes: what they do is held to its own
pipelines and schedulers."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import mse_loss
from torch.utils.flop_counter import FlopCounterMode

from curation.buckets import Bucket
from curation.models.codecs import pictures
from curation.trainer import backbones, flow
from curation.trainer import config as configs
from curation.trainer.batch import Reference
from curation.trainer.conditions import Parts
from curation.trainer.errors import TrainerError
from curation.trainer.model import ADAPTER, PERSONALIZATION, freeze
from curation.trainer.sample import Maker, Wanted
from curation.trainer.seeds import generator
from tests.tiny import backbones as tiny
from tests.trainer import recipes

pytestmark = pytest.mark.trainer

NAMES = ["wan2.1-1.3b", "cogvideox-2b", "cogvideox-5b"]
LENGTH = 24
BUCKET = Bucket(frames=9, width=64, height=32, batch=1)
CAPTION = "a dog and a woman in a coat"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pipelines."""
    folder = tmp_path_factory.mktemp("pipelines")
    return {
        "wan2.1-1.3b": tiny.wan(folder / "wan"),
        "cogvideox-2b": tiny.cogvideox(folder / "2b", rotary=False, snr_shift_scale=3.0),
        "cogvideox-5b": tiny.cogvideox(folder / "5b", rotary=True),
    }


def recipe(path: Path, folder: Path, name: str, model: dict[str, Any] | None = None, **sections: dict[str, Any]) -> Path:
    text, codec = backbones.ENCODERS[name]
    knobs = {"backbone": name, "backbone_weights": str(folder), "slots": 2, "dropout": 0.0, **(model or {})}
    encoders = {"text": text, "text_weights": str(folder / "text"), "text_length": LENGTH}
    encoders |= {"codec": codec, "codec_weights": str(folder / "vae")}
    sections = {"data": {"buckets": [dataclasses.asdict(BUCKET)]}, "references": {"slots": 2}, **sections}
    return recipes.write(path, folder / "text", model=knobs, encoders=encoders, **sections)


def parts_of(folder: Path, name: str, path: Path, **knobs: Any) -> Parts:
    training = {"layers": "lora"} if knobs.get("lora") else {}
    return Parts(configs.load(recipe(path / "train.yaml", folder, name, knobs, training=training)), torch.device("cpu"))


def built(parts: Parts) -> Any:
    return backbones.build(parts.config, parts)


def awake(model: Any, seed: int = 1) -> Any:
    """With gates that are open, as training makes them."""
    drawn = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if PERSONALIZATION in name and not parameter.any():
                parameter.normal_(std=0.2, generator=drawn)
    return model


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def parts(folders: dict[str, Path], name: str, tmp_path: Path) -> Parts:
    return parts_of(folders[name], name, tmp_path)


def references(seed: int = 0) -> list[Reference]:
    drawn = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 255, (3, 30, 40), dtype=torch.uint8, generator=drawn)
    return [Reference(image, "dog", (2, 5), "subject"), Reference(image.flip(2), "coat", (23, 27), "object")]


def noise(parts: Parts, seed: int = 0, videos: int = 1) -> Tensor:
    shape = (videos, *parts.codec.shape(BUCKET.frames, BUCKET.height, BUCKET.width))
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def plain(folder: Path, name: str) -> Any:
    from diffusers import CogVideoXPipeline, WanPipeline

    found = (WanPipeline if name.startswith("wan") else CogVideoXPipeline).from_pretrained(folder)
    found.set_progress_bar_config(disable=True)
    return found


def told(parts: Parts, model: Any, z: Tensor) -> dict[str, Any]:
    """Arguments of the transformer itself, as its pipeline gives them."""
    text = parts.text([CAPTION] * len(z)).embeddings
    if isinstance(model, backbones.Wan):
        return {"hidden_states": z, "timestep": torch.tensor([300.0] * len(z)), "encoder_hidden_states": text}
    frames = z.transpose(1, 2)
    rotary = model._rotary(z)
    return {
        "hidden_states": frames,
        "timestep": torch.tensor([300] * len(z)),
        "encoder_hidden_states": text,
        "image_rotary_emb": rotary,
    }


@torch.no_grad()
def test_at_first_it_is_the_plain_transformer_bit_for_bit(parts, folders, name):
    model, z = built(parts), noise(parts)
    theirs = plain(folders[name], name).transformer(**told(parts, model, z)).sample
    model.personalization.show(parts.conditioner([CAPTION], [references()]))
    assert torch.equal(model.backbone(**told(parts, model, z)).sample, theirs)
    assert not torch.equal(awake(model).backbone(**told(parts, model, z)).sample, theirs)
    own = {n for n, _ in plain(folders[name], name).transformer.named_parameters()}
    assert own == {n.removeprefix("backbone.") for n, _ in model.named_parameters() if PERSONALIZATION not in n}


@torch.no_grad()
def test_references_of_no_slot_are_none(parts):
    model, z, t = awake(built(parts)), noise(parts), torch.tensor([0.7])
    conditions = parts.conditioner([CAPTION], [references()])
    bare = conditions.without(images=True)
    assert not torch.equal(model(z, t, **conditions.keywords()), model(z, t, **bare.keywords()))
    moved = {**bare.keywords(cut=False), "images": torch.randn_like(bare.images)}
    assert torch.equal(model(z, t, **moved), model(z, t, **bare.keywords()))


def test_only_new_layers_get_gradients(parts):
    model, z = awake(built(parts)), noise(parts)
    freeze(model, "personalization")
    model(z, torch.tensor([0.5]), **parts.conditioner([CAPTION], [references()]).keywords()).square().mean().backward()
    reached = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {n for n, _ in model.named_parameters() if PERSONALIZATION in n}


@torch.no_grad()
def test_videos_are_the_pipelines_own(parts, folders, name):
    """Text, null text, guidance, times, steps, codec: from the same noise the same frames as diffusers' pipeline makes."""
    count, scale, pipe = 4, 3.0, plain(folders[name], name)
    start = torch.randn(noise(parts).shape, generator=generator(0, CAPTION, "noise"))
    if name.startswith("wan"):
        pipe.scheduler.set_timesteps(count)
        sigmas = pipe.scheduler.sigmas.clone()  # its own spacing; ours has one step more to go

        class Theirs(flow.Schedule):
            def times(self, count: int, shift: float) -> Tensor:
                return sigmas

        parts.schedule = Theirs()
    sampling = flow.Sampling(form="nested", text_scale=scale, image_scale=0.0, steps=count, shift=3.0)
    (ours,) = Maker(parts, built(parts), sampling, nullcontext)([Wanted("one", CAPTION, [], BUCKET, 0)])
    theirs = pipe(
        prompt=CAPTION,
        height=BUCKET.height,
        width=BUCKET.width,
        num_frames=BUCKET.frames,
        num_inference_steps=count,
        guidance_scale=scale,
        latents=start if name.startswith("wan") else start.transpose(1, 2),
        max_sequence_length=LENGTH,
        output_type="pt",
    ).frames
    assert ours.float().std() > 5, "something is to be seen"
    apart = (ours.int() - pictures(theirs.transpose(1, 2) * 2 - 1)[0].int()).abs()
    assert apart.max() <= 1


@pytest.mark.parametrize("name", NAMES[1:], indirect=True)
@torch.no_grad()
def test_cogvideox_is_asked_and_read_as_its_scheduler_says(parts, folders, name):
    """At each of its steps our noisy latents, scaled, are its own, and our estimate of the clean ones is its own."""
    scheduler, model = plain(folders[name], name).scheduler, built(parts)
    scheduler.set_timesteps(1000)
    x0, eps = noise(parts, 1), noise(parts, 2)
    for step in (0, 1, 420, 998, 999):
        t = parts.schedule.of_step[step][None]
        z = flow.noised(x0, eps, t)
        noisy = scheduler.add_noise(x0, eps, torch.tensor([step]))
        torch.testing.assert_close(z / torch.sqrt(t**2 + (1 - t) ** 2), noisy, atol=1e-5, rtol=1e-5)
        asked = told(parts, model, noisy) | {"timestep": torch.tensor([step])}
        v = model.backbone(**asked).sample.transpose(1, 2)
        clean = scheduler.step(v, step, noisy).pred_original_sample
        velocity = model(z, t, **parts.conditioner([CAPTION], [[]]).keywords())
        torch.testing.assert_close(flow.estimate(z, velocity, t), clean, atol=1e-4, rtol=1e-4)
        if 0 < step < 999:
            by_target = scheduler.step(scheduler.get_velocity(x0, eps, torch.tensor([step])), step, noisy)
            torch.testing.assert_close(by_target.pred_original_sample, x0, atol=1e-3, rtol=1e-3)
    assert parts.schedule.of_step[999] == 1


@pytest.mark.parametrize("name", NAMES[1:], indirect=True)
def test_cogvideox_is_trained_at_its_own_steps_alike(parts):
    drawn = parts.schedule.draw(4000, torch.Generator().manual_seed(0), shift=5.0)
    steps = torch.searchsorted(parts.schedule.of_step, drawn)
    assert torch.equal(parts.schedule.of_step[steps], drawn) and steps.float().mean() == pytest.approx(499.5, abs=15)
    assert steps.min() < 5 and steps.max() > 994
    assert torch.equal(parts.schedule.nearest(drawn[:9] + 1e-6), drawn[:9]), "a time between two is looked at there"
    for count in (3, 4, 7, 50):
        times = parts.schedule.times(count, 1.0)
        assert len(times) == count + 1 and times[0] == 1 and times[-1] == 0 and (times.diff() < 0).all()


def test_wan_is_trained_like_our_own(folders, tmp_path):
    schedule = parts_of(folders[NAMES[0]], NAMES[0], tmp_path).schedule
    drawn = (torch.Generator().manual_seed(0) for _ in range(2))
    assert torch.equal(schedule.draw(9, next(drawn), 3.0), flow.draw_times(9, next(drawn), 3.0))


def test_no_text_is_the_empty_prompt(parts):
    conditions = parts.conditioner([CAPTION, CAPTION], [references(), []])
    empty = parts.conditioner([""], [[]])
    without = conditions.without(text=torch.tensor([True, False]))
    assert torch.equal(without.text[0], empty.text[0]) and torch.equal(without.text_mask[0], empty.text_mask[0])
    assert without.text[0].any() and torch.equal(without.text[1], conditions.text[1])
    assert not without.words[0].any() and torch.equal(without.images, conditions.images)


def test_references_say_which_of_two_videos_is_meant(parts):
    """From pure noise and one caption the pictures alone can tell: the frozen transformer learns it by its new layers."""
    model, z, t = built(parts), noise(parts).expand(2, -1, -1, -1, -1), torch.ones(2)
    freeze(model, "personalization")
    videos = noise(parts, 3, videos=2)
    conditions = parts.conditioner([CAPTION] * 2, [references(0), references(1)])
    swapped = parts.conditioner([CAPTION] * 2, [references(1), references(0)])
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    target = flow.target(videos, z)
    losses = []
    for _ in range(60):
        loss = mse_loss(model(z, t, **conditions.keywords()), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        other = float(mse_loss(model(z, t, **swapped.keywords()), target))
    print(f"{losses[0]:.3f} → {losses[-1]:.3f}; swapped {other:.3f}")
    assert losses[-1] < 0.5 * losses[0] and other > 1.5 * losses[-1]


def test_recomputing_blocks_changes_nothing(folders, name, tmp_path):
    gradients = []
    for checkpointing in ("none", "full", "selective"):
        parts = parts_of(folders[name], name, tmp_path, checkpointing=checkpointing)
        model = awake(built(parts)).train()
        assert model.backbone.gradient_checkpointing == (checkpointing != "none")
        freeze(model, "personalization")
        conditions = parts.conditioner([CAPTION], [references()])
        model(noise(parts), torch.tensor([0.4]), **conditions.keywords()).square().mean().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    torch.testing.assert_close(gradients[1], gradients[0])
    torch.testing.assert_close(gradients[2], gradients[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES[::2], indirect=True)
def test_compiled_blocks_share_their_graphs(parts):
    """Block by block as the loop does: two graphs a block, its own and the new layers', once more where nothing before wants a
    gradient; other references are the same graphs."""
    model, z, t = awake(built(parts)), noise(parts), torch.tensor([0.4])
    freeze(model, "personalization")
    shown = [parts.conditioner([CAPTION], [references(seed)]).keywords() for seed in (0, 5)]
    plain = [model(z, t, **conditions) for conditions in shown]
    torch._dynamo.reset()
    counted = CompileCounterWithBackend("aot_eager")
    for block in model.blocks:
        block.compile(dynamic=False, backend=counted)
    for conditions, expected in zip(shown, plain, strict=True):
        torch.testing.assert_close(model(z, t, **conditions), expected)
        assert counted.frame_count <= 4


def test_flops_are_those_that_torch_counts(parts):
    model = built(parts)
    freeze(model, "personalization")
    z, conditions = noise(parts), parts.conditioner([CAPTION], [references()]).keywords()
    with FlopCounterMode(display=False) as counted, sdpa_kernel(SDPBackend.MATH):  # it does not know the fused one of CPUs
        model(z, torch.tensor([0.4]), **conditions).sum().backward()
    assert model.step_flops(tuple(z.shape[1:]), LENGTH) == counted.get_total_flops() > 0
    freeze(model, "all")
    model._flops.clear()
    assert model.step_flops(tuple(z.shape[1:]), LENGTH) > counted.get_total_flops()


@pytest.fixture
def adapted(folders: dict[str, Path], name: str, tmp_path: Path) -> Parts:
    pytest.importorskip("peft")
    return parts_of(folders[name], name, tmp_path, lora=4)


def test_adapters_start_as_if_absent_and_are_trained_with_the_new_layers(adapted, folders, name):
    model, z = built(adapted), noise(adapted)
    freeze(model, "lora")
    with torch.no_grad():
        theirs = plain(folders[name], name).transformer(**told(adapted, model, z)).sample
        assert torch.equal(model.backbone(**told(adapted, model, z)).sample, theirs)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {n for n, _ in model.named_parameters() if PERSONALIZATION in n or ADAPTER in n}
    attentions = 4 if name.startswith("wan") else 2  # Wan has a second one in each block, to the text
    assert sum(ADAPTER in n for n in trained) == attentions * 4 * 2
    model(z, torch.tensor([0.5]), **adapted.conditioner([CAPTION], [references()]).keywords()).square().mean().backward()
    assert all(p.grad.any() for n, p in model.named_parameters() if "lora_B" in n)
    again = built(adapted)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True)), "drawn from the seed"


@pytest.mark.parametrize(
    ("model", "sections", "said"),
    [
        ({}, {"encoders": {"text": "t5"}}, "was trained with encoders: {text: umt5, codec: wan}"),
        ({"lora": 4}, {}, "training.layers: lora and a rank, model.lora, go together"),
        ({}, {"training": {"layers": "lora"}}, "go together"),
        ({"backbone": "own"}, {"encoders": {}}, "are for a pretrained model.backbone"),
    ],
)
def test_what_does_not_go_together_is_one_line(folders, tmp_path, model, sections, said):
    import yaml

    file = recipe(tmp_path / "train.yaml", folders[NAMES[0]], NAMES[0], model)
    whole = yaml.safe_load(file.read_text())
    for section, knobs in sections.items():
        whole[section] |= knobs
    file.write_text(yaml.safe_dump(whole))
    with pytest.raises(TrainerError) as caught:
        configs.load(file)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_weights_of_another_kind_are_one_line(folders, tmp_path):
    config = configs.load(recipe(tmp_path / "a.yaml", folders["cogvideox-5b"], "cogvideox-5b"))
    parts = Parts(config, torch.device("cpu"))
    config.model.backbone_weights = str(folders["wan2.1-1.3b"])
    with pytest.raises(TrainerError, match="holds a WanTransformer3DModel"):
        backbones.build(config, parts)
    (tmp_path / "none").mkdir()
    config.model.backbone_weights = str(tmp_path / "none")
    with pytest.raises(TrainerError, match="no scheduler/scheduler_config.json"):
        Parts(config, torch.device("cpu"))
