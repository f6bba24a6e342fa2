"""`curation sample`: from the command line's values to an mp4 and its contact sheet, to folders and grids."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml

from curation.buckets import Bucket
from curation.media import video
from curation.media.picture import Painter
from curation.trainer import checkpoint, fill, make, run, sheet
from curation.trainer import config as configs
from curation.trainer import sample as sampling
from curation.trainer.batch import Reference
from curation.trainer.errors import TrainerError
from curation.trainer.make import Asked
from curation.trainer.sample import Wanted, of_clip, of_files
from curation.trainer.sheet import publish
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
    asked = Asked(**{name: knobs.pop(name) for name in ("seed", "frames", "size", "fps") if name in knobs})
    plain: dict[str, Any] = {"prompt": None, "references": [], "scene": None, "shards": None, "key": None}
    make.sample(str(world["recipe"]), world["out"], output, make.one(**(plain | knobs)), asked)
    return output.read_bytes()


def test_a_prompt_with_pictures(world, tmp_path):
    pairs = [f"dog={world['folder'] / 'dog.png'}", f"hat={world['folder'] / 'hat.jpg'}"]
    knobs = {"prompt": "a dog in a hat", "references": pairs, "scene": str(world["folder"] / "hat.jpg")}
    first = sampled(world, tmp_path / "a.mp4", **knobs)
    frames = [Painter()(frame) for frame in video.frames(str(tmp_path / "a.mp4"))]
    assert len(frames) == BUCKET.frames and frames[0].shape == (BUCKET.height, BUCKET.width, 3)
    assert cv2.imread(str(tmp_path / "a.png")).shape[0] > 2 * 144
    assert sampled(world, tmp_path / "b.mp4", **knobs) == first
    assert sampled(world, tmp_path / "c.mp4", **knobs, seed=1) != first
    assert sampled(world, tmp_path / "d.mp4", **(knobs | {"references": pairs[:1]})) != first


def test_a_clips_own(world, tmp_path):
    first = sampled(world, tmp_path / "a.mp4", shards=str(world["shards"]))
    assert sampled(world, tmp_path / "b.mp4", shards=str(world["shards"]), key="clip0-0") == first
    assert sampled(world, tmp_path / "c.mp4", shards=str(world["shards"]), prompt="a ball") != first


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({}, "say what is to be seen"),
        ({"prompt": "a dog", "references": ["dog"]}, "write WORD=PICTURE"),
        ({"prompt": "a dogma", "references": ["dog={dog}"]}, "the prompt has no word 'dog'"),
        ({"prompt": "a dog", "references": ["dog=/nowhere.png"]}, "/nowhere.png: No such file"),
        ({"prompt": "a dog", "references": ["dog={recipe}"]}, "not a colour picture"),
        ({"shards": "{shards}", "key": "nobody"}, "no clip 'nobody' in"),
        ({"shards": "/nowhere"}, "no shards at /nowhere"),
        ({"prompt": "a dog", "scene": "park={dog}"}, "the prompt has no word 'park'"),
        ({"prompt": "a dog", "references": ["dog={dog}"] * 7}, "7 references, but model.slots: 6"),
        ({"prompt": "a dog", "frames": 6}, "6 frames are not 1 more than a multiple of 4; 5 are"),
        ({"prompt": "a dog", "size": "64"}, "--size 64: write WIDTHxHEIGHT"),
    ],
)
def test_what_cannot_be_sampled_is_one_line(world, tmp_path, knobs, said):
    there = {"dog": world["folder"] / "dog.png", "recipe": world["recipe"], "shards": world["shards"]}
    filled = {
        name: [v.format(**there) for v in value] if isinstance(value, list) else str(value).format(**there)
        for name, value in knobs.items()
    }
    filled |= {name: value for name, value in knobs.items() if isinstance(value, int)}
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
    dog, hat = world["folder"] / "dog.png", world["folder"] / "hat.jpg"
    found = of_files("a hot-dog and a dog", [("dog", dog)], ("", hat))
    assert [(r.word, r.span, r.kind) for r in found] == [("dog", (16, 19), "subject"), ("", None, "background")]
    (scene,) = of_files("a dog in a park", [], sampling.pair("--scene", f"park={hat}", wordless=True))
    assert (scene.word, scene.span, scene.kind) == ("park", (11, 15), "background")
    assert found[0].image[:, 0, 0].tolist() == [255, 255, 255], "transparent is white"


def test_a_clips_references_are_its_middle_ones(world):
    caption, references, true = of_clip(str(world["shards"]), "clip1-2", BUCKET, 24, slots=6)
    assert [r.word for r in references] == ["man", "dog", "ball", "street"]
    assert all(caption[slice(*r.span)] == r.word for r in references)
    assert true.shape == (BUCKET.frames, 3, BUCKET.height, BUCKET.width)
    _, fewer, none = of_clip(str(world["shards"]), None, Bucket(frames=101, width=64, height=32), 24, slots=2)
    assert [r.kind for r in fewer] == ["subject", "background"] and none is None


def test_a_long_prompt_is_told_whole(tmp_path):
    cell = np.zeros((32, 64, 3), np.uint8)
    short, long = (sheet.grid(text, [None], [None], [[cell]]) for text in ("a dog", "a dog " * 8))
    assert short.shape == (24 + 40, 72, 3) and long.shape[1] == 72
    lines = (long.shape[0] - 40) // 24
    assert lines >= 3 and all((long[24 * line : 24 * line + 24] < 128).any() for line in range(lines))


def test_a_sheet_of_anything(tmp_path):
    frames = torch.randint(0, 255, (1, 3, 16, 16), dtype=torch.uint8)
    odd = Reference(torch.zeros(3, 1, 900, dtype=torch.uint8), "größe 🐶", None, "object")
    publish(tmp_path / "x" / "one.mp4", frames, 24, "a caption " * 40, [odd])
    publish(tmp_path / "x" / "two.mp4", frames, 23.976, "", [])
    assert len(list((tmp_path / "x").iterdir())) == 4


def wanted(world: dict[str, Path], bucket: Bucket = BUCKET) -> list[Wanted]:
    """Prompts of other lengths with other numbers of references."""
    dog, hat = of_files("a dog in a hat", [("dog", world["folder"] / "dog.png"), ("hat", world["folder"] / "hat.jpg")], None)
    told = [("a dog in a hat", [dog, hat]), ("a dog", [dog]), ("nothing at all, in a long and rainy night", [])]
    return [Wanted(f"v{i}", prompt, found, bucket, 3, key=f"v{i}") for i, (prompt, found) in enumerate(told)]


def test_a_video_does_not_depend_on_those_beside_it(world):
    """Batches, order, one's own: the same noise, by key and seed, and the same pixels but for rounding."""
    config = configs.load(world["recipe"])
    makes = sampling.maker(config, world["out"])
    draw = torch.Generator().manual_seed(1)
    for parameter in makes.model.parameters():  # gates start at zero, and two steps open them hardly
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=draw)
    all_three = wanted(world)
    together, backwards = makes(all_three), makes(all_three[::-1])[::-1]
    alone = [makes([one])[0] for one in all_three]
    for a, b, c in zip(together, backwards, alone, strict=True):
        assert a.shape == (BUCKET.frames, 3, BUCKET.height, BUCKET.width)
        assert (a.int() - c.int()).abs().max() <= 1 and (a.int() - b.int()).abs().max() <= 1
    assert not together[0].equal(together[1])
    first = all_three[0]
    for other in (replace(first, seed=4), replace(first, key="v9"), replace(first, references=first.references[:1])):
        assert (makes([other])[0].int() - alone[0].int()).abs().max() > 2


def how(world: dict[str, Path], **asked: Any) -> fill.How:
    return make.how(configs.load(world["recipe"]), world["out"], Asked(**asked))


def test_a_folder_is_gone_on_with_and_processes_share_it(world, tmp_path, monkeypatch):
    """Two processes make what one does; what is there is left alone; a part that was lost is made again, to the same bytes."""
    jobs = [make.job(one) for one in wanted(world)]
    one, two = tmp_path / "one", tmp_path / "two"
    fill.fill(jobs, how(world, batch=2), one)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for number in "01":
        monkeypatch.setenv("RANK", number)
        fill.fill(jobs, how(world), two)
        assert len(list(two.glob("*.mp4"))) == (2 if number == "0" else 3)
    monkeypatch.undo()
    names = sorted(path.name for path in one.iterdir())
    assert names == ["sampling.json", "v0.mp4", "v1.mp4", "v2.mp4"] == sorted(path.name for path in two.iterdir())
    first = {name: (two / name).read_bytes() for name in names}
    (two / "v1.mp4").unlink()
    (two / "v2.mp4").write_bytes(b"kept")
    fill.fill(jobs, how(world, sheets=True), two)
    assert (two / "v1.mp4").read_bytes() == first["v1.mp4"] and (two / "v2.mp4").read_bytes() == b"kept"
    assert [path.name for path in (two / "sheets").iterdir()] == ["v1.png"]


def test_what_was_made_otherwise_is_refused_in_a_line(world, tmp_path):
    jobs = [make.job(one) for one in wanted(world)]
    fill.fill(jobs[:1], how(world), tmp_path / "a")
    fill.fill(jobs[:2], how(world, batch=8), tmp_path / "a")  # more of them are welcome
    knobs = yaml.safe_load(world["recipe"].read_text())
    more = world["recipe"].with_name("more.yaml")
    more.write_text(yaml.safe_dump(knobs | {"sampling": {"steps": 3}}))
    changed = make.how(configs.load(more), world["out"], Asked())
    for bad, by, said in [
        (jobs, changed, "by.sampling.steps: 2 → 3"),
        (jobs, how(world, fps=12), "by.fps: 24.0 → 12"),
        (
            [make.job(one) for one in wanted(world, Bucket(frames=9, width=32, height=32))],
            how(world),
            "of.v0.shape: 5x64x32 → 9x32x32",
        ),
    ]:
        with pytest.raises(TrainerError) as caught:
            fill.fill(bad, by, tmp_path / "a")
        assert said in str(caught.value) and "\n" not in str(caught.value)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "v0.mp4").write_bytes(b"")
    with pytest.raises(TrainerError, match="holds v0.mp4, and no sampling.json"):
        fill.fill(jobs, how(world), tmp_path / "b")


def test_other_weights_are_another_model(world, tmp_path):
    moved = checkpoint.weights(world["out"]).path
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes((moved / checkpoint.WEIGHTS if moved.is_dir() else moved).read_bytes())
    config = configs.load(world["recipe"])
    assert make.how(config, copy, Asked()).made_by == how(world).made_by, "wherever they lie"
    spoilt = bytearray(copy.read_bytes())
    spoilt[-1] ^= 1
    copy.write_bytes(bytes(spoilt))
    assert make.how(config, copy, Asked()).made_by["checkpoint"] != how(world).made_by["checkpoint"]


def test_any_shape_and_rate(world, tmp_path):
    sampled(world, tmp_path / "a.mp4", prompt="a dog", frames=13, size="48x32", fps=12.0)
    found = list(video.frames(str(tmp_path / "a.mp4")))
    assert len(found) == 13 and Painter()(found[0]).shape == (32, 48, 3)
    assert found[1].time - found[0].time == pytest.approx(1 / 12, abs=1e-6)


def test_a_list_of_prompts(world, tmp_path):
    file = world["folder"] / "prompts.yaml"
    file.write_text(
        "[{prompt: A dog, references: {dog: dog.png}, background: {dog: hat.jpg}}, {prompt: Nothing, bucket: 9x32x32}]"
    )
    make.sample(str(world["recipe"]), world["out"], tmp_path / "p", make.One(), Asked(batch=4), prompts=file)
    told = json.loads((tmp_path / "p" / fill.CLAIM).read_text())
    assert {name: of["shape"] for name, of in told["of"].items()} == {"00-a-dog": "5x64x32", "01-nothing": "9x32x32"}
    assert sorted(path.stem for path in (tmp_path / "p").glob("*.mp4")) == ["00-a-dog", "01-nothing"]


def test_a_grid_of_one_prompt_with_other_references(world, tmp_path):
    dog, hat = world["folder"] / "dog.png", world["folder"] / "hat.jpg"
    wanted = make.one("a dog in a hat", [f"dog={dog}", f"dog={hat}", f"hat={hat}"], str(hat), None, None)
    make.sample(str(world["recipe"]), world["out"], tmp_path / "g", wanted, Asked(), grid=tmp_path / "g.png")
    told = json.loads((tmp_path / "g" / fill.CLAIM).read_text())["of"]
    words = {name: [one.split()[0] for one in of["references"].split(", ")] for name, of in told.items()}
    assert words == {"row0-column0": ["hat", "background"], **{f"row0-column{i}": ["dog", "hat", "background"] for i in (1, 2)}}
    drawn = cv2.imread(str(tmp_path / "g.png"))
    assert drawn.shape == (24 + 2 * (BUCKET.height + 4) + 4, 3 * (BUCKET.width + 4) + 4, 3)
    both = make.one("a dog in a hat", [f"dog={dog}", f"hat={hat}"], None, None, None)
    make.sample(str(world["recipe"]), world["out"], tmp_path / "h", both, Asked(), grid=tmp_path / "h.png")
    assert len(list((tmp_path / "h").glob("*.mp4"))) == 4, "with and without each"
    drawn = cv2.imread(str(tmp_path / "h.png"))
    assert drawn.shape == (24 + 3 * (BUCKET.height + 4) + 4, BUCKET.height + 4 + 2 * (BUCKET.width + 4) + 4, 3)
    without = cv2.imread(str(tmp_path / "g.png"))
    assert not (without[60:92, 4:68] == without[60:92, 72:136]).all()


@pytest.mark.parametrize(
    ("knobs", "grid", "said"),
    [
        ({"prompt": "a dog", "references": []}, "g.png", "none is given"),
        ({"prompt": None, "references": []}, "g.png", "a grid is of one prompt"),
        ({"prompt": "a dog", "references": ["dog={dog}"]}, "g.jpg", "ends in .png"),
        ({"prompt": "a b c", "references": [f"{word}={{dog}}" for word in "aabbcc"]}, "g.png", "a, b, c have several"),
    ],
)
def test_what_is_no_grid_is_one_line(world, tmp_path, knobs, grid, said):
    references = [text.format(dog=world["folder"] / "dog.png") for text in knobs["references"]]
    wanted = make.one(knobs["prompt"], references, None, None, None)
    with pytest.raises(TrainerError, match=said):
        make.sample(str(world["recipe"]), world["out"], tmp_path / "g", wanted, Asked(), grid=tmp_path / grid)
