"""`curation train-filter` from videos to weights that score_quality takes: the same after a kill, small or VideoMAE."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from curation.inputs.files import InputError
from curation.quality import train
from curation.quality.motionless import moved
from curation.stage import apply
from curation.stages.score_quality import CLASSES, ScoreQuality
from tests import tiny, videos
from tests.stages.windows import sampled


def film(path: Path, seed: int) -> None:
    """A disc that walks before a ground of its own colours, 2 s."""
    rng = np.random.default_rng(seed)
    ground = moved(cv2.resize(rng.integers(0, 255, (12, 20, 3), np.uint8), (400, 240)), (208, 112), [(1.3, 0.0, 0.0, 0.0)])[0]
    pictures = []
    for at in range(40):
        frame = ground.copy()
        cv2.circle(frame, (10 + 5 * at, 60 + seed), 20, (240, 40, 20 * seed), -1)
        cv2.circle(frame, (14 + 5 * at, 60 + seed), 8, (20, 40, 240), -1)
        pictures.append(frame)
    videos.write(pictures, path=path, rate=20)


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    (tmp_path / "clips").mkdir()
    for seed in range(3):
        film(tmp_path / f"clips/{seed}.mp4", seed)
    return tmp_path / "clips"


def command(clips: Path, output: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "curation.cli", "train-filter", "--input", str(clips), "--output", str(output), *more]


@pytest.mark.slow
@pytest.mark.long
def test_killed_and_begun_again_it_makes_the_same_weights(clips: Path, tmp_path: Path) -> None:
    (clips / "2.mp4").unlink()
    whole = subprocess.run(command(clips, tmp_path / "a"), capture_output=True, text=True, check=False)
    assert whole.returncode == 0, whole.stderr
    assert "screen_in_screen" in whole.stderr and "set score_quality.weights to it" in whole.stderr
    killed = subprocess.Popen(command(clips, tmp_path / "b"), stderr=subprocess.DEVNULL, start_new_session=True)
    while not list(tmp_path.glob("b/measures/*.npz")):
        time.sleep(0.1)
        assert killed.poll() is None
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    with pytest.raises(ProcessLookupError):
        for _ in range(200):
            os.killpg(killed.pid, 0)
            time.sleep(0.1)
    assert not (tmp_path / "b/model").exists()
    subprocess.run(command(clips, tmp_path / "b"), capture_output=True, check=True)
    for name in ("model/model.safetensors", "model/config.json", "report.json", "confusion.png", "examples.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    report = json.loads((tmp_path / "a/report.json").read_text())
    assert report["clips"] == {"used": 2} and report["videos"] == report["parts"] == 2
    assert sum(map(sum, report["unseen_ways"]["confusion"].values())) == 2 * (1 + len(CLASSES))
    stage = ScoreQuality(weights=str(tmp_path / "a/model"))
    stage.load()
    sample = apply(stage, [sampled("k", 1)])[0]
    assert set(sample.meta["score_quality"]["probabilities"]) == set(CLASSES)


@pytest.mark.slow
@pytest.mark.long
def test_a_videomae_goes_on_after_any_epoch(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers", reason="the train extra is not installed")
    from curation.quality import finetune

    init = tiny.videomae(tmp_path / "init", ["LABEL_0", "LABEL_1"])

    def fit(output: Path, epochs: int) -> None:
        monkeypatch.setattr(finetune, "EPOCHS", epochs)
        train.train(str(clips), output, None, init, None, None)

    fit(tmp_path / "whole", 2)
    fit(tmp_path / "parts", 1)
    once = (tmp_path / "parts/model/model.safetensors").read_bytes()
    fit(tmp_path / "parts", 2)
    twice = (tmp_path / "parts/model/model.safetensors").read_bytes()
    assert twice == (tmp_path / "whole/model/model.safetensors").read_bytes()
    report = json.loads((tmp_path / "parts/report.json").read_text())
    assert report["filter"] == "videomae" and len(report["epochs"]) == 2
    assert (once == twice) == (report["epochs"][0] <= report["epochs"][1]), "the better epoch is kept"
    stage = ScoreQuality(weights=str(tmp_path / "parts/model"))
    stage.load()
    rule = report["rule"]
    assert stage._rule.min_desirable == rule["min_desirable"] and list(stage._rule.rejects) == rule["rejects"]
    with pytest.raises(InputError, match="was begun with another checkpoint"):
        train.train(str(clips), tmp_path / "parts", None, tiny.videomae(tmp_path / "other", ["A", "B"]), None, None)


@pytest.mark.parametrize("more", [("--init", "nowhere"), ("--labels", "nowhere.csv"), ("--limit", "1")])
def test_what_is_wrong_is_one_line(clips: Path, tmp_path: Path, more: tuple[str, str]) -> None:
    done = subprocess.run(command(clips, tmp_path / "o", *more), capture_output=True, text=True, check=False)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("clips:")]
    assert done.returncode == 2 and len(lines) == 1 and "Traceback" not in done.stderr, done.stderr
