from __future__ import annotations

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils._python_dispatch import TorchDispatchMode

from curation.trainer.errors import TrainerError
from curation.trainer.layers import ATTENTION, LowRank
from curation.trainer.model import (
    SIZES,
    Architecture,
    DiT,
    count_parameters,
    freeze,
    parameters_of,
    patches,
    positions,
    unpatched,
    waves,
)
from tests.trainer import tiny_model
from tests.trainer.tiny_model import SHAPE, inputs

pytestmark = pytest.mark.trainer
PARAMETERS = {  # with V2's codec (16 channels), T5-XXL's text (4096) and DINOv2's images (256 × 1024)
    "tiny": (41_810_880, 35_990_272),
    "small": (186_806_336, 62_966_272),
    "1b": (1_024_394_816, 214_048_768),
    "paper": (16_465_185_856, 2_988_325_888),
    "paper-v1": (16_465_167_424, 2_988_319_744),
}


@pytest.mark.parametrize("name", SIZES)
def test_named_sizes_have_their_parameters(name):
    size = Architecture(size=name).size_with(channels=16, text_dim=4096, image_dim=1024, image_tokens=256)
    with torch.device("meta"):
        model = DiT(size)
    new = sum(p.numel() for _, p in parameters_of(model, "personalization"))
    assert (count_parameters(model), new) == PARAMETERS[name]
    assert sum(p.numel() for _, p in parameters_of(model, "backbone")) == count_parameters(model) - new
    assert (size.width, size.blocks, size.heads) == SIZES[name]


@pytest.mark.parametrize(
    ("adaln", "count"),
    [("full", 16_465_185_856), ("shared", 10_224_110_656), (LowRank(rank=256), 10_760_981_568)],
)
def test_modulations_have_their_parameters(adaln, count):
    """paper: 3·4096² + 3·4096 for each of 4 residuals of 32 blocks; or once and a bias each; or also rank·(4096 + 3·4096)."""
    size = Architecture(size="paper", adaln=adaln).size_with(channels=16, text_dim=4096, image_dim=1024, image_tokens=256)
    with torch.device("meta"):
        model = DiT(size)
    assert count_parameters(model) == count
    assert {n for n, _ in parameters_of(model, "backbone")}.isdisjoint(n for n, _ in parameters_of(model, "personalization"))


@pytest.mark.parametrize("adaln", ["full", "shared", LowRank(rank=4)])
def test_gates_start_at_zero_and_get_gradients(adaln):
    fresh = DiT(tiny_model.size(adaln=adaln))
    torch.nn.init.normal_(fresh.out.weight)
    seen: list[torch.Tensor] = []
    fresh.blocks[0].register_forward_hook(lambda _, args, out: seen.extend([args[0], out]))
    fresh(**inputs()).square().mean().backward()
    assert seen[0].equal(seen[1])
    modulations = [p for name, p in fresh.blocks.named_parameters() if "modulation" in name and not name.endswith("down.weight")]
    assert all(p.grad.any() and not p.any() for p in [*modulations, *fresh.modulations.parameters()])


def test_blocks_that_share_a_modulation_still_differ_by_their_own():
    model, given = tiny_model.model(adaln="shared"), inputs()
    before = model(**given)
    with torch.no_grad():
        model.blocks[1].text.modulation.bias += 0.5
    assert not torch.allclose(model(**given), before, atol=1e-4)


def test_a_head_needs_channels_for_three_axes():
    with pytest.raises(TrainerError, match="width 40 in 2 heads: a head's channels must be a multiple of 16"):
        tiny_model.size(width=40)


def test_patches_are_blocks_of_neighbours_and_come_back():
    z = torch.randn(SHAPE)
    cut = patches(z)
    assert cut.shape == (2, 12, 12)
    torch.testing.assert_close(cut[1, 7], z[1, :, 1, 0:2, 2:4].reshape(-1))  # second frame, first row, second column
    assert unpatched(cut, (2, 2, 3)).equal(z)
    with pytest.raises(TrainerError, match="latents of 2×4×5 do not divide into patches of 1×2×2"):
        patches(z[..., :5])


def test_time_is_embedded_as_in_dit():
    timestep = torch.tensor([0.25, 1.0])
    frequencies = torch.exp(-torch.log(torch.tensor(10000.0)) * torch.arange(128) / 128)
    angles = 1000 * timestep[:, None] * frequencies
    torch.testing.assert_close(waves(timestep), torch.cat([angles.cos(), angles.sin()], -1), atol=1e-3, rtol=0)


def test_places_are_fractions_of_the_frame():
    coarse, fine = positions((1, 2, 2)), positions((3, 6, 6))
    torch.testing.assert_close(coarse[3], fine.unflatten(0, (3, 6, 6))[1, 4, 4])
    assert len(fine.unique(dim=0)) == len(fine)


def test_places_tell_a_patch_where_it_is():
    """Over one value everywhere, rotary places alone give one velocity everywhere."""
    given = {**inputs(), "z": torch.ones(SHAPE), "self_cond": None}
    with_them, without = tiny_model.model(positions=True)(**given), tiny_model.model()(**given)
    assert patches(with_them)[0].std(0).max() > 0.1
    assert patches(without)[0].std(0).max() < 1e-4


def test_a_fresh_model_gives_zeros_and_every_block_is_the_identity():
    fresh = DiT(tiny_model.size())
    assert not fresh(**inputs()).any()
    torch.nn.init.normal_(fresh.out.weight)
    x, time = torch.randn(2, 12, 32), torch.randn(2, 32)
    seen: list[torch.Tensor] = []
    fresh.blocks[0].register_forward_hook(lambda _, args, out: seen.extend([args[0], out]))
    assert fresh(**inputs()).any()
    assert seen[0].equal(seen[1])
    assert fresh.blocks[1].mlp(x, time).equal(x)


def test_the_same_seed_gives_the_same_weights_whatever_was_drawn_before():
    torch.rand(3)
    first, again, other = DiT(tiny_model.size()), DiT(tiny_model.size()), DiT(tiny_model.size(), seed=1)
    assert all(a.equal(b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    assert not first.patch.weight.equal(other.patch.weight)
    with torch.device("meta"):
        late = DiT(tiny_model.size())
    late.to_empty(device="cpu").initialise(0)
    assert all(a.equal(b) for a, b in zip(first.state_dict().values(), late.state_dict().values(), strict=True))


def test_dropped_text_is_as_good_as_none():
    model, given = tiny_model.model(), inputs()
    given["text_mask"] = torch.zeros_like(given["text_mask"])
    one = model(**given)
    torch.testing.assert_close(one, model(**{**given, "text": torch.zeros_like(given["text"])}))
    torch.testing.assert_close(one, model(**{**given, "text": given["text"][:, :1], "text_mask": given["text_mask"][:, :1]}))
    assert not torch.allclose(one, model(**{**given, "text_mask": ~given["text_mask"]}))


def test_dropped_images_are_as_good_as_no_personalization_layers():
    model, given = tiny_model.model(), inputs()
    bare = DiT(tiny_model.size(personalization=False))
    backbone = dict(parameters_of(model, "backbone"))
    assert [name for name, _ in bare.named_parameters()] == list(backbone)
    bare.load_state_dict(backbone)
    nothing = {**given, "slots": torch.zeros_like(given["slots"])}
    torch.testing.assert_close(model(**nothing), bare(**given))
    assert not torch.allclose(model(**given), bare(**given))


def test_everything_may_be_masked():
    model, given = tiny_model.model(), inputs()
    nothing = {**given, "slots": torch.zeros_like(given["slots"]), "text_mask": torch.zeros_like(given["text_mask"])}
    answer = model(**nothing)
    answer.square().mean().backward()
    assert answer.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_videos_of_a_batch_do_not_see_each_other():
    model, given = tiny_model.model(), inputs()
    alone = model(**{name: value[1:] for name, value in given.items()})
    torch.testing.assert_close(model(**given)[1:], alone)


def test_the_order_of_slots_counts_by_their_index_alone():
    model, given = tiny_model.model(), inputs()
    order = [2, 0, 1]
    turned = {**given, **{name: given[name][:, order] for name in ("images", "words", "slots")}}
    assert not torch.allclose(model(**given), model(**turned), atol=1e-4)
    torch.nn.init.ones_(model.personalization_binding.index)
    torch.testing.assert_close(model(**given), model(**turned))


def test_images_with_exchanged_words_are_others():
    model, given = tiny_model.model(), inputs()
    swapped = {**given, "words": given["words"][:, [1, 0, 2]]}
    assert not torch.allclose(model(**given), model(**swapped), atol=1e-4)
    deaf = tiny_model.model(use_words=False)
    torch.testing.assert_close(deaf(**given), deaf(**swapped))


def test_the_own_estimate_is_zeros_when_there_is_none():
    model, given = tiny_model.model(), inputs()
    without = {**given, "self_cond": None}
    torch.testing.assert_close(model(**without), model(**{**given, "self_cond": torch.zeros(SHAPE)}))
    assert not torch.allclose(model(**without), model(**given))
    deaf = tiny_model.model(self_conditioning=False)
    torch.testing.assert_close(deaf(**without), deaf(**given))


@pytest.mark.parametrize(
    ("layers", "trained"),
    [
        ("all", lambda name: True),
        ("backbone", lambda name: "personalization" not in name),
        (
            "personalization",
            lambda name: name.split(".")[0] == "personalization_binding" or name.split(".")[2:3] == ["personalization"],
        ),
    ],
)
def test_a_stage_trains_its_layers(layers, trained):
    model = tiny_model.model()
    freeze(model, "all" if layers != "all" else "backbone")
    freeze(model, layers)
    model(**inputs()).square().mean().backward()
    got = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert got == {name for name, _ in model.named_parameters() if trained(name)}


def test_a_stage_moves_only_its_layers():
    model = tiny_model.model()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    freeze(model, "personalization")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    model(**inputs()).square().mean().backward()
    optimizer.step()
    moved = {name for name, p in model.named_parameters() if not p.equal(before[name])}
    assert moved == {name for name, _ in parameters_of(model, "personalization")}


def test_the_stream_the_time_and_the_way_out_are_float32_under_bfloat16():
    model, kinds = tiny_model.model(), {}
    for name in ("blocks.0", "blocks.0.text", "time", "modulation", "out"):
        model.get_submodule(name).register_forward_hook(lambda _, args, out, name=name: kinds.update({name: out.dtype}))
    model.blocks[0].text.inner.register_forward_hook(lambda _, args, out: kinds.update(inner=out.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        model(**inputs())
    assert kinds.pop("inner") == torch.bfloat16 and set(kinds.values()) == {torch.float32}


class Attentions(TorchDispatchMode):
    """Counts the times that attention is computed."""

    count = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.count += operation in ATTENTION
        return operation(*args, **(kwargs or {}))


@pytest.mark.parametrize(("checkpointing", "count"), [("none", 6), ("full", 12), ("selective", 6)])
def test_selective_checkpointing_computes_attention_once(checkpointing, count):
    model = tiny_model.model(checkpointing=checkpointing)
    with Attentions() as counted:
        model(**inputs()).square().mean().backward()
    assert counted.count == count, "three a block"


@pytest.mark.parametrize("checkpointing", ["full", "selective"])
def test_checkpointing_gives_the_same_gradients_with_dropout(checkpointing):
    kept = tiny_model.model(dropout=0.3)
    again = tiny_model.model(dropout=0.3, checkpointing=checkpointing)
    for model in (kept, again):
        torch.manual_seed(5)
        model(**inputs()).square().mean().backward()
    for (name, a), b in zip(kept.named_parameters(), again.parameters(), strict=True):
        assert a.grad.equal(b.grad), name


def test_dropout_is_for_training():
    model, given = tiny_model.model(dropout=0.5), inputs()
    assert not torch.allclose(model(**given), model(**given))
    model.eval()
    assert model(**given).equal(model(**given))


def test_bfloat16_is_close_under_autocast_and_in_itself():
    model, given = tiny_model.model(), inputs()
    exact = model(**given)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(**given)
    half.square().mean().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    own = model.bfloat16()(**given)
    assert half.dtype == own.dtype == torch.float32
    for answer in (half, own):
        assert (answer - exact).square().mean() < 0.02 * exact.square().mean()


def test_it_compiles_without_a_break():
    model, given = tiny_model.model(), inputs()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(**given), model(**given))


@pytest.mark.parametrize("checkpointing", [pytest.param("none", marks=pytest.mark.slow), "selective"])
def test_blocks_compile_once_with_a_gradient_and_once_without(checkpointing):
    torch._dynamo.reset()
    plain, model = (tiny_model.model(checkpointing=checkpointing) for _ in range(2))
    graphs = CompileCounterWithBackend("aot_eager")
    for block in model.blocks:
        block.compile(dynamic=False, backend=graphs)
    for seed in range(2):
        with torch.no_grad():
            torch.testing.assert_close(model(**inputs(seed)), plain(**inputs(seed)))
        for one in (model, plain):
            one(**inputs(seed)).square().mean().backward()
    assert graphs.frame_count == 2, "one graph serves all blocks"
    for (name, a), b in zip(model.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-5, rtol=1e-4, msg=name)


def test_a_few_steps_lower_the_loss():
    model, given = DiT(tiny_model.size()), inputs()
    goal = torch.randn(SHAPE, generator=torch.Generator().manual_seed(9))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        loss = (model(**given) - goal).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]
