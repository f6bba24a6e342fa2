from __future__ import annotations

import pytest
import torch

from curation.trainer import layers
from curation.trainer.layers import CrossAttention, SelfAttention, rope, rotate, windowed

pytestmark = pytest.mark.trainer
GRID = (4, 5, 6)


def at(place: tuple[int, int, int]) -> int:
    return (place[0] * GRID[1] + place[1]) * GRID[2] + place[2]


@pytest.mark.parametrize(("a", "b"), [((0, 0, 0), (1, 2, 3)), ((2, 1, 1), (0, 3, 0)), ((1, 4, 5), (3, 0, 2))])
def test_products_of_turned_vectors_depend_on_the_distance_alone(a, b):
    q, k = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
    rotary = rope(GRID, 32)
    everywhere = rotary[0].shape[0]
    turned_q, turned_k = (rotate(x.expand(1, 1, everywhere, 32), rotary)[0, 0] for x in (q, k))

    def product(a: tuple[int, ...], b: tuple[int, ...]) -> float:
        return float(turned_q[at(a)] @ turned_k[at(b)])

    moves = [
        m
        for m in [(1, 0, 0), (0, 1, 0), (0, 0, 1), (-1, 0, 0), (0, -1, 0), (0, 0, -1)]
        if all(0 <= p[i] + m[i] < GRID[i] for p in (a, b) for i in range(3))
    ]
    assert moves
    for move in moves:
        moved = [tuple(x + y for x, y in zip(p, move, strict=True)) for p in (a, b)]
        assert product(*moved) == pytest.approx(product(a, b), abs=1e-4)
        assert abs(product(moved[0], b) - product(a, b)) > 1e-3, "a move of one alone is another distance"


def test_each_axis_turns_its_share_of_the_channels():
    cos, sin = rope(GRID, 32)
    moved = [(sin[at(place)] != 0).tolist() for place in [(1, 0, 0), (0, 1, 0), (0, 0, 1)]]
    assert moved[0] == [True] * 4 + [False] * 12
    assert moved[1] == [False] * 4 + [True] * 6 + [False] * 6
    assert moved[2] == [False] * 10 + [True] * 6
    torch.testing.assert_close(cos**2 + sin**2, torch.ones_like(cos))


def test_turning_keeps_lengths_and_is_float32():
    x = torch.randn(1, 2, 120, 32).bfloat16()
    turned = rotate(x, rope(GRID, 32))
    assert turned.dtype == torch.float32
    torch.testing.assert_close(turned.norm(dim=-1), x.float().norm(dim=-1))


def test_without_places_self_attention_is_the_textbooks():
    layer = SelfAttention(32, 2, qk_norm=False)
    x = torch.randn(2, 9, 32)
    still = (torch.ones(9, 8), torch.zeros(9, 8))
    theirs = torch.nn.MultiheadAttention(32, 2, batch_first=True)
    theirs.load_state_dict(
        {
            "in_proj_weight": layer.qkv.weight,
            "in_proj_bias": layer.qkv.bias,
            "out_proj.weight": layer.out.weight,
            "out_proj.bias": layer.out.bias,
        }
    )
    torch.testing.assert_close(layer(x, still, 9), theirs(x, x, x)[0])


@pytest.mark.parametrize(("window", "queries"), [(4, 2), (5, 4), (6, 1024), (16, 3), (20, 4), (None, 4)])
def test_a_window_is_the_textbooks_attention_under_a_band(window, queries, monkeypatch):
    monkeypatch.setattr(layers, "QUERIES", queries)
    q, k, v = torch.randn(3, 2, 2, 9, 16)
    place = torch.arange(9)
    band = (place[:, None] - place).abs() <= (9 if window is None else window // 2)
    scores = (q @ k.transpose(-1, -2) / 4).masked_fill(~band, -torch.inf).softmax(-1)
    torch.testing.assert_close(windowed(q, k, v, window), scores @ v)


def test_no_mask_is_a_mask_that_hides_nothing():
    layer = CrossAttention(32, 2, True, context=7)
    x, context = torch.randn(2, 9, 32), torch.randn(2, 6, 7)
    torch.testing.assert_close(layer(x, context, None), layer(x, context, torch.ones(2, 6, dtype=torch.bool)))


@pytest.mark.parametrize("qk_norm", [True, False])
def test_masked_context_is_as_good_as_absent(qk_norm):
    layer = CrossAttention(32, 2, qk_norm, context=7)
    x, context = torch.randn(2, 9, 32), torch.randn(2, 6, 7)
    mask = torch.tensor([[True] * 4 + [False] * 2, [False] * 6])
    answer = layer(x, context, mask)
    torch.testing.assert_close(answer[0], layer(x[:1], context[:1, :4], mask[:1, :4])[0])
    assert answer[0].any()
    assert not answer[1].any(), "attention over nothing is zero, its bias too"
    answer.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())
