"""`curation sample`: from the command line's values to an mp4 and its contact sheet."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from curation.buckets import Bucket
from curation.media import video
from curation.media.picture import Painter
from curation.trainer import run
from curation.trainer.batch import Reference
from curation.trainer.errors import TrainerError
from curation.trainer.sample import of_clip, of_files, publish
from tests.trainer import made, recipes

pytestmark = pytest.mark.trainer

BUCKET = Bucket(**recipes.BUCKETS[0])


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> dict[str, Path]:
    """A trained model, its recipe and its shards."""
    folder = tmp_path_factory.mktemp("world")
    shards = recipes.shards(folder / "run")
    recipe = recipes.write(folder / "train.yaml", folder / "minilm", training={"steps": 2, "lr": 1e-2})
    run.train(str(recipe), [str(shards)], folder / "out", None)
    cv2.imwrite(str(folder / "dog.png"), made.cut_out((20, 200, 30)))
    cv2.imwrite(str(folder / "hat.jpg"), np.full((20, 30, 3), 70, np.uint8))
    return {"recipe": recipe, "out": folder / "out", "shards": shards, "folder": folder}


def sampled(world: dict[str, Path], output: Path, **knobs: Any) -> bytes:
    """The bytes of the video."""
    plain = {"prompt": None, "pairs": [], "background": None, "shards": None, "key": None, "seed": 0}
    run.sample(str(world["recipe"]), world["out"], output, **(plain | knobs))
    return output.read_bytes()


def test_a_prompt_with_pictures(world, tmp_path):
    pairs = [f"dog={world['folder'] / 'dog.png'}", f"hat={world['folder'] / 'hat.jpg'}"]
    knobs = {"prompt": "a dog in a hat", "pairs": pairs, "background": world["folder"] / "hat.jpg"}
    first = sampled(world, tmp_path / "a.mp4", **knobs)
    frames = [Painter()(frame) for frame in video.frames(str(tmp_path / "a.mp4"))]
    assert len(frames) == BUCKET.frames and frames[0].shape == (BUCKET.height, BUCKET.width, 3)
    assert cv2.imread(str(tmp_path / "a.png")).shape[0] > 2 * 144
    assert sampled(world, tmp_path / "b.mp4", **knobs) == first
    assert sampled(world, tmp_path / "c.mp4", **knobs, seed=1) != first
    assert sampled(world, tmp_path / "d.mp4", **(knobs | {"pairs": pairs[:1]})) != first


def test_a_clips_own(world, tmp_path):
    first = sampled(world, tmp_path / "a.mp4", shards=str(world["shards"]))
    assert sampled(world, tmp_path / "b.mp4", shards=str(world["shards"]), key="clip0-0") == first
    assert sampled(world, tmp_path / "c.mp4", shards=str(world["shards"]), prompt="a ball") != first


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({}, "say what is to be seen"),
        ({"prompt": "a dog", "pairs": ["dog"]}, "write WORD=PICTURE"),
        ({"prompt": "a dogma", "pairs": ["dog={dog}"]}, "the prompt has no word 'dog'"),
        ({"prompt": "a dog", "pairs": ["dog=/nowhere.png"]}, "/nowhere.png: No such file"),
        ({"prompt": "a dog", "pairs": ["dog={recipe}"]}, "not a colour picture"),
        ({"shards": "{shards}", "key": "nobody"}, "no clip 'nobody' in"),
        ({"shards": "/nowhere"}, "no shards at /nowhere"),
    ],
)
def test_what_cannot_be_sampled_is_one_line(world, tmp_path, knobs, said):
    there = {"dog": world["folder"] / "dog.png", "recipe": world["recipe"], "shards": world["shards"]}
    filled = {
        name: [v.format(**there) for v in value] if isinstance(value, list) else value.format(**there)
        for name, value in knobs.items()
    }
    with pytest.raises(TrainerError) as caught:
        sampled(world, tmp_path / "a.mp4", **filled)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.slow
def test_the_command_line_says_it_in_one_line(world, tmp_path):
    program = str(Path(sys.executable).with_name("curation"))
    command = [program, "sample", str(world["recipe"]), "--checkpoint", str(tmp_path), "--output", str(tmp_path / "a.gif")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.strip().endswith("the video's name ends in .mp4")
    command[-1] = str(tmp_path / "a.mp4")
    done = subprocess.run([*command, "--prompt", "a dog"], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "is no training run" in done.stderr


def test_references_of_files_know_their_words(world):
    found = of_files("a hot-dog and a dog", [f"dog={world['folder'] / 'dog.png'}"], world["folder"] / "hat.jpg")
    assert [(r.word, r.span, r.kind) for r in found] == [("dog", (16, 19), "subject"), ("", None, "background")]
    assert found[0].image[:, 0, 0].tolist() == [255, 255, 255], "transparent is white"


def test_a_clips_references_are_its_middle_ones(world):
    caption, references, true = of_clip(str(world["shards"]), "clip1-2", BUCKET, 24, slots=6)
    assert [r.word for r in references] == ["man", "dog", "ball", "street"]
    assert all(caption[slice(*r.span)] == r.word for r in references)
    assert true.shape == (BUCKET.frames, 3, BUCKET.height, BUCKET.width)
    _, fewer, none = of_clip(str(world["shards"]), None, Bucket(frames=101, width=64, height=32), 24, slots=2)
    assert [r.kind for r in fewer] == ["subject", "background"] and none is None


def test_a_sheet_of_anything(tmp_path):
    frames = torch.randint(0, 255, (1, 3, 16, 16), dtype=torch.uint8)
    odd = Reference(torch.zeros(3, 1, 900, dtype=torch.uint8), "größe 🐶", None, "object")
    publish(tmp_path / "x" / "one.mp4", frames, 24, "a caption " * 40, [odd])
    publish(tmp_path / "x" / "two.mp4", frames, 23.976, "", [])
    assert len(list((tmp_path / "x").iterdir())) == 4
