"""`curation sample --benchmark`: which pictures a clip's video is made from, and that each clip gets one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from curation import cli
from curation.benchmark import sample
from curation.benchmark.errors import BenchmarkError
from curation.benchmark.folder import cases
from curation.benchmark.given import given
from curation.buckets import Bucket
from curation.media import video
from curation.trainer import fill, run
from curation.trainer.make import Asked
from tests.benchmark import folders
from tests.trainer import recipes

pytestmark = pytest.mark.trainer

BUCKET = Bucket(**recipes.BUCKETS[0])


@pytest.fixture(scope="module")
def world(tmp_path_factory, one_thread) -> dict[str, Path]:
    """A trained model, its recipe, and a benchmark of four clips: two of subject mode, three of face mode."""
    folder = tmp_path_factory.mktemp("world")
    shards = recipes.shards(folder / "run")
    recipe = recipes.write(folder / "train.yaml", folder / "minilm", training={"steps": 2, "lr": 1e-2})
    run.train(str(recipe), [str(shards)], folder / "out", None)
    for key, facts in {"a": {}, "b": {"background": False}, "c": {"subjects": 2}, "d": {"subjects": 2, "faces": 2}}.items():
        folders.clip(folder / "benchmark", key, **facts)
    return {"recipe": recipe, "out": folder / "out", "benchmark": folder / "benchmark"}


def sampled(world: dict[str, Path], output: Path, **knobs: Any) -> list[str]:
    """Names of what was made."""
    plain = {"benchmark": world["benchmark"], "mode": "subject", "references": "single", "background": False, "baseline": None}
    given = {"name": str(world["recipe"]), "weights": world["out"], "asked": Asked(), **plain, **knobs}
    sample.sample(output=output, **given)
    return sorted(path.name for path in output.glob("*.*"))


def test_the_pictures_are_those_of_the_protocol(world):
    """The middle one of the sorted list or all, cut-outs or faces, of the one subject; on white; the background with its word."""
    case, other = cases(world["benchmark"], "subject")
    assert [path.name for path, *_ in given(case, "subject", "single", False)] == ["man.frame2.png"]
    assert [path.name for path, *_ in given(case, "subject", "all", True)] == [
        *(f"man.frame{n}.png" for n in (1, 2, 3)),
        "background.jpg",
    ]
    assert [path.name for path, *_ in given(case, "face", "single", False)] == ["man.face.frame2.png"]
    assert len(given(other, "subject", "all", True)) == 3, "it has no background"
    made = sample.wanted(case, given(case, "subject", "single", True), BUCKET, 0, 24.0)
    man, street = made.references
    assert (man.word, man.kind, street.word, street.kind) == ("man", "subject", "street", "background")
    assert [made.prompt[slice(*r.span)] for r in made.references] == ["man", "street"]
    assert man.image[:, 0, 0].tolist() == [255, 255, 255] and man.image[:, 24, 24].tolist() == list(folders.COLOURS[1])
    assert made.true.shape == (BUCKET.frames, 3, BUCKET.height, BUCKET.width)


def test_a_word_is_found_where_it_stands_by_itself():
    assert sample.bound("a hot-dog and a dog", "dog") == (16, 19)
    assert sample.bound("two dogs", "dog") == (4, 7), "the tags are parts of the caption, words or not"
    assert sample.bound("a cat", "dog") is None and sample.bound("a cat", "") is None


def test_every_clip_of_a_mode_gets_its_video(world, tmp_path):
    assert sampled(world, tmp_path / "s", asked=Asked(batch=2, sheets=True), background=True) == [
        "a.mp4",
        "b.mp4",
        "sampling.json",
    ]
    assert sorted(path.name for path in (tmp_path / "s/sheets").iterdir()) == ["a.png", "b.png"]
    assert len(list(video.frames(str(tmp_path / "s/a.mp4")))) == BUCKET.frames
    told = json.loads((tmp_path / "s/sampling.json").read_text())["of"]
    assert told["a"]["references"].startswith("man ") and ", street " in told["a"]["references"]
    assert "street" not in told["b"]["references"]
    assert sampled(world, tmp_path / "f", mode="face", references="all") == ["a.mp4", "b.mp4", "c.mp4", "sampling.json"]
    with pytest.raises(fill.TrainerError, match="of.a.references: man [0-9a-f]{12}, street [0-9a-f]{12} → man [0-9a-f]{12}"):
        sampled(world, tmp_path / "s")


def test_the_command_line_says_all_of_it(world, tmp_path):
    words = [
        "sample",
        world["recipe"],
        "--checkpoint",
        world["out"],
        "--benchmark",
        world["benchmark"],
        "--output",
        tmp_path / "x",
    ]
    words += ["--mode", "face", "--references", "all", "--background", "--batch", 2, "--frames", 9, "--size", "32x48"]
    words += ["--fps", 10, "--seed", 5, "--sheets"]
    done = CliRunner().invoke(cli.app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    told = json.loads((tmp_path / "x/sampling.json").read_text())
    assert told["by"]["fps"] == 10 and set(told["of"]) == {"a", "b", "c"} and (tmp_path / "x/sheets/c.png").exists()
    assert (told["of"]["a"]["seed"], told["of"]["a"]["shape"]) == ("5", "9x32x48")
    assert [one.split()[0] for one in told["of"]["a"]["references"].split(", ")] == ["man", "man", "man", "street"]


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"benchmark": None, "baseline": "ip-adapter"}, "--benchmark DIR"),
        ({"name": None}, "a training recipe and --checkpoint, or --baseline"),
        ({"baseline": "elite"}, "no baseline 'elite'"),
        ({"output": Path("/tmp/x.mp4")}, "go into a folder"),
        ({"benchmark": Path("/nowhere")}, "/nowhere: no such folder"),
    ],
)
def test_what_cannot_be_made_is_one_line(world, tmp_path, knobs, said):
    with pytest.raises(BenchmarkError, match=said) as caught:
        sampled(world, **{"output": tmp_path / "x", **knobs})
    assert "\n" not in str(caught.value)


def test_a_spoilt_picture_is_named(world, tmp_path):
    place = folders.clip(tmp_path / "benchmark", "a")
    (place / "man.frame2.png").write_bytes(b"no picture")
    with pytest.raises(BenchmarkError, match=r"a/man.frame2.png: not a colour picture"):
        sampled(world, tmp_path / "x", benchmark=tmp_path / "benchmark")


def test_more_references_than_slots_are_refused(world, tmp_path):
    few = recipes.write(tmp_path / "few.yaml", tmp_path / "minilm", model={"slots": 3}, references={"slots": 3})
    with pytest.raises(BenchmarkError, match="up to 4 references, but .* has model.slots: 3"):
        sampled(world, tmp_path / "x", name=str(few), references="all", background=True)


def test_seeds_are_by_key(world):
    """What a clip's noise is drawn for does not tell modes and references apart, and tells clips apart."""
    a, b = (sample.wanted(case, [], BUCKET, 0, None) for case in cases(world["benchmark"], "subject"))
    assert (a.key, b.key) == ("a", "b")
    assert np.array_equal(a.bucket, b.bucket)
