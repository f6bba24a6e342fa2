"""The quality filter: which frames it sees, what it records, whom it rejects and why."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation import recipe
from curation.inputs.open import open_input
from curation.ledger import Unit
from curation.media import video
from curation.media.members import to_jpeg
from curation.run.plan import make_plan
from curation.sample import Sample
from curation.stage import Window, apply
from curation.stages.sample_frames import SampleFrames
from curation.stages.score_quality import CLASSES, ScoreQuality, class_of
from curation.storage import Storage
from curation.store import store
from tests import tiny, videos
from tests.clips import promised


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny random checkpoint that bears Panda-70M's label names."""
    pytest.importorskip("transformers", reason="the paper extra is not installed")
    return str(tiny.videomae(tmp_path_factory.mktemp("videomae"), tiny.PANDA))


def sampled(key: str, seed: int, frames: int = 30) -> Sample:
    rng = np.random.default_rng(seed)
    colours = [tuple(int(v) for v in rng.integers(0, 255, 3)) for _ in range(frames)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "v.mp4"
        videos.write([videos.picture(i, colour=c) for i, c in enumerate(colours)], path=path)
        stage = SampleFrames()
        stage.serve(Window(24, 640))
        return apply(stage, [promised(key, path)])[0]


def scored(samples: list[Sample], **knobs: Any) -> list[Sample]:
    stage = ScoreQuality(**knobs)
    stage.load()
    return apply(stage, samples)


paper = pytest.mark.paper


@paper
def test_probabilities_are_stored_and_decide(weights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = [sampled(str(seed), seed) for seed in range(3)]
    decoded: list[object] = []
    monkeypatch.setattr(video, "on_decode", decoded.append)
    kept = scored(list(samples), weights=weights, min_desirable=0.0)
    assert not decoded, "decode once: the frames are those that sample_frames took"
    metas = [sample.meta["score_quality"] for sample in kept]
    assert all(sample.alive for sample in kept)
    for meta in metas:
        assert set(meta["probabilities"]) == set(CLASSES)
        assert sum(meta["probabilities"].values()) == pytest.approx(1, abs=3e-4)
        assert meta["label"] == max(meta["probabilities"], key=meta["probabilities"].__getitem__)
    assert len({meta["probabilities"]["desirable"] for meta in metas}) == 3

    least = sorted(meta["probabilities"]["desirable"] for meta in metas)[1]
    again = scored([sampled(str(seed), seed) for seed in range(3)], weights=weights, min_desirable=least)
    assert [s.meta["score_quality"] for s in again] == metas
    for sample, meta in zip(again, metas, strict=True):
        assert sample.alive == (meta["probabilities"]["desirable"] >= least)
        wanted = "low_desirable_score" if meta["label"] == "desirable" else meta["label"]
        assert sample.alive or (sample.verdict.stage, sample.verdict.reason) == ("score_quality", wanted)


@paper
def test_batches_give_what_single_clips_give(weights: str) -> None:
    together = scored([sampled(str(seed), seed) for seed in range(3)], weights=weights, min_desirable=0.0)
    alone = [scored([sampled(str(seed), seed)], weights=weights, min_desirable=0.0)[0] for seed in range(3)]
    for one, many in zip(alone, together, strict=True):
        expected = one.meta["score_quality"]["probabilities"]
        assert many.meta["score_quality"]["probabilities"] == pytest.approx(expected, abs=1.01e-4)


@paper
def test_a_broken_frame_fails_its_own_clip_only(weights: str) -> None:
    good, bad = sampled("good", 0), sampled("bad", 1)
    bad.files["_window.00.jpg"] = b"no picture"
    good, bad = scored([good, bad], weights=weights, min_desirable=0.0)
    assert good.alive and bad.verdict.status == "failed"


@paper
@pytest.mark.parametrize("count", [1, 7, 16, 24, 100])
def test_sixteen_frames_of_the_window_evenly_spaced(weights: str, count: int) -> None:
    window = [3 * i for i in range(count)]
    files = {f"_window.{i:02d}.jpg": to_jpeg(np.full((32, 48, 3), i, np.uint8), 95) for i in range(count)}
    sample = scored([Sample("k", files, {"sample_frames": {"window": window}})], weights=weights, min_desirable=0.0)[0]
    frames = sample.meta["score_quality"]["frames"]
    assert len(frames) == 16 and frames[0] == 0 and frames[-1] == window[-1] * (count > 1)
    steps = np.diff(frames) / 3
    assert steps.min() >= 0 and steps.max() - steps.min() <= 1
    if count >= 16:
        assert len(set(frames)) == 16


@paper
def test_an_empty_window_is_said(weights: str) -> None:
    sample = scored([Sample("k", {}, {"sample_frames": {"window": []}})], weights=weights)[0]
    assert sample.verdict.reason == "lookup_error" and "sample_frames made no window" in sample.verdict.detail


LABELS = dict(zip(tiny.PANDA[1:], CLASSES[1:], strict=True)) | {"0_low_desirable_score": "low_desirable_score"}


@pytest.mark.parametrize("label", LABELS)
def test_panda70ms_labels_replace_the_network(label: str) -> None:
    good, bad, none = (Sample("k", meta={"source": {"desirable_filtering": v}}) for v in ("desirable", label, None))
    good, bad, none = scored([good, bad, none], labels_from="panda70m")
    assert good.alive and good.meta["score_quality"] == {"label": "desirable", "source": "label"}
    assert (bad.verdict.status, bad.verdict.reason) == ("rejected", LABELS[label])
    assert bad.meta["score_quality"] == {"label": LABELS[label], "source": "label"}
    assert (none.verdict.status, none.verdict.reason) == ("rejected", "no_quality_label")


def test_labels_that_are_there_are_used_and_the_others_pass() -> None:
    good, bad, none = (
        Sample("k", meta={"source": {"desirable_filtering": v}}) for v in ("desirable", "3_screen_in_screen", None)
    )
    assert ScoreQuality(labels_from="auto").reads == ("caption",)
    good, bad, none = scored([good, bad, none], labels_from="auto")
    assert good.alive and (bad.verdict.status, bad.verdict.reason) == ("rejected", "screen_in_screen")
    assert none.alive and "score_quality" not in none.meta


@paper
def test_who_has_no_label_is_shown_to_the_network(weights: str) -> None:
    samples = [sampled(str(seed), seed) for seed in range(3)]
    samples[0].meta["source"]["desirable_filtering"] = "desirable"
    samples[1].files["_window.00.jpg"] = b"no picture"
    samples[1].meta["source"]["desirable_filtering"] = "4_computer_screen_recording"
    alone = scored([sampled("2", 2)], weights=weights, min_desirable=0.0)[0].meta["score_quality"]
    good, bad, unknown = scored(samples, weights=weights, labels_from="auto", min_desirable=0.0)
    assert good.meta["score_quality"] == {"label": "desirable", "source": "label"}
    assert bad.verdict.reason == "computer_screen_recording", "by its label: its pictures were not looked at"
    assert unknown.meta["score_quality"] == alone and alone["source"] == "model"


@pytest.mark.parametrize("label", ["slight_motion", "Slight motion", "2_tiny_camera_movement", "tiny camera movement"])
def test_names_of_a_class(label: str) -> None:
    assert class_of(label) == "slight_motion"


def test_labels_may_be_judged_while_planning_the_network_may_not(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("plan:\n  - score_quality: {labels_from: panda70m}\nclips:\n  - split_shots\n  - sample_frames\n")
    assert recipe.load(file).plan[0].reads == ("caption",)
    file.write_text("plan:\n  - score_quality\nclips:\n  - split_shots\n  - sample_frames\n")
    with pytest.raises(recipe.RecipeError, match="plan.score_quality reads '_window.*.jpg'.*put sample_frames before it"):
        recipe.load(file)


def test_a_clip_rejected_while_planning_is_never_opened(tmp_path: Path) -> None:
    """In the downloader's layout, with files that are no videos: to open one would be an error."""
    folder = tmp_path / "input/00000"
    folder.mkdir(parents=True)
    for number, label in enumerate(tiny.PANDA):
        name = folder / f"0000000_{number:05d}"
        name.with_suffix(".mp4").write_bytes(b"no video")
        name.with_suffix(".txt").write_text("A dog runs.")
        name.with_suffix(".json").write_text(json.dumps({"desirable_filtering": label, "status": "success"}))
    file = tmp_path / "r.yaml"
    file.write_text("plan:\n  - score_quality: {labels_from: panda70m}\nclips:\n  - split_shots\n  - sample_frames\n")
    plan = make_plan(recipe.load(file), open_input(str(tmp_path / "input")), Storage.at(tmp_path / "out"), {})
    samples = plan.unit(Unit(0, 0))
    assert [sample.verdict.reason for sample in samples] == ["", *CLASSES[1:]]
    assert samples[0].alive and samples[0].meta["score_quality"] == {"label": "desirable", "source": "label"}


def test_a_missing_checkpoint_is_one_line(tmp_path: Path) -> None:
    for weights in (None, str(tmp_path), str(tmp_path / "gone")):
        with pytest.raises(store.StoreError, match="score_quality.*VideoMAE fine-tuned") as error:
            ScoreQuality(weights=weights).load()
        assert "\n" not in str(error.value)


@paper
def test_a_wrong_checkpoint_is_one_line(tmp_path: Path, weights: str) -> None:
    with pytest.raises(store.StoreError, match="knows LABEL_0, LABEL_1, and so lacks desirable"):
        ScoreQuality(weights=str(tiny.videomae(tmp_path / "head", ["LABEL_0", "LABEL_1"]))).load()
    (tmp_path / "config.json").write_text('{"model_type": "videomae"}')
    with pytest.raises(store.StoreError, match="cannot be loaded") as error:
        ScoreQuality(weights=str(tmp_path)).load()
    assert "\n" not in str(error.value)
