"""The CPU profile with the real networks, on the sample videos; the papers' stands in `test_protocol.py`."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from curation.benchmark.case import Case
from curation.benchmark.errors import BenchmarkError
from curation.benchmark.metrics import Metric, Score, Video
from curation.benchmark.metrics.dync_d import MOVES
from curation.benchmark.profiles import FARNEBACK_MOVES, models, profile
from curation.store import store
from tests.models.frames import at

COLUMNS = (
    *("text_s", "view_sim_effnet", "subject_sim_effnet", "face_sim_dlib", "motion_farneback", "copy_paste_effnet", "pose_spread"),
)


@pytest.fixture(scope="module")
def metrics() -> list[Metric]:
    return profile("cpu", "cpu")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """The man in the car, cut out roughly: three views, of which the middle one is unlike the others."""
    folder = tmp_path_factory.mktemp("benchmark") / "man"
    folder.mkdir()
    shown = at("carphone_pristine.mp4", [60, 0, 110])
    cutouts, faces = [], []
    for number, frame in enumerate(shown, 1):
        _write(folder / f"frame{number}.jpg", frame)
        alpha = np.zeros((*frame.shape[:2], 1), np.uint8)
        cv2.ellipse(
            alpha, (frame.shape[1] // 2, frame.shape[0] * 2 // 3), (frame.shape[1] // 3, frame.shape[0] // 2), 0, 0, 360, 255, -1
        )
        cutouts.append(_write(folder / f"man.frame{number}.png", np.concatenate([frame, alpha], 2)))
        faces.append(_write(folder / f"man.face.frame{number}.png", frame[10:105, 55:135]))
    return Case(
        folder,
        "man",
        "a man in a car",
        ("man",),
        ("happiness",),
        "",
        ("man",),
        {"man": tuple(cutouts), "happiness": (cutouts[0],)},
        {"man": tuple(faces)},
    )


def _write(file: Path, picture: np.ndarray) -> Path:
    code = cv2.COLOR_RGB2BGR if picture.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
    cv2.imwrite(str(file), cv2.cvtColor(picture, code))
    return file


def scores(metrics: list[Metric], clip: Case, video: Video) -> dict[str, Score]:
    found: dict[str, Score] = {}
    for metric in metrics:
        own = metric.score(video, clip, metric.truth(clip))
        assert tuple(own) == metric.columns
        found |= own
    return found


def test_the_true_video_is_liker_than_another_and_noise_is_nobody(metrics: list[Metric], clip: Case) -> None:
    true = scores(metrics, clip, Video(np.stack(at("carphone_pristine.mp4", [0, 8, 16])), 8.0))
    other = scores(metrics, clip, Video(np.stack(at("bikes.mp4", [0, 8, 16])), 8.0))
    grain = np.random.default_rng(0).integers(0, 256, (2, 144, 176, 3), dtype=np.uint8)
    noise = scores(metrics, clip, Video(grain, 8.0))
    assert tuple(true) == COLUMNS and true["text_s"] == "not_available"
    for column in COLUMNS[1:4]:
        assert true[column] > other[column] + 0.2 and true[column] > noise[column] + 0.2, column
    assert noise["subject_sim_effnet"] == 0 == noise["face_sim_dlib"]
    assert true["subject_sim_effnet"] > 0.5, "a word that is no thing is not asked for"
    assert noise["pose_spread"] == "no_subject" and 0 < true["pose_spread"] < 0.2


def test_a_picture_that_stands_still_does_not_move(metrics: list[Metric], clip: Case) -> None:
    still = scores(metrics, clip, Video(np.stack([clip.frames[1]] * 3), 8.0))
    assert still["motion_farneback"] == 0 and still["pose_spread"] == pytest.approx(0, abs=1e-9)


def test_the_given_view_pasted_is_caught(metrics: list[Metric], clip: Case) -> None:
    pasted = scores(metrics, clip, Video(np.stack([clip.frames[1]] * 2), 8.0))["copy_paste_effnet"]
    another = scores(metrics, clip, Video(np.stack([clip.frames[2]] * 2), 8.0))["copy_paste_effnet"]
    assert pasted > another + 0.3, "cut out roughly, so neither is 1 nor below 0"
    assert with_all_references(clip) == "all_references"


def with_all_references(clip: Case) -> Score:
    (metric,) = [m for m in profile("cpu", "cpu", "all") if m.columns == ("copy_paste_effnet",)]
    return metric.score(Video(np.stack([clip.frames[1]] * 2), 8.0), clip, metric.truth(clip))["copy_paste_effnet"]


def test_a_profile_says_what_it_fetches() -> None:
    for name in ("papers", "cpu", "open"):
        assert set(models(name)) <= set(store.names())
    assert all(store.entry(name).source.startswith(("pypi:", "npm:")) for name in models("cpu"))
    with pytest.raises(BenchmarkError, match="no profile 'gpu'; known: papers, cpu, open"):
        models("gpu")


def test_metrics_name_models_of_their_profile(metrics: list[Metric]) -> None:
    assert {model for metric in metrics for model in metric.models} == set(models("cpu"))
    assert FARNEBACK_MOVES == MOVES
