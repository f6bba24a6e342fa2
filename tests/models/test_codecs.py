from __future__ import annotations

import json
import math

import pytest
import torch

from curation.models import dct
from curation.models.codecs import CHANNELS, codec
from tests.models.frames import frames
from tests.tiny import backbones
from tests.tiny import encoders as tiny

pytestmark = [pytest.mark.trainer, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def clips() -> torch.Tensor:
    """Three real ones, float [3,3,17,144,256] in −1..1."""
    return frames(17).transpose(1, 2).float() / 127.5 - 1


@pytest.fixture(scope="module")
def cogvideox(tmp_path_factory: pytest.TempPathFactory):
    return codec("cogvideox", "cpu", str(tiny.cogvideox(tmp_path_factory.mktemp("weights") / "vae")))


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_the_transform_is_orthonormal():
    for size in (1, 3, 4, 8):
        torch.testing.assert_close(dct.matrix(size) @ dct.matrix(size).T, torch.eye(size).double())
    rows = dct.basis(4)
    assert rows.shape == (768, 768)
    torch.testing.assert_close(rows @ rows.T, torch.eye(768).double())


def test_a_coefficient_is_the_plain_sum_of_cosines():
    rows = dct.basis(4).reshape(3, 4, 8, 8, 3, 4, 8, 8)

    def wave(k: int, n: int, i: int) -> float:
        return math.sqrt((1 if k == 0 else 2) / n) * math.cos(math.pi * (2 * i + 1) * k / (2 * n))

    for index, (c, t, y, x) in enumerate([(0, 0, 0, 0), (1, 2, 3, 4), (2, 3, 7, 1)]):
        for c2, t2, y2, x2 in [(0, 0, 0, 0), (2, 1, 5, 6), (1, 3, 2, 7)]:
            expected = wave(c, 3, c2) * wave(t, 4, t2) * wave(y, 8, y2) * wave(x, 8, x2)
            assert rows[c, t, y, x, c2, t2, y2, x2].item() == pytest.approx(expected, abs=1e-12), index


def test_all_channels_are_lossless():
    video = noise(2, 3, 9, 16, 24)
    whole = codec("dct", "cpu", channels=768)
    latents = whole.encode(video)
    assert latents.shape == (2, 768, 3, 2, 3) == (2, *whole.shape(9, 16, 24))
    torch.testing.assert_close(whole.decode(latents), video, atol=1e-5, rtol=0)


def test_what_is_kept_survives_the_way_back():
    kept = codec("dct", "cpu")
    latents = torch.randn(2, CHANNELS, 3, 4, 5)
    latents[:, :, 0] = kept.encode(kept.decode(latents))[:, :, 0]  # a first latent frame that a still picture can have
    torch.testing.assert_close(kept.encode(kept.decode(latents)), latents, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("channels", "mean", "least"), [(32, 31.0, 27.5), (CHANNELS, 35.0, 30.0), (128, 39.5, 35.0), (768, 99, 99)]
)
def test_real_clips_are_reconstructed(clips, channels, mean, least):
    """Measured: 32 channels 37.1, 27.9 and 30.1 dB; 64: 42.4, 30.6, 33.2; 128: 47.2, 35.2, 37.4."""
    some = codec("dct", "cpu", channels=channels)
    error = (some.decode(some.encode(clips)).clamp(-1, 1) - clips).pow(2).mean((1, 2, 3, 4))
    psnr = 10 * torch.log10(4 / error)
    assert psnr.mean() > mean and psnr.min() > least, psnr


def test_latents_have_roughly_unit_variance(clips):
    latents = codec("dct", "cpu").encode(clips)
    spread = latents.pow(2).mean((0, 2, 3, 4)).sqrt()
    assert 0.6 < latents.pow(2).mean().sqrt() < 1.6 and 0.5 < spread.median() < 2, spread
    assert spread.min() > 0.2 and spread.max() < 3, spread  # three clips: what is fine and fast is as they have it


def test_the_largest_coefficients_come_first(clips):
    whole = codec("dct", "cpu", channels=768)
    energy = (whole.encode(clips) * whole.scale[:, None, None, None]).pow(2).mean((0, 2, 3, 4))
    best = energy.sort(descending=True).values[:CHANNELS].sum()
    assert energy[:CHANNELS].sum() > 0.995 * best
    assert torch.equal(codec("dct", "cpu", channels=16).rows, whole.rows[:16])


def test_a_still_clip_has_equal_latent_frames():
    still = noise(1, 3, 1, 16, 16).expand(-1, -1, 9, -1, -1)
    latents = codec("dct", "cpu").encode(still)
    torch.testing.assert_close(latents[:, :, :1].expand_as(latents), latents, atol=1e-5, rtol=0)


def test_latents_know_nothing_of_later_frames():
    """Frame 0 alone decides latent frame 0, frames 0 to 4·k latent frames 0 to k."""
    cosines = codec("dct", "cpu")
    a = noise(1, 3, 17, 16, 16)
    for first in (1, 5, 9, 13):
        b = torch.cat([a[:, :, :first], noise(1, 3, 17 - first, 16, 16, seed=1)], 2)
        before, after, same = cosines.encode(a), cosines.encode(b), 1 + (first - 1) // 4
        torch.testing.assert_close(before[:, :, :same], after[:, :, :same], atol=1e-5, rtol=0)
        assert not torch.allclose(before[:, :, same:], after[:, :, same:], atol=1e-3)
    one = cosines.encode(a[:, :, :1])
    torch.testing.assert_close(one, cosines.encode(a)[:, :, :1], atol=1e-5, rtol=0)
    assert cosines.decode(one).shape == (1, 3, 1, 16, 16)


def test_cogvideox_knows_later_frames_only_within_its_chunk(cogvideox):
    """9 frames, then 8 by 8: its group norms run over the frames of a chunk."""
    a = noise(1, 3, 17, 16, 16)
    b = torch.cat([a[:, :, :9], noise(1, 3, 8, 16, 16, seed=1)], 2)
    before, after = cogvideox.encode(a), cogvideox.encode(b)
    assert torch.equal(before[:, :, :3], after[:, :, :3]) and not torch.allclose(before[:, :, 3:], after[:, :, 3:], atol=1e-3)
    assert cogvideox.decode(cogvideox.encode(a[:, :, :1])).shape == (1, 3, 1, 16, 16)


def test_shapes_that_do_not_fit_are_refused(cogvideox):
    cosines = codec("dct", "cpu")
    for use, shape, message in [
        (cosines, (1, 3, 8, 16, 16), "1 \\+ 4·n frames .* not 8 frames of 16×16"),
        (cosines, (1, 3, 0, 16, 16), "not 0 frames"),
        (cosines, (1, 3, 5, 16, 20), "multiples of 8, not 5 frames of 20×16"),
        (cosines, (1, 5, 3, 16, 16), "a video is \\[B,3,F,H,W\\], not \\[1, 5, 3, 16, 16\\]"),
        (cosines, (3, 5, 16, 16), "a video is"),
        (cogvideox, (1, 3, 5, 16, 16), "1 \\+ 8·n frames"),
    ]:
        with pytest.raises(ValueError, match=message):
            use.encode(torch.zeros(shape))
    with pytest.raises(ValueError, match="latents are \\[B,64,T,H,W\\], not"):
        cosines.decode(torch.zeros(1, 16, 2, 2, 2))
    with pytest.raises(ValueError, match="13 frames"):
        cogvideox.decode(torch.zeros(1, 4, 4, 2, 2))


def test_cogvideox_would_decode_too_many_frames_of_such_a_length(cogvideox):
    """Why 1 + 8·n: diffusers takes pairs of latent frames, and an even number of them has no first frame."""
    assert cogvideox.network.decode(torch.zeros(1, 4, 4, 2, 2)).sample.shape[2] == 16  # not 13


def test_cogvideox_is_the_librarys_own_with_its_scaling_factor(cogvideox):
    video = noise(2, 3, 17, 16, 24)
    with torch.no_grad():
        expected = cogvideox.network.encode(video).latent_dist.mode() * 0.7
        pixels = cogvideox.network.decode(expected / 0.7).sample
    latents = cogvideox.encode(video)
    assert latents.shape == (2, 4, 5, 2, 3) == (2, *cogvideox.shape(17, 16, 24)) and cogvideox.channels == 4
    assert torch.equal(latents, expected) and torch.equal(cogvideox.decode(latents), pixels)
    assert pixels.shape == video.shape and not latents.requires_grad


@pytest.fixture(scope="module")
def wan(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("weights") / "wan"
    backbones.wan_vae().save_pretrained(folder)
    return codec("wan", "cpu", str(folder))


def test_wan_is_the_librarys_own_with_each_channels_mean_and_deviation(wan):
    video = noise(1, 3, 5, 16, 24)
    latents = wan.encode(video)
    assert latents.shape == (1, 4, 2, 2, 3) == (1, *wan.shape(5, 16, 24))
    with torch.no_grad():
        mode = wan.network.encode(video).latent_dist.mode()
        decoded = wan.network.decode(mode).sample
    for channel, (mean, std) in enumerate(zip([0.5, -0.25, 0.0, 1.0], [2.0, 1.5, 1.0, 0.5], strict=True)):
        torch.testing.assert_close(latents[:, channel], (mode[:, channel] - mean) / std)
    torch.testing.assert_close(wan.decode(latents), decoded, atol=1e-5, rtol=1e-5)


def test_wan_knows_nothing_of_later_frames_and_takes_one_clip_at_a_time(wan):
    video = noise(2, 3, 9, 16, 16)
    torch.testing.assert_close(wan.encode(video)[:, :, :2], wan.encode(video[:, :, :5]))
    assert torch.equal(wan.encode(video)[1:], wan.encode(video[1:]))


def test_a_clip_has_the_same_latents_in_any_batch(cogvideox):
    video = noise(3, 3, 9, 16, 16)
    assert torch.equal(cogvideox.encode(video)[1:2], cogvideox.encode(video[1:2]))


def test_autocast_stays_outside(clips):
    cosines = codec("dct", "cpu")
    with torch.autocast("cpu", torch.bfloat16):
        latents = cosines.encode(clips[:1])
        assert torch.equal(cosines.decode(latents), codec("dct", "cpu").decode(latents)) and latents.dtype == torch.float32
    assert torch.equal(latents, cosines.encode(clips[:1]))


def test_names_and_weights_that_are_wrong_are_said_in_one_line(tmp_path):
    for call, message in [
        (lambda: codec("nothing", "cpu"), "no codec 'nothing'; known: dct, cogvideox, cogvideox-2b, wan"),
        (lambda: codec("dct", "cpu", channels=769), "1 to 768"),
        (lambda: codec("cogvideox", "cpu", str(tmp_path / "none")), "cannot be loaded"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKL"}))
    with pytest.raises(ValueError, match="holds a AutoencoderKL, not a AutoencoderKLCogVideoX"):
        codec("cogvideox", "cpu", str(tmp_path))


def test_identities_tell_codecs_apart(tmp_path):
    folder = tiny.cogvideox(tmp_path / "vae")
    half = codec("cogvideox", "cpu", str(folder), dtype=torch.bfloat16)
    named = [codec("dct", "cpu"), codec("dct", "cpu", channels=32), codec("cogvideox", "cpu", str(folder)), half]
    assert len({found.identity for found in named}) == 4
    assert half.encode(noise(1, 3, 9, 16, 16)).dtype == torch.float32
