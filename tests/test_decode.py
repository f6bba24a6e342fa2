"""Decode once: split_shots decodes each source once, sample_frames each clip once, no other stage decodes anything."""

from __future__ import annotations

from collections import Counter

from curation import recipe, video
from curation.inputs.open import open_input
from curation.plan import make_plan
from curation.stage import apply


def test_frames_decoded_by_each_stage_of_the_embedded_recipe(tmp_path, monkeypatch):
    chosen = recipe.find("embedded")
    samples = make_plan(chosen, open_input("sample"), tmp_path, {}).unit(0)
    decoded: Counter[str] = Counter()
    current = ""
    monkeypatch.setattr(video, "on_decode", lambda reader: decoded.update([current]))
    for stage in chosen.clips:
        current = stage.name
        stage.load()
        if stage.name == "sample_frames":
            clips = sum(s.meta["split_shots"]["frames"] for s in samples if s.alive)
        samples = apply(stage, samples)
    alive = {s.meta["source"]["video"] for s in samples if "split_shots" in s.meta or s.verdict.stage == "split_shots"}
    assert alive == {"bikes", "carphone_pristine", "bigbuckbunny"}
    assert decoded["split_shots"] <= 250 + 120 + 132, "no more frames than the three sources have, though six clips are of one"
    assert decoded["sample_frames"] == clips > 100
    assert set(decoded) == {"split_shots", "sample_frames"}
