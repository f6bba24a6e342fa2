from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from curation.trainer.flops import forward_flops, pairs, step_flops
from curation.trainer.layers import LowRank
from curation.trainer.model import DiT
from tests.trainer import tiny_model
from tests.trainer.tiny_model import SHAPE, inputs

pytestmark = pytest.mark.trainer


@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"personalization": False},
        {"use_words": False},
        {"self_conditioning": False},
        {"mlp_ratio": 2.5},
        {"blocks": 3},
        {"adaln": "shared"},
        {"adaln": LowRank(rank=4)},
    ],
)
def test_they_are_those_that_torch_counts(knobs):
    size = tiny_model.size(**knobs)
    with torch.device("meta"):
        model = DiT(size)
    with FlopCounterMode(display=False) as counted:
        model(**{name: value.to("meta") for name, value in inputs().items()})
    assert forward_flops(size, model.tokens(SHAPE), text_tokens=6) * 2 == counted.get_total_flops()


@pytest.mark.parametrize(("tokens", "window"), [(9, None), (9, 4), (9, 5), (9, 16), (9, 18), (1, 2)])
def test_pairs_of_a_window_are_those_that_see_each_other(tokens, window):
    half = tokens if window is None else window // 2
    assert pairs(tokens, window) == sum(abs(a - b) <= half for a in range(tokens) for b in range(tokens))


def test_a_step_is_four_forward_passes():
    assert step_flops(tiny_model.size(), 8, 12, 6) == 32 * forward_flops(tiny_model.size(), 12, 6)
