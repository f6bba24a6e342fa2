"""A recipe: YAML in, checked stages out. Every knob is one field of one stage; whatever is wrong is said in one line."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import importlib.util
import json
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from yaml.nodes import MappingNode, Node, SequenceNode

from curation import __version__, store
from curation.stage import Stage
from curation.weights import weights_digest

STAGES = {
    "split_shots": "curation.stages.split_shots:SplitShots",
    "sample_frames": "curation.stages.sample_frames:SampleFrames",
    "score_quality": "curation.stages.score_quality:ScoreQuality",
    "extract_entities": "curation.stages.extract_entities:ExtractEntities",
    "segment_entities": "curation.stages.segment_entities:SegmentEntities",
    "crop_faces": "curation.stages.crop_faces:CropFaces",
    "inpaint_background": "curation.stages.inpaint_background:InpaintBackground",
}
"""Every stage there is: its name in recipes and where its class lives. Imported when a recipe names it."""

PAPER_PACKAGES = ("diffusers", "groundingdino", "segment_anything", "transformers", "ultralytics", "vllm")
PLACEMENT = ("workers", "gpus")
"""Knobs that say where a stage runs, not what it makes: outside the fingerprint."""


class RecipeError(Exception):
    """One line: the file, the line in it, what is wrong and what would be right."""


@dataclass(kw_only=True)
class Shards:
    """How planned clips are cut into units (one unit = one shard) and how many may fail."""

    clips_per_unit: Annotated[int, Field(ge=1)] = 64
    """Clips that reach the clip stages, per unit. A source's clips stay together up to twice as many."""
    seconds_per_unit: Annotated[float, Field(gt=0)] = 1800.0
    """Seconds of video per unit; a clip of unknown length counts as 30."""
    max_failed: Annotated[float, Field(ge=0, le=1)] = 0.05
    """The run exits with 3 when a larger share of the planned clips failed."""


@dataclass(kw_only=True)
class Recipe:
    """Caption stages for planning, clip stages for the run, and the shape of the shards."""

    plan: list[Stage] = field(default_factory=list)
    clips: list[Stage] = field(default_factory=list)
    shards: Shards = field(default_factory=Shards)
    path: Path = Path()

    def models(self) -> tuple[str, ...]:
        """Names in the store of everything the stages need, each once."""
        return _models([*self.plan, *self.clips])

    def plan_models(self) -> tuple[str, ...]:
        """Those the caption stages of the plan need."""
        return _models(self.plan)

    def plan_fingerprint(self) -> dict[str, Any]:
        """What decides the plan's content, as plain values to compare and to show."""
        cut = {k: v for k, v in dataclasses.asdict(self.shards).items() if k != "max_failed"}
        return {"version": __version__, "plan": _knobs(self.plan), "shards": cut, "models": self._identities(self.plan)}

    def fingerprint(self) -> dict[str, Any]:
        """What decides the shards' bytes: knobs, code version, model hashes."""
        models = self._identities([*self.plan, *self.clips])
        return {"version": __version__, "plan": _knobs(self.plan), "clips": _knobs(self.clips), "models": models}

    def _identities(self, stages: list[Stage]) -> dict[str, str]:
        """Each model's hash by its name in the store, and that of the user's own as `stage.weights`: by content."""
        found = store.hashes(_models(stages))
        for stage in stages:
            if own := getattr(stage, "weights", None):
                try:
                    found[f"{stage.name}.weights"] = weights_digest(own)
                except OSError as error:
                    raise RecipeError(f"{self.path}: {stage.name}.weights: {error}") from error
        return found


def digest(fingerprint: dict[str, Any]) -> str:
    """A fingerprint as 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(fingerprint).encode()).hexdigest()[:16]


def changes(old: dict[str, Any], new: dict[str, Any], where: str = "") -> list[str]:
    """The differences of two fingerprints, each as `clips.split_shots.min_seconds: 1.0 → 2.0`."""
    found: list[str] = []
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += changes(a, b, f"{where}{key}.")
        elif a != b:
            found.append(f"{where}{key}: {a if key in old else 'absent'} → {b if key in new else 'absent'}")
    if not found and list(old) != list(new):
        found.append(f"{where.rstrip('.') or 'order'}: the order of stages")
    return found


def load(path: str | Path) -> Recipe:
    """Read and check a recipe. Raises `RecipeError`; imports no model."""
    reader = _Reader(Path(path))
    node = reader.read()
    top = reader.mapping(node, "a recipe", ("plan", "clips", "shards"))
    recipe = Recipe(
        plan=reader.stages(top.get("plan"), "plan"),
        clips=reader.stages(top.get("clips"), "clips"),
        shards=reader.knobs(Shards, top.get("shards"), "shards"),
        path=reader.path,
    )
    if not recipe.clips:
        raise RecipeError(f"{path}: `clips:` names no stage; a run needs at least split_shots")
    _check_order(recipe)
    return recipe


def sections(path: Path, known: dict[str, type]) -> dict[str, Any]:
    """A YAML file of sections, each the knobs of one dataclass: the trainer's recipes. Raises `RecipeError`."""
    reader = _Reader(path)
    top = reader.mapping(reader.read(), "a training recipe", tuple(known))
    return {name: reader.knobs(cls, top.get(name), name) for name, cls in known.items()}


WORKFLOWS = Path(__file__).parents[1] / "workflows"


def find(name: str) -> Recipe:
    """The recipe at a path, by its name in `workflows/`, or with `auto` the one that suits this machine: the papers' models
    where there is a GPU, the extras `paper` and `vllm` are installed and the models are fetched, else the embedded ones.
    """
    if name == "auto":
        name = "paper" if _has_gpu() and _has_packages() and _has_models("paper") else "embedded"
    if not Path(name).exists() and (WORKFLOWS / f"{name}.yaml").exists():
        return load(WORKFLOWS / f"{name}.yaml")
    return load(name)


def _has_gpu() -> bool:
    return any(Path("/dev").glob("nvidia[0-9]*"))


def _has_packages() -> bool:
    """Those of the extras `paper` and `vllm` that the papers' stages import."""
    return all(importlib.util.find_spec(name) for name in PAPER_PACKAGES)


def _has_models(name: str) -> bool:
    path = WORKFLOWS / f"{name}.yaml"
    return path.exists() and all(store.is_present(model) for model in load(path).models())


def adapter(cls: type) -> TypeAdapter[Any]:
    """pydantic's view of a dataclass of knobs: strict types, no unknown fields."""
    if "__pydantic_config__" not in cls.__dict__:
        cls.__pydantic_config__ = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)  # type: ignore[attr-defined]
    return TypeAdapter(cls)


def stage_class(name: str) -> type[Stage]:
    """The class behind a stage's name. Raises KeyError for a name that is not in `STAGES`."""
    module, _, cls = STAGES[name].partition(":")
    return getattr(importlib.import_module(module), cls)


def _models(stages: list[Stage]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for stage in stages for name in stage.models()))


def _knobs(stages: list[Stage]) -> dict[str, Any]:
    return {s.name: {k: v for k, v in dataclasses.asdict(s).items() if k not in PLACEMENT} for s in stages}


def _hint(word: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"


@dataclass
class _Reader:
    path: Path

    def read(self) -> Node | None:
        """The document as nodes, which know their lines."""
        try:
            return yaml.compose(self.path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"{self.path}: cannot be read: {error}") from error
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f":{mark.line + 1}" if mark else ""
            problem = getattr(error, "problem", None) or " ".join(str(error).split())
            raise RecipeError(f"{self.path}{where}: not YAML: {problem}") from error

    def fail(self, node: Node, text: str) -> RecipeError:
        return RecipeError(f"{self.path}:{node.start_mark.line + 1}: {text}")

    def mapping(self, node: Node | None, what: str, known: tuple[str, ...]) -> dict[str, Node]:
        """Keys and value nodes of a mapping; unknown and doubled keys are errors."""
        if node is None:
            return {}
        if not isinstance(node, MappingNode):
            if node.tag == "tag:yaml.org,2002:null":
                return {}
            raise self.fail(node, f"{what} is a mapping of {', '.join(known)}")
        found: dict[str, Node] = {}
        for key, value in node.value:
            if key.value not in known:
                raise self.fail(key, f"{what} has no {key.value!r}; {_hint(str(key.value), known)}")
            if key.value in found:
                raise self.fail(key, f"{key.value!r} stands twice in {what}")
            found[key.value] = value
        return found

    def stages(self, node: Node | None, head: str) -> list[Stage]:
        if node is None or node.tag == "tag:yaml.org,2002:null":
            return []
        if not isinstance(node, SequenceNode):
            raise self.fail(node, f"`{head}:` is a list of stages, each `- name: {{knob: value}}`")
        stages = [self.stage(item) for item in node.value]
        names = [s.name for s in stages]
        for name in names:
            if names.count(name) > 1:
                raise self.fail(node, f"stage {name!r} stands twice under `{head}:`")
        return stages

    def stage(self, node: Node) -> Stage:
        if isinstance(node, MappingNode) and len(node.value) == 1:
            name, knobs = node.value[0][0].value, node.value[0][1]
        elif not isinstance(node, (MappingNode, SequenceNode)):
            name, knobs = node.value, None  # `- crop_faces` alone takes every default
        else:
            raise self.fail(node, "a stage is `- name: {knob: value}`, one name per item")
        if name not in STAGES:
            raise self.fail(node, f"no stage {name!r}; {_hint(name, tuple(STAGES))}")
        return self.knobs(stage_class(name), knobs, name)

    def knobs(self, cls: type, node: Node | None, what: str) -> Any:
        known = tuple(f.name for f in dataclasses.fields(cls))
        nodes = self.mapping(node, what, known)
        try:
            values = {k: yaml.SafeLoader("").construct_document(v) for k, v in nodes.items()}
            return adapter(cls).validate_json(json.dumps(values, default=str))
        except yaml.YAMLError as error:
            raise self.fail(node or yaml.ScalarNode("", ""), f"{what}: {getattr(error, 'problem', error)}") from error
        except ValidationError as error:
            first = error.errors()[0]
            knob, where = str(first["loc"][0]), ".".join(str(part) for part in (what, *first["loc"]))
            if first["type"] == "missing":
                raise RecipeError(f"{self.path}: {where} must be given") from error
            raise self.fail(nodes[knob], f"{where}: {first['msg']}, not {first['input']!r}") from error


def _check_order(recipe: Recipe) -> None:
    """Each stage's `reads` must be there when it runs. Raises `RecipeError`."""
    there = ["caption"]
    for head, stages in (("plan", recipe.plan), ("clips", recipe.clips)):
        if head == "clips":
            there.append("source")
        for stage in stages:
            if head == "clips" and stage.name in there:
                raise RecipeError(f"{recipe.path}: stage {stage.name!r} stands under `plan:` and under `clips:`")
            for read in stage.reads:
                if not any(fnmatchcase(read, t) or fnmatchcase(t, read) for t in there):
                    where = f"{recipe.path}: {head}.{stage.name}"
                    raise RecipeError(f"{where} reads {read!r}, which no stage before it gives{_giver(read)}")
            there += [stage.name, *stage.writes]
    if "sample_frames" not in there:
        raise RecipeError(f"{recipe.path}: `clips:` needs sample_frames: a sample holds its three frames and their size")


def _giver(read: str) -> str:
    for name in STAGES:
        cls = stage_class(name)
        if name == read or any(fnmatchcase(read, w) or fnmatchcase(w, read) for w in cls.writes):
            return f"; put {name} before it"
    return " at planning time" if read == "source" else ""
