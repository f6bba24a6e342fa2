from __future__ import annotations

import pytest
import torch

from curation.trainer.layers import Binding

pytestmark = pytest.mark.trainer
B, N, TOKENS, D, K, TEXT = 2, 3, 5, 10, 4, 7


@pytest.fixture
def given() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    slots = torch.tensor([[True, True, False], [False, True, True]])
    return torch.randn(B, N, TOKENS, D, generator=g), torch.randn(B, N, K, TEXT, generator=g), slots


def binding(**knobs: bool) -> Binding:
    made = Binding(image_dim=D, text_dim=TEXT, words=K, slots=N, **knobs)
    torch.nn.init.normal_(made.index, generator=torch.Generator().manual_seed(2))
    return made


def plainly(layer: Binding, images: torch.Tensor, words: torch.Tensor, use_words: bool) -> torch.Tensor:
    """The equation of PAPER.md §4, token by token: concatenate, linear, residual, index, then all images one after the other."""
    rows = []
    for b in range(B):
        f = []
        for n in range(N):
            for i in range(TOKENS):
                x = images[b, n, i]
                together = torch.cat([x, words[b, n].reshape(K * TEXT)]) if use_words else x
                f.append(layer.linear.weight @ together + layer.linear.bias + x + layer.index[n])
        rows.append(torch.stack(f))
    return torch.stack(rows)


@pytest.mark.parametrize("use_words", [True, False])
def test_it_is_the_equation(given, use_words):
    images, words, slots = given
    layer = binding(use_words=use_words)
    tokens, mask = layer(images, words, slots)
    assert tokens.shape == (B, N * TOKENS, D)
    assert layer.linear.weight.shape == (D, D + K * TEXT if use_words else D)
    torch.testing.assert_close(tokens[mask], plainly(layer, images, words, use_words)[mask])
    assert mask.reshape(B, N, TOKENS).all(-1).equal(slots)
    assert mask.reshape(B, N, TOKENS).any(-1).equal(slots)


def test_an_empty_slot_gives_zeros_whatever_lies_in_it(given):
    images, words, slots = given
    tokens, mask = binding()(images.masked_fill(~slots[..., None, None], torch.nan), words, slots)
    assert not tokens[~mask].any()
    assert tokens[mask].isfinite().all()


def test_fewer_images_than_slots_are_the_first_ones(given):
    images, words, slots = given
    layer = binding()
    torch.testing.assert_close(
        layer(images[:, :2], words[:, :2], slots[:, :2])[0], layer(images, words, slots)[0][:, : 2 * TOKENS]
    )


def test_exchanged_slots_differ_by_their_index_alone(given):
    images, words, _ = given
    layer, full = binding(), torch.ones(B, N, dtype=torch.bool)
    order = torch.tensor([2, 0, 1])
    before = layer(images, words, full)[0].unflatten(1, (N, TOKENS))
    after = layer(images[:, order], words[:, order], full)[0].unflatten(1, (N, TOKENS))
    torch.testing.assert_close(after - layer.index[:, None], (before - layer.index[:, None])[:, order])


def test_the_word_changes_its_own_image_only(given):
    images, words, _ = given
    layer, full = binding(), torch.ones(B, N, dtype=torch.bool)
    other = words.clone()
    other[:, 1] += 1
    changed = (layer(images, words, full)[0] != layer(images, other, full)[0]).unflatten(1, (N, TOKENS)).any(-1)
    assert changed[:, 1].all()
    assert not changed[:, [0, 2]].any()
