"""A pretrained backbone from a recipe to the plain pipeline: train, sample, a next stage, the lines of docs/backbones.md."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint import FileSystemReader

from curation.trainer import backbones, checkpoint, clips, make, run
from curation.trainer import config as configs
from curation.trainer.conditions import Parts
from curation.trainer.errors import TrainerError
from curation.trainer.model import ADAPTER, PERSONALIZATION
from curation.trainer.personalize import load
from tests.conftest import ROOT
from tests.tiny import backbones as tiny
from tests.trainer import made, recipes

pytestmark = pytest.mark.trainer

NAME = "wan2.1-1.3b"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A pipeline, shards of six videos, pictures, and what a training run of the new layers made of them."""
    folder = tmp_path_factory.mktemp("world")
    samples = [made.sample(f"clip-{number}", subjects=2) for number in range(6)]
    for number, one in enumerate(samples):
        one.meta["source"]["video"] = f"video{number}"
    found = {"folder": folder, "wan": tiny.wan(folder / "wan"), "shards": made.write(folder / "run", [samples])}
    cv2.imwrite(str(folder / "dog.png"), made.cut_out((20, 200, 30)))
    cv2.imwrite(str(folder / "coat.png"), np.full((20, 30, 3), 70, np.uint8))
    looked_at = {"data": {"buckets": recipes.BUCKETS[:1], "holdout": 0.4}, "validation": {"every": 4, "samples": 1, "clips": 2}}
    return found | {"out": trained(found, folder / "out", sections=looked_at)}


def recipe(
    world: dict[str, Path], path: Path, model: dict[str, Any] | None = None, sections: Any = None, **training: Any
) -> Path:
    wan = world["wan"]
    knobs = {"backbone": NAME, "backbone_weights": str(wan), "slots": 3, "dropout": 0.0, **(model or {})}
    encoders = {"text": "umt5", "text_weights": str(wan / "text"), "text_length": 24}
    encoders |= {"codec": "wan", "codec_weights": str(wan / "vae")}
    training = {"layers": "personalization", "lr": 1e-2, "steps": 4, **training}
    told = {"model": knobs, "encoders": encoders, "training": training, "references": {"slots": 3}, **(sections or {})}
    return recipes.write(path, wan / "text", **told)


def trained(
    world: dict[str, Path],
    out: Path,
    model: dict[str, Any] | None = None,
    sections: Any = None,
    sidecars: Sequence[str] = (),
    **training: Any,
) -> Path:
    file = recipe(world, out.with_suffix(".yaml"), model, sections, **training)
    run.train(str(file), [str(world["shards"])], out, None, sidecars)
    return out


def saved(out: Path, step: int = 4) -> Path:
    return checkpoint.folder(out, step) / checkpoint.WEIGHTS


def test_the_new_layers_alone_are_trained_and_saved(world):
    values = load_file(saved(world["out"]))
    assert all(PERSONALIZATION in name for name in values) and len(values) > 20
    gates = [name for name in values if name.endswith("personalization.modulation.bias")]
    assert len(gates) == 2 and all(values[name].any() for name in gates), "they have begun to open"
    parts = Parts(configs.load(recipe(world, world["folder"] / "again.yaml")), torch.device("cpu"))
    assert len(values) == sum(PERSONALIZATION in n for n, _ in backbones.build(parts.config, parts).named_parameters())
    held = FileSystemReader(checkpoint.folder(world["out"], 4)).read_metadata().state_dict_metadata
    weights = {name.removeprefix("model.") for name in held if name.startswith("model.")}
    assert weights == set(values), "no backbone in what a run goes on from either"


def test_it_is_looked_at_on_the_way(world):
    (line,) = [json.loads(text) for text in (world["out"] / "validation.jsonl").read_text().splitlines()]
    assert 0 < line["loss"] < 20 and len(list((world["out"] / "samples" / "step-00000004").glob("*.mp4"))) == 1


@pytest.mark.slow
def test_sidecars_train_the_same_and_need_the_text_encoder_once(world, tmp_path):
    buckets = {"buckets": recipes.BUCKETS}
    stages = [
        {"encode_latents": {"codec": "wan", "weights": str(world["wan"] / "vae"), "dtype": "fp32", **buckets}},
        {"encode_captions": {"encoder": "umt5", "weights": str(world["wan"] / "text"), "length": 24, "dtype": "fp32"}},
    ]
    (tmp_path / "encode.yaml").write_text(yaml.safe_dump({"clips": stages, "shards": {"sidecar": "latents"}}))
    arguments = [str(tmp_path / "encode.yaml"), "--input", str(world["shards"]), "--output", str(tmp_path / "beside"), "--local"]
    command = [sys.executable, "-c", "from curation.cli import main; main()", "run", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    still = {"data": {**buckets, "start": "first"}}
    plain = trained(world, tmp_path / "plain", sections=still)
    beside = trained(world, tmp_path / "encoded", sections=still, sidecars=[str(tmp_path / "beside")])
    assert saved(plain).read_bytes() == saved(beside).read_bytes()
    config = configs.load(tmp_path / "encoded.yaml")
    data = config.data
    chosen, _ = clips.read([clips.Run(str(world["shards"]))], data, [str(tmp_path / "beside")])
    parts = Parts(config, torch.device("cpu"), chosen.latents, chosen.text)
    assert not {"text", "codec"} & set(vars(parts)), "neither stays"
    empty = parts.text([""])
    assert torch.equal(parts.conditioner.null[0], empty.embeddings[0]) and empty.embeddings.any()


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_same_bytes(world, tmp_path):
    trained(world, tmp_path / "parts", steps=2)
    trained(world, tmp_path / "parts")
    assert saved(tmp_path / "parts").read_bytes() == saved(trained(world, tmp_path / "whole")).read_bytes()


def test_curation_sample_reads_it_and_refuses_less(world, tmp_path):
    def sampled(weights: Path, name: str, pairs: list[str]) -> bytes:
        wanted = make.one("a dog in a coat", pairs, None, None, None)
        make.sample(str(world["out"].with_suffix(".yaml")), weights, tmp_path / name, wanted, make.Asked())
        return (tmp_path / name).read_bytes()

    first = sampled(world["out"], "a.mp4", [f"dog={world['folder'] / 'dog.png'}"])
    assert sampled(saved(world["out"]), "b.mp4", [f"dog={world['folder'] / 'dog.png'}"]) == first
    assert sampled(world["out"], "c.mp4", [f"coat={world['folder'] / 'coat.png'}"]) != first
    with pytest.raises(TrainerError, match="no backbone.*personalization"):
        values = {k: v for k, v in load_file(saved(world["out"])).items() if "blocks.1" not in k}
        save_file(values, tmp_path / "less.safetensors")
        sampled(tmp_path / "less.safetensors", "d.mp4", [])


@pytest.mark.parametrize("adapters", [False, True])
def test_the_lines_of_the_documentation(world, tmp_path, monkeypatch, adapters):
    """Run as they stand, but for the names of what is too large; the pipeline's transformer then is the trainer's."""
    out, model = world["out"], {}
    if adapters:
        pytest.importorskip("peft")
        model = {"lora": 4}
        out = trained(world, tmp_path / "lora", model, layers="lora", start=str(world["out"]), steps=2)
    step = checkpoint.steps(out)[-1]
    values = load_file(saved(out, step))
    assert any(ADAPTER in name for name in values) == adapters
    code = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "backbones.md").read_text(), re.S)
    assert code and len(code[1].splitlines()) <= 20
    text = code[1]
    for theirs, ours in {
        '"Wan-AI/Wan2.1-T2V-1.3B-Diffusers"': f'"{world["wan"]}"',
        "runs/wan/checkpoints/step-00010000/weights.safetensors": str(saved(out, step)),
        "bfloat16": "float32",
        '"cuda"': '"cpu"',
        'image_encoder("dinov2", "cpu", store.path("dinov2-large"))': 'image_encoder("patches", "cpu")',
        "height=480, width=832, num_frames=81": "height=32, width=64, num_frames=9, num_inference_steps=2",
        "length=512": "length=24",
    }.items():
        assert theirs in text, theirs
        text = text.replace(theirs, ours)
    monkeypatch.chdir(world["folder"])
    told: dict[str, Any] = {}
    exec(compile(text, "docs/backbones.md", "exec"), told)
    assert (world["folder"] / "dog.mp4").stat().st_size > 0 and len(told["video"]) == 9

    training = {"layers": "lora"} if adapters else {}
    parts = Parts(configs.load(recipe(world, tmp_path / "again.yaml", model, **training)), torch.device("cpu"))
    own = backbones.build(parts.config, parts)
    checkpoint.fill(own, checkpoint.weights(out), backbones.given(own))
    conditions = told["conditioner"]([told["prompt"]], [told["of_files"](told["prompt"], told["pictures"], None)])
    z, transformer = torch.randn(1, 4, 3, 4, 8, generator=torch.Generator().manual_seed(0)), told["pipe"].transformer
    with torch.no_grad():
        theirs = transformer(z, torch.tensor([500.0]), conditions.text).sample
        torch.testing.assert_close(own(z, torch.tensor([0.5]), **conditions.keywords(cut=False)), theirs)
        told["layers"].images = None
        assert not torch.equal(transformer(z, torch.tensor([500.0]), conditions.text).sample, theirs)


def test_a_file_of_another_backbone_is_one_line(world, tmp_path):
    from diffusers import CogVideoXPipeline

    other = CogVideoXPipeline.from_pretrained(tiny.cogvideox(tmp_path / "cog", rotary=True)).transformer
    with pytest.raises(TrainerError, match="does not fit this CogVideoXTransformer3DModel"):
        load(other, saved(world["out"]))
