"""The papers' ablation in small: images bound to words are painted on what the words name (PAPER.md §4, Binding)."""

from __future__ import annotations

import pytest
import torch

from benchmarks import binding_world as world
from curation.trainer.seeds import generator

pytestmark = pytest.mark.trainer


def test_the_measurement_sees_what_is_there():
    scenes = world.scenes(48, generator("check"), sided=True)
    videos = world.draw(scenes, generator("check"))
    coded = world.CODEC.decode(world.CODEC.encode(videos)).clamp(-1, 1)
    for video in (videos, coded):
        assert world.verdicts(video, scenes).all()
        assert world.verdicts(video.flip(-1), scenes).all(0).tolist() == [True, False, True], (
            "the sides are exchanged, no colour is"
        )
        assert not world.verdicts(video, scenes.swapped())[:, 2].any()
        assert world.verdicts(video, scenes.swapped())[:, :2].all()
    assert not world.verdicts(torch.ones_like(videos), scenes)[:, [0, 2]].any(), "nothing is there"


def test_exchanged_words_are_all_that_swapped_scenes_differ_by():
    scenes = world.scenes(8, generator("check"))
    told, swapped = (world.conditions(s, generator("discs")) for s in (scenes, scenes.swapped()))
    assert swapped.pop("words").equal(told.pop("words").flip(1))
    assert all(swapped[name].equal(value) for name, value in told.items())


@pytest.mark.slow
@pytest.mark.parametrize("use_words", [True, pytest.param(False, marks=pytest.mark.long)])
def test_colours_follow_the_words_that_the_references_are_bound_to(use_words):
    model = world.new_model(use_words)
    losses = list(world.train(model, steps=400))
    found = world.judged(model, count=64)
    assert sum(losses[-50:]) < 0.25 * sum(losses[:50])
    assert found["shapes"] >= 0.75
    if use_words:
        assert found["follows"] >= 0.9, found
    else:
        assert 0.25 < found["follows"] <= 0.5, found
        assert found["pairs"] == 0, "the same video whatever the binding"
