"""What is decoded: by split_shots each source once, by sample_frames and at the end for the mp4 no more than the clips themselves
and what leads to them; by no other stage anything."""

from __future__ import annotations

from collections import Counter

import pytest

from curation import recipe
from curation.inputs.open import open_input
from curation.media import video
from curation.run.plan import make_plan
from curation.stage import apply
from curation.storage import Storage

SOURCES = {"bikes": 250, "carphone_pristine": 120, "bigbuckbunny": 132, "ios-video-recording": 181}
"""Frames of each; of the recording those of its first 6 s."""


@pytest.mark.slow
def test_frames_decoded_by_each_stage_of_the_embedded_recipe(tmp_path, monkeypatch):
    chosen = recipe.find("embedded")
    plan = make_plan(chosen, open_input("sample"), Storage.at(tmp_path), {})
    samples = [sample for _, unit in plan.units(0) for sample in unit]
    decoded: Counter[str] = Counter()
    readers: dict[str, set[int]] = {}
    alive: list[video.Reader] = []  # so that no two readers have one id
    current = ""

    def count(reader: video.Reader) -> None:
        decoded[current] += 1
        alive.append(reader)
        readers.setdefault(current, set()).add(id(reader))

    monkeypatch.setattr(video, "on_decode", count)
    clips = {}
    for step in chosen.steps():
        current = "redeem" if step.redeem else step.stage.name
        if not step.redeem:
            step.stage.load()
        clips[current] = sum(s.meta["split_shots"]["frames"] for s in samples if s.alive and "split_shots" in s.meta)
        samples = apply(step.stage, samples, redeem=step.redeem)
    found = {s.meta["source"]["video"] for s in samples if "split_shots" in s.meta or s.verdict.stage == "split_shots"}
    assert found == set(SOURCES)
    assert set(decoded) == {"split_shots", "sample_frames", "redeem"}
    assert decoded["split_shots"] <= sum(SOURCES.values()), "no more than the sources have, though eight clips are of one"
    assert decoded["redeem"] < decoded["sample_frames"] < decoded["split_shots"], "less and less is left"
    for later in ("sample_frames", "redeem"):
        assert 0 < clips[later] <= decoded[later]
        assert len(readers[later]) <= len(SOURCES), "one decode of each source for all its clips"
    assert all("mp4" in s.files for s in samples if s.alive)
