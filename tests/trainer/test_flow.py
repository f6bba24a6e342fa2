from __future__ import annotations

import math

import pytest
import torch

from curation.trainer import flow
from curation.trainer.flow import (
    Dynamic,
    Guidance,
    Sampling,
    draw_times,
    estimate,
    guided,
    noised,
    resolution_shift,
    sample,
    shifted,
    steps,
    target,
)

pytestmark = pytest.mark.trainer
NONE = Guidance(text_scale=0, image_scale=0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def latents() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x0, noise = torch.randn(2, 3, 4, 2, 2, 2, generator=seeded())
    return x0, noise, torch.tensor([0.0, 0.25, 1.0])


def test_the_path_is_straight_and_its_slope_is_the_target(latents):
    x0, noise, t = latents
    z = noised(x0, noise, t)
    assert z[0].equal(x0[0])
    assert z[2].equal(noise[2])
    torch.testing.assert_close(z[1], 0.75 * x0[1] + 0.25 * noise[1])
    later = noised(x0, noise, t + 0.01)
    torch.testing.assert_close((later - z) / 0.01, target(x0, noise), atol=1e-3, rtol=0)
    torch.testing.assert_close(estimate(z, target(x0, noise), t), x0)


def test_times_are_logit_normal():
    n = 100_000
    t = draw_times(n, seeded())
    logits = torch.logit(t.double())
    assert t.dtype == torch.float32
    assert abs(logits.mean()) < 5 / math.sqrt(n)
    assert abs(logits.std() - 1) < 5 / math.sqrt(2 * n)
    assert abs(t.mean() - 0.5) < 5 * 0.21 / math.sqrt(n)
    quantiles = torch.quantile(t[:50_000], torch.tensor([0.1587, 0.5, 0.8413]))
    torch.testing.assert_close(quantiles, torch.sigmoid(torch.tensor([-1.0, 0.0, 1.0])), atol=0.006, rtol=0)


def test_times_come_shifted_from_the_generator_alone():
    plain, again, moved = draw_times(1000, seeded(3)), draw_times(1000, seeded(3)), draw_times(1000, seeded(3), shift=3.0)
    assert plain.equal(again)
    torch.testing.assert_close(moved, 3 * plain / (1 + 2 * plain))
    torch.testing.assert_close(torch.logit(moved), torch.logit(plain) + math.log(3), atol=1e-3, rtol=0)


def test_the_shift_keeps_the_ends_and_order():
    t = torch.linspace(0, 1, 11)
    moved = shifted(t, 4.0)
    assert (float(moved[0]), float(moved[-1]), float(moved[5])) == (0.0, 1.0, pytest.approx(0.8))
    assert (moved.diff() > 0).all()
    assert shifted(t, 1.0).equal(t)


def test_more_tokens_shift_further():
    assert resolution_shift(720) == 1
    assert resolution_shift(64) == 1
    assert resolution_shift(4 * 720) == 2
    assert resolution_shift(5 * 32 * 18) == pytest.approx(2)  # 17 frames of 512×288: 5 × 36/2 × 64/2 tokens
    assert resolution_shift(1000, base=250) == 2


def test_steps_are_by_the_width():
    assert [flow.steps_for(width) for width in (64, 256, 512, 1024)] == [256, 256, 128, 64]


class Passes:
    """A field whose every pass has a velocity of its own, and what each was given."""

    def __init__(self) -> None:
        g = seeded(7)
        self.values = {c: torch.randn(1, 1, 1, 2, 2, generator=g) for c in ("IT", "I", "T", "")}
        self.calls: list[tuple[str, float, torch.Tensor | None]] = []

    def __call__(self, z: torch.Tensor, t: torch.Tensor, self_cond: torch.Tensor | None, condition: str) -> torch.Tensor:
        self.calls.append((condition, round(float(t[0]), 4), self_cond))
        return self.values[condition].expand_as(z)


def test_separate_guidance_is_v2s_formula():
    field, z, t = Passes(), torch.zeros(1, 1, 1, 2, 2), torch.tensor([0.4])
    e = field.values
    v, _ = guided(field, z, t, {}, Guidance())
    torch.testing.assert_close(v, e["IT"] + 8 * (e["IT"] - e["I"]) + 3 * (e["IT"] - e["T"]))
    assert sorted(call[0] for call in field.calls) == ["I", "IT", "T"]


def test_nested_guidance_goes_from_nothing_to_text_to_images():
    field, z, t = Passes(), torch.zeros(1, 1, 1, 2, 2), torch.tensor([0.4])
    e = field.values
    v, _ = guided(field, z, t, {}, Guidance(form="nested", text_scale=8, image_scale=2.5))
    torch.testing.assert_close(v, e[""] + 8 * (e["T"] - e[""]) + 2.5 * (e["IT"] - e["T"]))
    assert sorted(call[0] for call in field.calls) == ["", "IT", "T"]


@pytest.mark.parametrize("guidance", [NONE, Guidance(form="nested", text_scale=1, image_scale=1)])
def test_no_guidance_is_one_pass(guidance):
    field, z, t = Passes(), torch.zeros(1, 1, 1, 2, 2), torch.tensor([0.4])
    assert guided(field, z, t, {}, guidance)[0].equal(field.values["IT"])
    assert [call[0] for call in field.calls] == ["IT"]


def test_guidance_keeps_to_its_interval():
    field = Passes()
    sample(field, torch.randn(1, 1, 1, 2, 2, generator=seeded()), count=20, shift=1.0, guidance=Guidance(interval=[0.15, 0.5]))
    times = {condition: {t for c, t, _ in field.calls if c == condition} for condition in ("IT", "I", "T")}
    assert times["IT"] == {round(1 - i / 20, 4) for i in range(20)}
    assert times["I"] == times["T"] == {t for t in times["IT"] if 0.15 <= t <= 0.5}
    assert len(times["I"]) == 8


def test_each_pass_gets_its_own_last_estimate():
    field = Passes()
    list(steps(field, torch.ones(1, 1, 1, 2, 2), 3, 1.0, Guidance()))
    assert all(self_cond is None for _, _, self_cond in field.calls[:3])
    z, e = torch.ones(1, 1, 1, 2, 2), field.values
    for condition, _, self_cond in field.calls[3:6]:
        torch.testing.assert_close(self_cond, z - e[condition])
    field.calls.clear()
    list(steps(field, z, 3, 1.0, Guidance(), self_conditioning=False))
    assert all(self_cond is None for _, _, self_cond in field.calls)


@pytest.mark.parametrize(("count", "shift"), [(1, 1.0), (7, 1.0), (12, 3.0)])
def test_one_point_is_reached_exactly(count, shift):
    """All data in one place: the paths are straight lines, so any Euler walk ends there."""
    place = torch.randn(1, 2, 1, 2, 2, generator=seeded(1))
    velocity = lambda z, t, self_cond, condition: (z - place) / t.view(-1, 1, 1, 1, 1)  # noqa: E731
    made = sample(velocity, torch.randn(4, 2, 1, 2, 2, generator=seeded()), count=count, shift=shift, guidance=NONE)
    torch.testing.assert_close(made, place.expand_as(made), atol=1e-5, rtol=0)


def test_a_gaussian_is_sampled_with_its_own_spread():
    """Data normal(μ, σ²): the flow is linear and takes noise ε to μ + σε; Euler's error falls with the step."""
    mean, std = 1.5, 0.4

    def velocity(z: torch.Tensor, t: torch.Tensor, self_cond: object, condition: str) -> torch.Tensor:
        t = t.view(-1, 1, 1, 1, 1)
        spread = (1 - t) ** 2 * std**2 + t**2
        return (t - (1 - t) * std**2) / spread * (z - (1 - t) * mean) - mean

    noise = torch.randn(8, 1, 1, 4, 4, generator=seeded())
    errors = []
    for count in (100, 400):
        *_, (made, self_cond) = steps(velocity, noise, count, 1.0, NONE)
        errors.append(float((made - (mean + std * noise)).abs().max()))
        torch.testing.assert_close(self_cond, made, atol=0.02, rtol=0)
    assert errors[1] < 0.01
    assert errors[1] == pytest.approx(errors[0] / 4, rel=0.3)


def test_static_thresholding_cuts_off_and_dynamic_scales_each_video():
    x0 = torch.stack([torch.linspace(-10, 10, 101), torch.linspace(-3, 3, 101)]).view(2, 1, 1, 1, 101)
    assert Guidance().limited(x0) is x0
    cut = Guidance(threshold="static", bound=4.0).limited(x0)
    torch.testing.assert_close(cut, x0.clamp(-4, 4))
    scaled = Guidance(threshold=Dynamic(dynamic=0.8), bound=4.0).limited(x0)
    torch.testing.assert_close(scaled[0], x0[0].clamp(-8, 8) / 2)  # 81 of 101 are at most 8
    assert scaled[1].equal(x0[1]), "nothing is larger than the bound"


@pytest.mark.parametrize("threshold", ["static", Dynamic(dynamic=1.0)])
def test_a_sample_stays_within_the_bound(threshold):
    """A field that runs away to ten times the data ends where the threshold lets it."""
    runaway = lambda z, t, self_cond, condition: (z - 30 * torch.sign(z)) / t.view(-1, 1, 1, 1, 1)  # noqa: E731
    noise = torch.randn(2, 1, 1, 4, 4, generator=seeded())
    free = sample(runaway, noise, count=8, shift=1.0, guidance=NONE)
    torch.testing.assert_close(free.abs(), torch.full_like(free, 30))
    held = sample(
        runaway, noise, count=8, shift=1.0, guidance=Guidance(text_scale=0, image_scale=0, threshold=threshold, bound=3.0)
    )
    torch.testing.assert_close(held.abs(), torch.full_like(held, 3))


def test_sampling_knobs_default_to_v2():
    chosen = Sampling()
    assert (chosen.form, chosen.text_scale, chosen.image_scale, chosen.interval) == ("separate", 8, 3, [0, 1])
