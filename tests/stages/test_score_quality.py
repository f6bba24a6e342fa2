"""The quality filter: which frames it sees, what it records, whom it rejects and why."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from curation import recipe
from curation.inputs.open import open_input
from curation.ledger import Unit
from curation.media import video
from curation.media.members import to_jpeg
from curation.quality.motionless import moved
from curation.run.plan import make_plan
from curation.sample import Sample
from curation.stage import Window, apply
from curation.stages.score_quality import CLASSES, SMALL, ScoreQuality, class_of
from curation.storage import Storage
from curation.store import store
from tests import tiny
from tests.stages.windows import sampled


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny random checkpoint that bears Panda-70M's label names."""
    pytest.importorskip("transformers", reason="the paper extra is not installed")
    return str(tiny.videomae(tmp_path_factory.mktemp("videomae"), tiny.PANDA))


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
    meta: dict[str, dict[str, Any]] = {"source": {}, "sample_frames": {"window": window}}
    sample = scored([Sample("k", files, meta)], weights=weights, min_desirable=0.0)[0]
    frames = sample.meta["score_quality"]["frames"]
    assert len(frames) == 16 and frames[0] == 0 and frames[-1] == window[-1] * (count > 1)
    steps = np.diff(frames) / 3
    assert steps.min() >= 0 and steps.max() - steps.min() <= 1
    if count >= 16:
        assert len(set(frames)) == 16


@paper
def test_an_empty_window_is_said(weights: str) -> None:
    sample = scored([Sample("k", {}, {"source": {}, "sample_frames": {"window": []}})], weights=weights)[0]
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
    assert ScoreQuality(labels_from="input").reads == ("caption",)
    good, bad, none = scored([good, bad, none], labels_from="input")
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


@pytest.fixture(scope="module")
def still() -> Sample:
    """A pan over one picture, as sample_frames shows it."""
    rng = np.random.default_rng(0)
    layers = [cv2.resize(rng.normal(0, 1, (n, 2 * n, 3)).astype(np.float32), (900, 500)) for n in (5, 20, 80)]
    picture = np.clip(128 + 35 * sum(layers), 0, 255).astype(np.uint8)
    clip = moved(picture, (640, 360), [(1.2, -0.8 + at / 10, 0.0, 0.0) for at in range(16)])
    files = {f"_window.{at:02d}.jpg": to_jpeg(frame, 92) for at, frame in enumerate(clip)}
    return Sample("still", files, {"source": {}, "sample_frames": {"window": list(range(16))}})


def again(sample: Sample) -> Sample:
    return Sample(sample.key, dict(sample.files), dict(sample.meta))


def test_the_filter_that_comes_along(still: Sample) -> None:
    """It needs no weights and no label, says how sure it is and what it goes by, and each clip alone as among others."""
    alone = scored([again(still)])[0]
    meta = alone.meta["score_quality"]
    assert (alone.verdict.status, alone.verdict.reason) == ("rejected", "still_foreground_image")
    assert meta["label"] == "still_foreground_image" and meta["source"] == "model" and meta["frames"] == list(range(16))
    assert sum(meta["probabilities"].values()) == pytest.approx(1, abs=3e-4) and set(meta["probabilities"]) == set(CLASSES)
    assert meta["residual_motion"] < 0.05 and meta["static_border"] == 0.0 and meta["text_share"] < 0.05
    among = scored([sampled("a", 1), again(still), sampled("b", 2)])[1]
    assert among.meta["score_quality"] == meta


def test_who_rejects_is_a_knob(still: Sample) -> None:
    kept = scored([again(still)], rejects=["computer_screen_recording"])[0]
    assert kept.alive and kept.meta["score_quality"]["label"] == "still_foreground_image"
    assert scored([again(still)], min_desirable=0.0)[0].alive


def test_who_is_judged_while_planning_is_not_judged_again(still: Sample) -> None:
    planned = again(still)
    planned.meta["source"] = {"desirable_filtering": "desirable"}
    planned = scored([planned], labels_from="input")[0]
    judged = scored([planned], labels_from="auto")[0]
    assert judged.alive and judged.meta["score_quality"] == {"label": "desirable", "source": "label"}


def test_a_batch_that_broke_off_is_judged_again(still: Sample) -> None:
    """What was noted of a clip before another one of its batch broke is not taken for a verdict."""
    begun = again(still)
    begun.meta["score_quality"] = {"label": "desirable", "source": "model"}
    assert scored([begun])[0].verdict.reason == "still_foreground_image"


def test_it_stands_under_both_heads(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    heads = "plan:\n  - score_quality: {labels_from: input}\nclips:\n  - split_shots\n  - sample_frames\n  - score_quality\n"
    file.write_text(heads)
    own = recipe.load(file)
    assert own.clips[1].wanted == Window(16, 640) and own.clips[2].models() == ("efficientnet-lite2",)  # type: ignore[attr-defined]
    assert "score_quality.weights" in own.fingerprint()["models"], "the filter that comes along is part of what decides bytes"
    file.write_text(heads.replace("score_quality", "sample_frames", 1).replace("{labels_from: input}", "{}"))
    with pytest.raises(recipe.RecipeError):
        recipe.load(file)


def test_a_small_filter_that_is_broken_is_one_line(tmp_path: Path) -> None:
    shutil.copytree(SMALL, tmp_path / "f")
    (tmp_path / "f/model.safetensors").write_bytes(b"broken")
    with pytest.raises(store.StoreError, match="cannot be loaded") as error:
        ScoreQuality(weights=str(tmp_path / "f")).load()
    assert "\n" not in str(error.value)


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
    for weights in (str(tmp_path), str(tmp_path / "gone")):
        with pytest.raises(store.StoreError, match="score_quality.*VideoMAE fine-tuned") as error:
            ScoreQuality(weights=weights).load()
        assert "\n" not in str(error.value)


@paper
def test_a_wrong_checkpoint_is_one_line(tmp_path: Path, weights: str) -> None:
    with pytest.raises(store.StoreError, match="knows label_0, label_1, and so lacks desirable"):
        ScoreQuality(weights=str(tiny.videomae(tmp_path / "head", ["LABEL_0", "LABEL_1"]))).load()
    (tmp_path / "config.json").write_text('{"model_type": "videomae"}')
    with pytest.raises(store.StoreError, match="cannot be loaded") as error:
        ScoreQuality(weights=str(tmp_path)).load()
    assert "\n" not in str(error.value)
