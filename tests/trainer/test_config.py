from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from curation.buckets import TABLES
from curation.recipe import WORKFLOWS, RecipeError
from curation.trainer import config
from curation.trainer.distributed import Parallel
from curation.trainer.errors import TrainerError

pytestmark = pytest.mark.trainer

LEAST = {"data": {"buckets": "v2"}, "training": {"steps": 1}}


def load(folder: Path, **sections) -> config.Config:
    file = folder / "train.yaml"
    file.write_text(yaml.safe_dump({name: {**LEAST.get(name, {}), **sections.get(name, {})} for name in {**LEAST, **sections}}))
    return config.load(file)


def test_defaults_are_the_papers(tmp_path):
    found = load(tmp_path)
    knobs = found.training
    assert (knobs.lr, knobs.betas, knobs.weight_decay, knobs.max_norm) == (1e-4, [0.9, 0.99], 0.01, 0.05)
    assert (knobs.drop_text, knobs.drop_images, found.model.dropout, found.data.fps) == (0.1, 0.1, 0.0, 24)
    assert (found.sampling.form, found.sampling.text_scale, found.sampling.image_scale) == ("separate", 8, 3)
    assert (found.encoders.image, found.encoders.codec, found.model.slots) == ("dinov2", "cogvideox", 6)


@pytest.mark.parametrize(
    "path", sorted({*WORKFLOWS.glob("train-*.yaml")} - {*WORKFLOWS.glob("train-codec*")}), ids=lambda p: p.stem
)
def test_every_shipped_recipe_loads(path):
    assert config.load(path.stem).path == path


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"training": {"step": 1}}, "training has no 'step'; did you mean 'steps'?"),
        ({"training": {"lr": "fast"}}, "training.lr: Input should be a valid number, not 'fast'"),
        ({"modle": {}}, "a training recipe has no 'modle'; did you mean 'model'?"),
        ({"data": {"buckets": [{"frames": 17}]}}, "data.buckets"),
        ({"model": {"size": "huge"}}, "model.size: Input should be 'tiny', "),
        ({"encoders": {"image": "dino"}}, "encoders.image: Input should be 'dinov2', "),
        ({"training": {"parallel": {"shards": 2}}}, "training.parallel"),
        ({"model": {"adaln": "half"}}, "model.adaln"),
        ({"model": {"adaln": {"rank": 0}}}, "model.adaln"),
        ({"training": {"drop_text": 2.0}}, "training.drop_text: Input should be less than or equal to 1"),
    ],
)
def test_a_wrong_knob_is_one_line(tmp_path, sections, said):
    with pytest.raises(RecipeError) as caught:
        load(tmp_path, **sections)
    assert said in str(caught.value) and "train.yaml:" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("knobs", "world", "degrees"),
    [
        ({}, 8, (1, 8, 1)),
        ({"shard": 1}, 8, (8, 1, 1)),
        ({"replicate": 2}, 8, (2, 4, 1)),
        ({"context": 4}, 8, (1, 2, 4)),
        ({"shard": 2, "context": 2}, 8, (2, 2, 2)),
        ({}, 1, (1, 1, 1)),
    ],
)
def test_processes_are_shared_out(knobs, world, degrees):
    assert Parallel(**knobs).degrees(world) == degrees


@pytest.mark.parametrize("knobs", [{"replicate": 3}, {"context": 16}, {"replicate": 2, "shard": 2}])
def test_what_does_not_come_to_the_processes_is_one_line(knobs):
    with pytest.raises(TrainerError, match=r"training.parallel: \{.*\} does not come to the 8 processes"):
        Parallel(**knobs).degrees(8)


def test_stage_one_of_v1_sees_as_many_clips_a_step_as_the_paper():
    buckets = config.load("train-v1-stage1").data.table()
    mean = sum(b.batch * b.weight for b in buckets) / sum(b.weight for b in buckets)
    assert mean == pytest.approx(2.42e9 / 490_000, rel=0.005)
    assert [(b.name, b.weight) for b in buckets] == [(b.name, b.weight) for b in config.load("train-v1-stage2").data.table()]


def test_what_must_be_given(tmp_path):
    (tmp_path / "train.yaml").write_text("data: {buckets: v1}\n")
    with pytest.raises(RecipeError, match=r"train.yaml: training.steps must be given"):
        config.load(tmp_path / "train.yaml")


def test_more_references_than_slots(tmp_path):
    with pytest.raises(TrainerError, match="references.slots: 6, but model.slots: 4"):
        load(tmp_path, model={"slots": 4})


def test_models_are_those_of_the_store_that_no_folder_replaces(tmp_path):
    assert load(tmp_path).encoders.models() == ("t5-v1_1-xxl-encoder", "dinov2-large", "cogvideox-vae")
    own = {"text": "minilm", "text_weights": "somewhere", "image": "patches", "codec": "dct"}
    assert load(tmp_path, encoders=own).encoders.models() == ()


ABLATIONS = {
    "clip": ("encoders", "image", "clip"),
    "no-words": ("model", "use_words", False),
    "no-augmentation": ("augment", "enabled", False),
}


def knobs_of(name: str) -> dict[str, Any]:
    found = config.load(name)
    return {section: dataclasses.asdict(getattr(found, section)) for section in config.SECTIONS}


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_is_one_switch(name):
    section, knob, value = ABLATIONS[name]
    whole, changed = knobs_of("train-ablation"), knobs_of(f"train-ablation-{name}")
    assert whole[section][knob] != value
    whole[section][knob] = value
    assert changed == whole


def test_the_whole_ablation_is_v2s_stage_two_at_one_resolution():
    whole, stage = config.load("train-ablation"), config.load("train-v2-stage2b")
    assert whole.data.table() == [bucket for bucket in TABLES["v2"] if bucket.width == 256]
    assert whole.model == stage.model and whole.training == dataclasses.replace(stage.training, start="stage1", steps=40_000)


def written(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder / "train.yaml"


WHOLE = "data: {buckets: v2}\ntraining: {steps: 5, parallel: {context: 2, shard: 4}, lr: 1.0e-3}\n"


def test_a_base_gives_what_is_not_given(tmp_path):
    """Knob by knob, each whole; over several floors; from a file beside it or a name in workflows/."""
    middle = "base: whole.yaml\ntraining: {parallel: {context: 4}}\nmodel: {slots: 8}\n"
    found = config.load(written(tmp_path, whole=WHOLE, middle=middle, train="base: middle.yaml\ntraining: {steps: 9}\n"))
    assert found.training == config.Training(steps=9, lr=1e-3, parallel=Parallel(context=4))
    assert found.model.slots == 8 and found.data.buckets == "v2" and found.path == tmp_path / "train.yaml"
    named = config.load(written(tmp_path, train="base: train-tiny\nsampling: {steps: 3}\n"))
    assert named.sampling == dataclasses.replace(config.load("train-tiny").sampling, steps=3)
    assert named.training == config.load("train-tiny").training


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"train": "base: nothing"}, r"train.yaml:1: base: no recipe 'nothing'"),
        ({"train": "base: [whole.yaml]"}, r"train.yaml:1: base: no recipe"),
        ({"train": "base: train.yaml"}, r"train.yaml:1: base: train.yaml is built on this one"),
        ({"train": "base: other.yaml", "other": "base: train.yaml"}, r"other.yaml:1: base: train.yaml is built on this one"),
        ({"train": "base: other.yaml", "other": WHOLE + "model: {slots: no}"}, r"other.yaml:3: model.slots"),
        ({"train": "base: whole.yaml\nmodel: {slot: 1}"}, r"train.yaml:2: model has no 'slot'"),
        ({"train": "base: whole.yaml\n\ntraining:\n  steps: 0"}, r"train.yaml:4: training.steps: Input should be greater"),
    ],
)
def test_what_is_wrong_with_a_base_is_told_where_it_stands(tmp_path, files, said):
    with pytest.raises(RecipeError, match=said) as caught:
        config.load(written(tmp_path, whole=WHOLE, **files))
    assert "\n" not in str(caught.value)
