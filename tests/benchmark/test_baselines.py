"""`curation sample --baseline`: pictures of a benchmark's clips by somebody else's model, from tiny checkpoints in the store."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from curation.benchmark import baselines, sample
from curation.benchmark.errors import BenchmarkError
from curation.benchmark.metrics.pictures import padded_square
from curation.trainer.make import Asked
from tests import tiny
from tests.benchmark import folders

pytest.importorskip("diffusers", reason="the train extra is not installed")
pytestmark = pytest.mark.trainer


@pytest.fixture
def store_of_tiny_ones(tmp_path, monkeypatch) -> None:
    """A store whose entries are tiny checkpoints: a user's own table goes before the package's."""
    tiny.ip_adapter(tmp_path / "adapter", "face")
    places = {
        "stable-diffusion-1.5": tiny.stable_diffusion(tmp_path / "sd", inpainting=False),
        "ip-adapter": tiny.ip_adapter(tmp_path / "adapter"),
    }
    table = {}
    for name, folder in places.items():
        files = {
            str(file.relative_to(folder)): {"size": file.stat().st_size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
            for file in folder.rglob("*")
            if file.is_file()
        }
        table[name] = {"description": "tiny", "licence": "ours", "source": f"file:{folder}", "files": files}
    (tmp_path / "home").mkdir()
    (tmp_path / "home/store.yaml").write_text(yaml.safe_dump(table))
    monkeypatch.setenv("CURATION_HOME", str(tmp_path / "home"))


def made(output: Path, benchmark: Path, background: bool = True, **asked: object) -> list[str]:
    by = Asked(**{"size": "64x64", **asked})
    sample.sample(None, None, output, benchmark, "subject", "single", background, "ip-adapter", by)
    return sorted(path.name for path in output.iterdir())


def test_one_picture_a_clip(store_of_tiny_ones, one_thread, tmp_path):
    folders.clip(tmp_path / "benchmark", "a")
    assert made(tmp_path / "one", tmp_path / "benchmark") == ["a.png", "sampling.json"]
    first = cv2.imread(str(tmp_path / "one/a.png"))
    assert first.shape == (64, 64, 3) and first.std() > 5
    made(tmp_path / "bare", tmp_path / "benchmark", background=False)
    assert np.array_equal(first, cv2.imread(str(tmp_path / "bare/a.png"))), "it knows no background"
    folders.clip(tmp_path / "benchmark", "b")
    kept = (tmp_path / "one/a.png").stat().st_mtime_ns
    assert made(tmp_path / "one", tmp_path / "benchmark") == ["a.png", "b.png", "sampling.json"]
    assert (tmp_path / "one/a.png").stat().st_mtime_ns == kept
    assert not np.array_equal(first, cv2.imread(str(tmp_path / "one/b.png"))), "its noise is its own"
    told = json.loads((tmp_path / "one/sampling.json").read_text())
    assert told["by"]["baseline"] == "ip-adapter" and set(told["by"]["models"]) == set(baselines.MODELS)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"frames": 17}, "makes pictures, of one frame"),
        ({"size": "63x64"}, "multiples of 8"),
        ({"size": "big"}, "multiples of 8"),
    ],
)
def test_what_it_cannot_make_is_one_line(tmp_path, asked, said):
    folders.clip(tmp_path / "benchmark", "a")
    with pytest.raises(BenchmarkError, match=said):
        made(tmp_path / "x", tmp_path / "benchmark", **asked)


def test_nothing_of_a_reference_is_cut_off():
    wide = np.zeros((10, 30, 3), np.uint8)
    square = padded_square(wide)
    assert (
        square.shape == (30, 30, 3) and (square[10:20] == 0).all() and (square[:10] == 255).all() and (square[20:] == 255).all()
    )
