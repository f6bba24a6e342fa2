from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from curation.models import magvit
from curation.models.codecs import codec
from curation.models.magvit import AdaptiveNorm, FrameNorm, Magvit, Posterior, Size
from curation.trainer.model import DiT

pytestmark = [pytest.mark.trainer, pytest.mark.usefixtures("one_thread")]

SMALL = Size(base=4, multipliers=(1, 2, 2, 2, 4), encoder_blocks=(1,) * 5, decoder_blocks=(1,) * 5, channels=6)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture(scope="module")
def network() -> Magvit:
    """One whose zeros have become numbers, as training makes them."""
    torch.manual_seed(0)
    made = Magvit(SMALL).eval().requires_grad_(False)
    for norm in made.modules():
        if isinstance(norm, AdaptiveNorm):
            norm.modulation.weight.normal_(std=0.3)
    made.mean.normal_()
    made.variance.uniform_(0.5, 2)
    return made


@pytest.fixture(scope="module")
def folder(network: Magvit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("magvit")
    network.save(folder)
    return folder


def test_the_papers_size_is_what_the_docstring_counts():
    with torch.device("meta"):
        paper = Magvit(Size())
    assert sum(p.numel() for p in paper.parameters()) == 1_173_051_219 and "1,173,051,219" in (Size.__doc__ or "")
    assert [paper.size.width(level) for level in range(5)] == [16, 64, 256, 512, 1024]
    assert [paper.size.strides(level) for level in range(5)] == [(1, 1), (1, 2), (2, 4), (4, 8), (8, 16)]
    assert [len(level.blocks) for level in paper.encoder] == [1, 1, 2, 8, 8]
    assert [len(level.blocks) for level in paper.decoder] == [4, 4, 4, 4, 4]


def test_v1s_token_counts_hold(folder):
    """PAPER.md §4."""
    found = codec("magvit", "cpu", folder)
    for frames, height, width, tokens in [(385, 288, 512, 7056), (121, 576, 1024, 9216)]:
        assert DiT.tokens(found.shape(frames, height, width)) == tokens


def test_a_clip_has_an_eighth_of_the_frames_and_a_first_one_of_its_own(network):
    with torch.device("meta"):
        paper = Magvit(Size())
        for frames, latent in [(1, 1), (9, 2), (17, 3)]:
            posterior = paper.encode(torch.empty(2, 3, frames, 32, 64))
            assert posterior.mean.shape == posterior.logvar.shape == (2, 32, latent, 2, 4)
            assert paper.decode(posterior.mean).shape == (2, 3, frames, 32, 64)


def test_latents_know_nothing_of_later_frames(network):
    a = noise(1, 3, 17, 32, 32)
    for first in (1, 9):
        b = torch.cat([a[:, :, :first], noise(1, 3, 17 - first, 32, 32, seed=1)], 2)
        before, after, same = network.encode(a).mean, network.encode(b).mean, 1 + (first - 1) // 8
        torch.testing.assert_close(before[:, :, :same], after[:, :, :same], atol=1e-5, rtol=0)
        assert not torch.allclose(before[:, :, same:], after[:, :, same:], atol=1e-3)
        torch.testing.assert_close(network.encode(a[:, :, :first]).mean, before[:, :, :same], atol=1e-5, rtol=0)
    z = noise(1, 6, 3, 2, 2)
    other = torch.cat([z[:, :, :2], noise(1, 6, 1, 2, 2, seed=1)], 2)
    before, after = network.decode(z), network.decode(other)
    torch.testing.assert_close(before[:, :, :9], after[:, :, :9], atol=1e-5, rtol=0)
    assert not torch.allclose(before[:, :, 9:], after[:, :, 9:], atol=1e-3)


def test_chunks_give_what_the_whole_gives(network):
    video = noise(1, 3, 25, 32, 48)
    whole = network.encode(video)
    for chunk in (8, 16):
        torch.testing.assert_close(network.encode(video, chunk).mean, whole.mean, atol=1e-5, rtol=0)
    for chunk in (1, 2):
        torch.testing.assert_close(network.decode(whole.mean, chunk), network.decode(whole.mean), atol=1e-5, rtol=0)


def test_what_chunks_leave_each_other_does_not_grow_with_the_clip():
    """The figures of `codecs.Magvit`: float32 of 1024×576, on the meta device."""
    with torch.device("meta"):
        paper = Magvit(Size())
        for run, shape, step, gigabytes in [
            (paper._encode, (1, 3, 1, 576, 1024), 8, 1.571),
            (paper._decode, (1, 32, 1, 36, 64), 1, 3.115),
        ]:
            past: magvit.Past = {}
            run(torch.empty(shape), past)
            for _ in range(2):
                run(torch.empty(shape).expand(-1, -1, step, -1, -1), past)
                assert sum(x.numel() for x in past.values()) * 4 / 1e9 == pytest.approx(gigabytes, abs=0.01)


def test_edges_are_repeated(network):
    """A clip of one colour is one colour to every convolution: nothing at the border or the start is different."""
    still = torch.full((1, 3, 9, 32, 32), 0.3)
    x = network.enter(still)
    torch.testing.assert_close(x, x[:, :, :1, :1, :1].expand_as(x))


def test_the_divergence_is_torchs(network):
    posterior = network.encode(noise(2, 3, 9, 32, 32))
    gaussian = torch.distributions.Normal(posterior.mean, (posterior.logvar / 2).exp())
    divergence = torch.distributions.kl_divergence(gaussian, torch.distributions.Normal(0, 1)).mean((1, 2, 3, 4))
    torch.testing.assert_close(posterior.kl(), divergence)
    assert Posterior(torch.zeros(1, 1, 1, 1, 1), torch.zeros(1, 1, 1, 1, 1)).kl() == 0
    drawn = posterior.sample(torch.ones_like(posterior.mean))
    torch.testing.assert_close(drawn, posterior.mean + gaussian.stddev)


def test_the_adaptive_norm_follows_the_latent_frame_of_each_frame():
    norm = AdaptiveNorm(8, 3)
    x, z = noise(1, 8, 9, 4, 4), noise(1, 3, 2, 2, 2)
    plain = norm(x, z, 8)
    torch.testing.assert_close(plain, FrameNorm(8, affine=False)(x))  # at first it does not
    nn.init.normal_(norm.modulation.weight)
    before = norm(x, z, 8)
    z[:, :, 1] += 1
    after = norm(x, z, 8)
    torch.testing.assert_close(before[:, :, :1], after[:, :, :1])
    assert not torch.isclose(before[:, :, 1:], after[:, :, 1:]).all(-1).all(-1).any()


def test_the_codec_normalises_and_comes_back(network, folder):
    found = codec("magvit", "cpu", folder, "abc")
    video = noise(2, 3, 9, 32, 48)
    latents = found.encode(video)
    mean, std = (value.view(-1, 1, 1, 1) for value in (network.mean, network.variance.sqrt()))
    torch.testing.assert_close(latents * std + mean, network.encode(video).mean, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.decode(latents), network.decode(network.encode(video).mean), atol=1e-5, rtol=1e-5)
    assert latents.shape == (2, *found.shape(9, 32, 48)) and latents.dtype == torch.float32
    assert torch.equal(found.encode(video[1:]), latents[1:])
    assert codec("magvit", "cpu", folder, "abd").identity != found.identity == "magvit:abc:torch.float32"
    half = codec("magvit", "cpu", folder, dtype=torch.bfloat16)
    assert (half.encode(video) - latents).abs().mean() < 0.1


def test_gradients_are_the_same_when_activations_are_computed_again(network):
    found = []
    for again in (False, True):
        one = Magvit(SMALL, checkpointing=again)
        one.load_state_dict(network.state_dict())
        made, posterior = one(noise(1, 3, 9, 32, 32), noise(1, 6, 2, 2, 2))
        (made.square().mean() + posterior.kl().mean()).backward()
        found.append([p.grad for p in one.parameters()])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*found, strict=True))
    assert all(gradient.any() for gradient in found[0])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"time_strides": (1, 2, 2, 1, 1)}, "strides multiply to 8 in time and 16 in space"),
        ({"encoder_blocks": (1, 1)}, "one number a level"),
        ({"decoder_blocks": (1, 1, 0, 1, 1)}, "every number is 1 or more"),
        ({"time_strides": (1, 1, 4, 2, 1)}, "strides are 1 or 2"),
    ],
)
def test_sizes_that_are_none(change, said):
    with pytest.raises(ValueError, match=said):
        Size(**change)


def test_shapes_and_folders_that_are_wrong_are_said_in_one_line(folder, tmp_path):
    found = codec("magvit", "cpu", folder)
    with pytest.raises(ValueError, match="1 \\+ 8·n frames and sides that are multiples of 16, not 5 frames of 32×32"):
        found.encode(torch.zeros(1, 3, 5, 32, 32))
    with pytest.raises(ValueError, match="multiples of 16"):
        found.encode(torch.zeros(1, 3, 9, 32, 40))
    for content, said in [
        (None, "cannot be loaded as Magvit"),
        ({"_class_name": "AutoencoderKL"}, "holds no Magvit"),
        ({"_class_name": "Magvit", "bass": 1}, "cannot be loaded as Magvit"),
        (json.loads((folder / "config.json").read_text()), "cannot be loaded as Magvit"),
    ]:
        if content is not None:
            (tmp_path / "config.json").write_text(json.dumps(content))
        with pytest.raises(ValueError, match=said) as error:
            codec("magvit", "cpu", tmp_path)
        assert "\n" not in str(error.value)
