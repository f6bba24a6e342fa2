from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from curation.trainer import clips, flow, run
from curation.trainer import config as configs
from curation.trainer.conditions import Parts
from curation.trainer.distributed import Process
from curation.trainer.errors import TrainerError
from curation.trainer.model import DiT
from curation.trainer.seeds import generator
from curation.trainer.validate import Validator, prompts
from tests.trainer import made, recipes

pytestmark = pytest.mark.trainer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of twelve clips of as many sources, and pictures."""
    folder = tmp_path_factory.mktemp("validate")
    samples = [made.sample(f"clip-{i}", subjects=2) for i in range(12)]
    for number, one in enumerate(samples):
        one.meta["source"]["video"] = f"video{number}"
    made.write(folder / "run", [samples])
    cv2.imwrite(str(folder / "dog.png"), made.cut_out((20, 200, 30)))
    cv2.imwrite(str(folder / "street.jpg"), np.full((20, 30, 3), 70, np.uint8))
    return folder


def recipe(folder: Path, name: str, **sections: Any) -> Path:
    return recipes.write(folder / f"{name}.yaml", folder / "minilm", **sections)


def validator(
    folder: Path, name: str, rank: int = 0, world: int = 1, measures: Any = (), **sections: Any
) -> tuple[Validator, DiT]:
    sections = {"data": {"holdout": 0.4, **sections.pop("data", {})}, **sections}
    config = configs.load(recipe(folder, name, **sections))
    data = config.data
    chosen, held = clips.read([clips.Run(str(folder / "run"))], data)
    parts = Parts(config, torch.device("cpu"))
    model = DiT(parts.size).eval()
    draw = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=draw)
    process = Process(rank, world, torch.device("cpu"))
    return Validator(config, parts, process, chosen, held, lambda b: model.tokens(parts.shape(b)), measures), model


def losses(found: tuple[Validator, DiT]) -> dict[str, float]:
    return found[0].losses(found[1], contextlib.nullcontext)


def test_the_loss_is_that_of_clips_held_out_at_fixed_times(folder):
    """By hand, for one bucket and time; the same each time it is asked for."""
    one = validator(folder, "loss", validation={"clips": 4, "times": [0.2, 0.8]})
    found = losses(one)
    names = ["5x64x32", "9x32x32"]
    assert set(found) == {"loss", *names, *(f"{name}@{t}" for name in names for t in ("0.2", "0.8"))}
    assert found == losses(one) and found["5x64x32@0.2"] != found["5x64x32@0.8"]
    assert found["loss"] == pytest.approx(sum(found[name] for name in names) / 2)
    check, model = one
    (batch,) = next(iter(check.loader.steps(0, 1)))
    assert len(batch.keys) == 4
    x0 = check.parts.latents(batch)
    noise = torch.stack([torch.randn(x0.shape[1:], generator=generator(0, "validation", batch.bucket.name, i)) for i in range(4)])
    t = torch.full((4,), 0.8)
    with torch.no_grad():
        told = check.parts.conditioner(batch.captions, batch.references).keywords()
        velocity = model(flow.noised(x0, noise, t), t, **told)
    assert found[f"{batch.bucket.name}@0.8"] == pytest.approx(float((velocity - (noise - x0)).square().mean()), rel=1e-5)


def test_none_of_them_is_trained_on(folder):
    check, _ = validator(folder, "apart")
    held = {key for step in check.loader.steps(0, 2) for batch in step for key in batch.keys}
    out = folder / "apart"
    file = recipe(folder, "apart", data={"holdout": 0.4}, training={"steps": 1}, validation={"every": 1, "samples": 1})
    run.train(str(file), [str(folder / "run")], out, None)
    chosen = clips.read([clips.Run(str(folder / "run"))], check.config.data)[0]
    trained = {clips.members(*chosen.tars[0], int(o), int(s))[0] for o, s in zip(chosen.offset, chosen.size, strict=True)}
    assert held and trained and not held & trained and held | trained == {f"clip-{i}" for i in range(12)}
    (line,) = [json.loads(text) for text in (out / "validation.jsonl").read_text().splitlines()]
    assert line["step"] == 1 and 0 < line["loss"] < 20 and "5x64x32@0.9" in line
    (video,) = (out / "samples/step-00000001").glob("*.mp4")
    assert video.name.startswith("00-held-out-clip-") and video.stem.rpartition("out-")[2] in held


def test_processes_share_it_and_say_the_same(folder):
    """Two of them, one after the other: their sums make the loss of one; each makes other videos."""
    whole = losses(validator(folder, "alone", validation={"clips": 4}))
    sums: dict[str, float] = {}
    for rank in range(2):
        check, model = validator(folder, "shared", rank, 2, validation={"clips": 4})
        for batches in check.loader.steps(0, 2):
            assert sum(len(batch.keys) for batch in batches) == 2
            for batch in batches:
                errors = check._errors(batch, model, contextlib.nullcontext).detach()
                sums[batch.bucket.name] = sums.get(batch.bucket.name, 0.0) + float(errors.mean())
    assert {name: value / 4 for name, value in sums.items()} == pytest.approx({n: whole[n] for n in sums}, rel=1e-5)


def test_prompts_of_a_file_are_made_and_measured(folder, tmp_path):
    told = """
- {prompt: A dog in a street, references: {dog: [dog.png, dog.png]}, background: street.jpg, seed: 3, bucket: 9x32x32}
- {prompt: "Nothing, really"}
"""
    (folder / "prompts.yaml").write_text(told)
    measured = []

    def brightness(wanted: Any, video: torch.Tensor) -> dict[str, float]:
        measured.append((wanted.name, tuple(video.shape)))
        return {"brightness": float(video.float().mean())}

    check, model = validator(folder, "told", measures=[brightness], validation={"prompts": str(folder / "prompts.yaml")})
    found = check.samples(model, contextlib.nullcontext, tmp_path / "samples")
    assert measured == [("00-a-dog-in-a-street", (9, 3, 32, 32)), ("01-nothing-really", (5, 3, 32, 64))]
    assert {path.name for path in (tmp_path / "samples").iterdir()} == {f"{n}.{s}" for n, _ in measured for s in ("mp4", "png")}
    assert 0 <= found["brightness"] <= 255
    assert [r.kind for r in check.wanted[0].references] == ["subject", "subject", "background"]


def test_processes_share_the_videos(folder, tmp_path):
    """Three prompts over two of them: each makes as many, and no two write the same."""
    (folder / "three.yaml").write_text("[{prompt: one}, {prompt: two}, {prompt: three}]")
    told = []
    for rank in range(2):
        check, model = validator(folder, "told", rank, 2, validation={"prompts": str(folder / "three.yaml")})
        check.samples(model, contextlib.nullcontext, tmp_path / str(rank))
        told.append(sorted(path.stem for path in (tmp_path / str(rank)).glob("*.mp4")))
    assert told == [["00-one", "02-three"], ["01-two"]]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- {prompt: A dog, references: {cat: dog.png}}", "no word 'cat'"),
        ("- {prompt: A dog, references: {dog: none.png}}", "none.png"),
        ("- {prompt: A dog, bucket: 3x3x3}", "no bucket 3x3x3; the recipe has 5x64x32, 9x32x32"),
        ("- {prompts: A dog}", "0.prompt"),
        ("- {prompt: A dog, colour: red}", "0.colour"),
        ("- [", "prompts.yaml"),
        ("{}", "list"),
    ],
)
def test_a_file_that_is_wrong_is_one_line(folder, tmp_path, text, says):
    (tmp_path / "prompts.yaml").write_text(text)
    (tmp_path / "dog.png").write_bytes((folder / "dog.png").read_bytes())
    table = configs.load(recipe(folder, "table")).data.table()
    with pytest.raises(TrainerError, match=says) as error:
        prompts(tmp_path / "prompts.yaml", table)
    assert "\n" not in str(error.value)


def test_validation_does_not_touch_the_training(folder):
    """The same weights with it and without."""
    from curation.trainer import checkpoint

    ends = []
    for name, every in (("with", 1), ("without", 0)):
        file = recipe(folder, name, data={"holdout": 0.4}, training={"steps": 3}, validation={"every": every, "samples": 1})
        run.train(str(file), [str(folder / "run")], folder / name, None)
        ends.append((checkpoint.folder(folder / name, 3) / checkpoint.WEIGHTS).read_bytes())
    assert ends[0] == ends[1]
