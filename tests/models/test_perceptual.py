from __future__ import annotations

import pytest
import torch

from curation.models.perceptual import Perceptual
from curation.store import store
from tests.models.frames import frames

pytestmark = [pytest.mark.trainer, pytest.mark.usefixtures("one_thread")]


def test_what_looks_alike_is_near_and_can_be_neared():
    eyes = Perceptual(store.path("efficientnet-lite2"), torch.device("cpu"))
    clip = frames(1).transpose(1, 2).float()[:2, :, :, :64, :96] / 127.5 - 1
    brighter, other = clip * 0.97, clip.flip(0)
    assert eyes(clip, clip) == 0
    assert 0 < eyes(brighter, clip) < eyes(other, clip) / 5
    made = (clip + 0.1).requires_grad_()
    eyes(made, clip).backward()
    assert made.grad is not None and made.grad.isfinite().all() and made.grad.any()
