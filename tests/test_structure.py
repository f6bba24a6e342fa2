"""Rules of the house that a test can hold."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from curation.recipe import STAGES
from tests.conftest import ROOT

PACKAGE = ROOT / "curation"
LAYERS = [
    {"cli"},
    {"schemas"},
    {"benchmark"},
    {"look", "run", "trainer", "quality", "console"},
    {"shards"},
    {"recipe"},
    {"inputs", "stages"},
    {"stage"},
    {"ledger"},
    {"buckets", "columns", "limits", "media", "models", "remote", "sample", "storage", "store"},
    {"faults", "fingerprint", "machine"},
]
"""Imports run downwards, or sideways within a layer."""
TRAINER = {
    "faults",
    "trainer",
    "buckets",
    "models",
    "fingerprint",
    "recipe",
    "shards",
    "sample",
    "storage",
    "store",
    "media",
    "console",
    "stages",
    "ledger",
}
"""What the trainer may import: the shard is the only hand-off (of the stages, how words are found in a caption)."""


def layer(module: str) -> int:
    return next(i for i, names in enumerate(LAYERS) if module in names)


def imports(path: Path) -> set[str]:
    """Modules of ours, one level deep, that a file imports anywhere."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "curation":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names if alias.name != "__version__"}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("curation.")}
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if name == "__init__":
        return
    for other in imports(path):
        assert layer(name) <= layer(other), f"{name} may not import {other}"
        if name == "models":
            assert other == "models", "models know nothing of curation"
        if name == "trainer":
            assert other in TRAINER, f"the trainer reads shards; it may not import {other}"


HEAVY = {
    *("torch", "cv2", "av", "onnxruntime", "onnx", "spacy", "ray", "scenedetect", "pycocotools"),
    *("transformers", "diffusers", "ultralytics", "vllm", "groundingdino", "segment_anything", "webdataset", "kornia"),
}


@pytest.mark.parametrize("stage", [*STAGES.values()])
def test_a_stage_imports_nothing_heavy(stage):
    module = stage.partition(":")[0]
    code = f"import sys, {module}; print(sorted({HEAVY} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_no_knob_stands_on_the_command_line():
    """Knobs live in recipes; an option here would be the second place to look for them."""
    from curation import cli

    commands = [command.callback for command in cli.app.registered_commands if command.callback is not cli.sample]
    options = {name for command in commands for name in command.__annotations__}
    knobs = {field for stage in STAGES.values() for field in _fields(stage)}
    assert not options & (knobs - {"workers"}), options & knobs


def _fields(stage: str) -> set[str]:
    import dataclasses

    from curation.recipe import stage_class

    return {f.name for f in dataclasses.fields(stage_class(next(n for n, v in STAGES.items() if v == stage)))}


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=lambda p: p.name)
def test_no_test_leans_on_another(path):
    """What several need stands in a module without `test_` in its name."""
    imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    assert not [alias.name for node in imports for alias in node.names if "test_" in f"{node.module}.{alias.name}"]


def test_only_four_files_know_pyav():
    lines = {p.name: {line.strip() for line in p.read_text().splitlines()} for p in PACKAGE.rglob("*.py")}
    users = {name for name, found in lines.items() if any(line.startswith(("import av", "from av")) for line in found)}
    assert users == {"video.py", "picture.py", "encode.py", "sound.py"}
