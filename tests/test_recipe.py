from __future__ import annotations

import re
import subprocess
import sys

import pytest

from curation import recipe
from curation.fingerprint import changes, digest
from curation.recipe import RecipeError, load
from curation.run.lanes import PlacementError, lanes, place
from curation.store import store

GOOD = """
plan:
  - extract_entities
clips:
  - split_shots: {on_boundary: split, min_seconds: 2}
  - sample_frames: {}
units: {clips: 8}
"""


@pytest.fixture
def write(tmp_path):
    def write(text: str):
        path = tmp_path / "r.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_knobs_reach_the_stages(write):
    made = load(write(GOOD))
    assert [s.name for s in made.plan] == ["extract_entities"]
    assert [s.name for s in made.clips] == ["split_shots", "sample_frames"]
    assert made.clips[0].min_seconds == 2 and made.clips[0].on_boundary == "split"
    assert made.units.clips == 8


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("clips: [split_shots: {min_second: 1}]", "r.yaml:1: split_shots has no 'min_second'; did you mean 'min_seconds'?"),
        ("clips:\n  - split_shot: {}", "r.yaml:2: no stage 'split_shot'; did you mean 'split_shots'?"),
        ("clip: []", "r.yaml:1: a recipe has no 'clip'; did you mean 'clips'?"),
        ("clips:\n  - split_shots:\n      on_boundary: cut", "r.yaml:3: split_shots.on_boundary: Input should be"),
        (
            "clips:\n  - split_shots: {min_seconds: long}",
            "r.yaml:2: split_shots.min_seconds: Input should be a valid number, not 'long'",
        ),
        ("clips: [split_shots: {min_seconds: 1, min_seconds: 2}]", "'min_seconds' stands twice"),
        ("clips:\n  - split_shots\n  - split_shots", "stage 'split_shots' stands twice"),
        ("clips: [split_shots]\nunits: {clips: 0}", "r.yaml:2: units.clips"),
        (
            "clips: [sample_frames]",
            "clips.sample_frames reads 'split_shots', which no stage before it gives; put split_shots before it",
        ),
        ("plan: [split_shots]\nclips: [sample_frames]", "plan.split_shots reads 'source'"),
        ("clips: split_shots", "`clips:` is a list of stages"),
        ("- clips", "a recipe is a mapping"),
        ("", "names no stage"),
        ("clips: [a, b", "r.yaml:1: not YAML"),
        ("clips: [!!python/object/apply:os.getcwd []]", "a stage is"),
        ("clips: [split_shots: {crf: !!python/object/apply:os.getcwd []}]", "split_shots"),
        ("\x00", "not YAML"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(write, text, complaint):
    with pytest.raises(RecipeError, match=re.escape(complaint)) as caught:
        load(write(text))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(RecipeError, match="none.yaml: cannot be read"):
        load(tmp_path / "none.yaml")


def test_the_fingerprint_knows_knobs_but_not_places(write):
    base = load(write(GOOD)).fingerprint()
    assert load(write(GOOD.replace("{}", "{workers: 3}"))).fingerprint() == base
    other = load(write(GOOD.replace("min_seconds: 2", "min_seconds: 3"))).fingerprint()
    assert changes(base, other) == ["clips.split_shots.min_seconds: 2.0 → 3.0"] or changes(base, other) == [
        "clips.split_shots.min_seconds: 2 → 3"
    ]
    assert digest(base) != digest(other)


@pytest.mark.parametrize(
    "path", sorted(p for p in recipe.WORKFLOWS.glob("*.yaml") if not p.stem.startswith("train-")), ids=lambda p: p.stem
)
def test_the_recipes_we_ship_load(path):
    assert load(path).clips


def test_recipes_are_found_by_name():
    assert recipe.find("embedded").path == recipe.WORKFLOWS / "embedded.yaml"
    assert recipe.find("auto").path.parent == recipe.WORKFLOWS


PAPER = {
    "mistral-7b-instruct",
    *("groundingdino-swint", "bert-base-uncased", "sam-vit-b"),
    *("yolo-face", "stable-diffusion-2-inpainting", "transnetv2"),
}


@pytest.mark.parametrize("name", ["paper", "paper-24gb", "paper-benchmark"])
def test_the_papers_recipes_fill_one_gpu_and_name_their_models(name):
    made = recipe.find(name)
    pools = place(lanes(made.steps()), cpus=16, gpus=1)
    assert sum(pool.least * pool.gpus for pool in pools) == pytest.approx(0.9)  # 0.1 is kept for the user's own quality filter
    assert set(made.models()) >= PAPER
    assert set(store.hashes(made.models())) == set(made.models())
    with pytest.raises(PlacementError, match="there are 0: take a recipe for CPUs"):
        place(lanes(made.steps()), cpus=16, gpus=0)


def test_what_holds_a_share_of_a_gpu_takes_several_units_at_once():
    stages = recipe.find("paper").clips
    assert {stage.name for stage in stages if stage.units() > 1} == {stage.name for stage in stages if stage.share}
    assert {stage.units() for stage in recipe.find("embedded").clips} == {1}


def test_loading_the_papers_recipes_imports_none_of_their_packages():
    heavy = "{'torch', 'transformers', 'diffusers', 'vllm', 'groundingdino', 'segment_anything', 'ultralytics'}"
    code = "from curation import recipe; [recipe.find(n).fingerprint() for n in ('paper', 'paper-24gb', 'paper-benchmark')]"
    done = [sys.executable, "-c", f"{code}; import sys; print(sorted({heavy} & set(sys.modules)))"]
    assert subprocess.run(done, capture_output=True, text=True, check=True).stdout.strip() == "[]"


GPU, PACKAGES, MODELS = "_has_gpu", "_has_packages", "_has_models"


@pytest.mark.parametrize("lacking", [None, GPU, PACKAGES, MODELS])
def test_auto_is_the_papers_recipe_where_all_it_needs_is_there(monkeypatch, lacking):
    for name in (GPU, PACKAGES, MODELS):
        monkeypatch.setattr(recipe, name, lambda *_, there=name != lacking: there)
    assert recipe.find("auto").path.stem == ("embedded" if lacking else "paper")


def test_what_auto_asks_for(monkeypatch, tmp_path):
    monkeypatch.setenv("CURATION_HOME", str(tmp_path))
    assert not recipe._has_models("paper") and not recipe._has_models("no such recipe")
    monkeypatch.setattr(recipe, "PAPER_PACKAGES", ("json", "no_such_package"))
    assert not recipe._has_packages()
    monkeypatch.setattr(recipe, "PAPER_PACKAGES", ("json",))
    assert recipe._has_packages()


@pytest.mark.paper
def test_the_papers_packages_are_those_of_the_extras():
    pytest.importorskip("vllm", reason="the paper and vllm extras are not installed")
    assert recipe._has_packages()


def test_own_weights_are_known_by_content(write, tmp_path):
    """Another checkpoint under the same path is another one."""
    (tmp_path / "face.pt").write_bytes(b"one")
    text = GOOD.replace(
        "  - sample_frames: {}", f"  - sample_frames\n  - crop_faces: {{model: yolo, weights: {tmp_path / 'face.pt'}}}"
    )
    text = text.replace("  - crop_faces", "  - segment_entities\n  - crop_faces")
    before = load(write(text)).fingerprint()
    assert load(write(text)).fingerprint() == before
    (tmp_path / "face.pt").write_bytes(b"two")
    after = load(write(text)).fingerprint()
    old, new = (made["models"]["crop_faces.weights"] for made in (before, after))
    assert changes(before, after) == [f"models.crop_faces.weights: {old} → {new}"] and len(new) == 64
    (tmp_path / "face.pt").unlink()
    with pytest.raises(RecipeError, match=r"r.yaml: crop_faces.weights: no weights at .*face.pt"):
        load(write(text)).fingerprint()


def test_own_weights_of_the_plan_are_the_plans(write, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/weights").write_bytes(b"one")
    text = GOOD.replace("- extract_entities", f"- extract_entities: {{model: mistral, weights: {tmp_path / 'model'}}}")
    before = load(write(text)).plan_fingerprint()
    (tmp_path / "model/weights").write_bytes(b"two")
    [changed] = changes(before, load(write(text)).plan_fingerprint())
    assert changed.startswith("models.extract_entities.weights: ")
