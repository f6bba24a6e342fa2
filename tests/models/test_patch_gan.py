from __future__ import annotations

import pytest
import torch

from curation.models.patch_gan import PatchGan, deceiving, judging

pytestmark = [pytest.mark.trainer, pytest.mark.usefixtures("one_thread")]


@pytest.mark.parametrize("loss", ["hinge", "non-saturating"])
def test_both_sides_want_opposite_logits(loss):
    high, low = torch.full((2, 1, 1, 2, 2), 0.5), torch.full((2, 1, 1, 2, 2), -0.5)
    assert judging(loss, high, low) < judging(loss, low, high)
    assert deceiving(loss, high) < deceiving(loss, low)
    if loss == "hinge":
        assert judging(loss, 4 * high, 4 * low) == 0  # sure enough
        assert judging(loss, high, low) == 1


def test_penalties():
    torch.manual_seed(0)
    adversary = PatchGan(width=4, layers=1)
    video = torch.rand(2, 3, 5, 16, 16)
    video.requires_grad_()
    (gradient,) = torch.autograd.grad(adversary(video).sum(), video)
    penalty = adversary.r1(video)
    torch.testing.assert_close(penalty, (gradient.flatten(1).norm(dim=1) ** 2).mean() / 2)
    penalty.backward()
    assert all(p.grad is not None for p in adversary.layers[:1].parameters() if p.ndim > 1)
    adversary.remember(torch.tensor(100.0), torch.tensor(-100.0))
    assert (adversary.real.item(), adversary.fake.item()) == (pytest.approx(1.0), pytest.approx(-1.0))
    assert adversary.lecam(torch.tensor([-1.0, -3.0]), torch.tensor([1.0, 1.0])) == 0
    assert adversary.lecam(torch.tensor([1.0]), torch.tensor([-1.0])) == pytest.approx(8.0)


def test_a_single_frame_and_a_small_one_have_logits():
    assert PatchGan(width=4)(torch.zeros(1, 3, 1, 16, 16)).shape[:2] == (1, 1)
