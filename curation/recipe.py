"""A recipe: YAML in, checked stages out. Every knob is one field of one stage; whatever is wrong is said in one line."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import importlib.util
import json
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from yaml.nodes import MappingNode, Node, SequenceNode

from curation import __version__
from curation.fingerprint import libraries
from curation.limits import Limits
from curation.stage import Stage, Window
from curation.store import store
from curation.store.weights import weights_digest

STAGES = {
    "split_shots": "curation.stages.split_shots:SplitShots",
    "sample_frames": "curation.stages.sample_frames:SampleFrames",
    "score_quality": "curation.stages.score_quality:ScoreQuality",
    "extract_entities": "curation.stages.extract_entities:ExtractEntities",
    "segment_entities": "curation.stages.segment_entities:SegmentEntities",
    "crop_faces": "curation.stages.crop_faces:CropFaces",
    "inpaint_background": "curation.stages.inpaint_background:InpaintBackground",
    "score_references": "curation.stages.score_references:ScoreReferences",
    "score_coverage": "curation.stages.score_coverage:ScoreCoverage",
    "encode_latents": "curation.stages.encode_latents:EncodeLatents",
    "encode_captions": "curation.stages.encode_captions:EncodeCaptions",
}
"""Every stage there is: its name in recipes and where its class lives. Imported when a recipe names it."""

PAPER_PACKAGES = ("diffusers", "groundingdino", "segment_anything", "transformers", "ultralytics", "vllm")
PLACEMENT = ("workers", "gpus")
"""Knobs that say where a stage runs, not what it makes: outside the fingerprint."""


class RecipeError(Exception):
    """One line: the file, the line in it, what is wrong and what would be right."""


@dataclass(kw_only=True)
class Units:
    """How planned clips are cut into units: what a worker takes at once, and what is done again when it dies."""

    clips: Annotated[int, Field(ge=1)] = 16
    """Clips that reach the clip stages, per unit. A source's clips stay together up to twice as many."""
    seconds: Annotated[float, Field(gt=0)] = 300.0
    """Seconds of video per unit; a clip of unknown length counts as 30."""


@dataclass(kw_only=True)
class Shards:
    """How finished units are packed."""

    megabytes: Annotated[float, Field(gt=0)] = 512.0
    """A shard is closed by the unit with which it reaches this size."""
    sidecar: Annotated[str, Field(pattern="^([a-z][a-z0-9_]*)?$")] = ""
    """The input must be finished shards, and each gets one beside it, of the same keys in the same order, called by its name and
    this one: `latents` makes shard-00003-0002.latents.tar. Empty: shards of their own, by megabytes."""


@dataclass(kw_only=True)
class Recipe:
    """Caption stages for planning, clip stages for the run, and the shape of units and shards."""

    plan: list[Stage] = field(default_factory=list)
    clips: list[Stage] = field(default_factory=list)
    units: Units = field(default_factory=Units)
    limits: Limits = field(default_factory=Limits)
    shards: Shards = field(default_factory=Shards)
    path: Path = Path()

    def steps(self) -> list[Step]:
        """The clip stages in order, and where what they promised is made: before a stage that reads it, else at the end."""
        steps: list[Step] = []
        owed: list[Stage] = []
        for stage in self.clips:
            due = [s for s in owed if any(matches(read, promise) for read in stage.reads for promise in s.promises)]
            steps += [Step(s, redeem=True) for s in due]
            owed = [s for s in owed if s not in due] + [stage] * bool(stage.promises)
            steps.append(Step(stage))
        return steps + [Step(s, redeem=True) for s in owed]

    def owners(self) -> dict[str, str]:
        """Pattern of members → the stage whose they are."""
        return {pattern: stage.name for stage in self.clips for pattern in stage.writes if not pattern.startswith("_")}

    def resolve(self, known: dict[str, Any] | None = None) -> None:
        """Decide what depends on the machine; `known` is the fingerprint of the run that is gone on with: its decisions stand."""
        for head, stages in (("plan", self.plan), ("clips", self.clips)):
            for stage in stages:
                before = (known or {}).get(head, {}).get(stage.name, {})
                for knob in dataclasses.fields(stage):
                    if getattr(stage, knob.name) == "auto" and knob.name in before:
                        setattr(stage, knob.name, before[knob.name])
                stage.resolve()

    def models(self) -> tuple[str, ...]:
        """Names in the store of everything the stages need, each once."""
        return _models([*self.plan, *self.clips])

    def plan_models(self) -> tuple[str, ...]:
        """Those the caption stages of the plan need."""
        return _models(self.plan)

    def plan_fingerprint(self) -> dict[str, Any]:
        """What decides the plan's content, as plain values to compare and to show."""
        units = dataclasses.asdict(self.units)
        beside = {"sidecar": self.shards.sidecar} if self.shards.sidecar else {}
        return {
            "version": __version__,
            "plan": _knobs(self.plan),
            "units": units,
            "models": self._identities(self.plan),
            **beside,
        }

    def fingerprint(self) -> dict[str, Any]:
        """What decides the shards' bytes: knobs, code version, model hashes, libraries."""
        return {
            "version": __version__,
            "plan": _knobs(self.plan),
            "clips": _knobs(self.clips),
            "shards": {knob: value for knob, value in dataclasses.asdict(self.shards).items() if value != ""},
            "models": self._identities([*self.plan, *self.clips]),
            "libraries": libraries(),
        }

    def _identities(self, stages: list[Stage]) -> dict[str, str]:
        """Each model's hash by its name in the store, and that of any other file as `stage.knob`: by content."""
        found = store.hashes(_models(stages))
        for stage in stages:
            for knob, own in stage.own_files().items():
                try:
                    found[f"{stage.name}.{knob}"] = weights_digest(own)
                except OSError as error:
                    raise RecipeError(f"{self.path}: {stage.name}.{knob}: {error}") from error
        return found


@dataclass(frozen=True)
class Step:
    """One pass of a stage over the samples: its work, or with `redeem` the making of what it promised."""

    stage: Stage
    redeem: bool = False


def matches(a: str, b: str) -> bool:
    """Whether two patterns of members may mean the same one."""
    return fnmatchcase(a, b) or fnmatchcase(b, a)


SHAPES = {"units": Units, "limits": Limits, "shards": Shards}
"""The sections of a recipe that are no list of stages."""


def load(path: str | Path) -> Recipe:
    """Read and check a recipe. Raises `RecipeError`; imports no model."""
    reader = _Reader(Path(path))
    node = reader.read()
    top = reader.mapping(node, "a recipe", ("plan", "clips", *SHAPES))
    recipe = Recipe(
        plan=reader.stages(top.get("plan"), "plan"),
        clips=reader.stages(top.get("clips"), "clips"),
        **{name: reader.knobs(cls, top.get(name), name) for name, cls in SHAPES.items()},
        path=reader.path,
    )
    if not recipe.clips:
        raise RecipeError(f"{path}: `clips:` names no stage; a run needs at least one")
    _check_order(recipe)
    if recipe.shards.sidecar and "mp4" in recipe.owners():
        raise RecipeError(f"{path}: shards.sidecar: {recipe.owners()['mp4']} writes the clips' videos, which are in the shards")
    for i, stage in enumerate(recipe.clips):
        stage.limits = recipe.limits
        stage.serve(reduce(or_, (later.window() for later in recipe.clips[i + 1 :]), Window()))
    return recipe


def sections(path: Path, known: dict[str, type]) -> dict[str, Any]:
    """A YAML file of sections, each the knobs of one dataclass: the trainer's recipes. Raises `RecipeError`.

    `base: FILE` (from this file, or a name in `workflows/`) takes every knob that is not given from another recipe.
    """
    reader, nodes = _based(path, known, ())
    return {name: reader.knobs(cls, nodes.get(name), name) for name, cls in known.items()}


def _based(path: Path, known: dict[str, type], above: tuple[Path, ...]) -> tuple[_Reader, dict[str, Node]]:
    """A file's sections with the knobs of its base beneath. `above`: those that build on it. Raises `RecipeError`."""
    reader = _Reader(path)
    top = reader.mapping(reader.read(), "a training recipe", ("base", *known))
    base = top.pop("base", None)
    if base is None:
        return reader, top
    file = path.parent / str(base.value)
    if not file.is_file():
        file = WORKFLOWS / f"{base.value}.yaml"
    if not isinstance(base, yaml.ScalarNode) or not file.is_file():
        raise reader.fail(base, f"base: no recipe {base.value!r} beside this one, nor such a name in workflows/")
    if file.resolve() in (*above, path.resolve()):
        raise reader.fail(base, f"base: {base.value} is built on this one")
    under_reader, under = _based(file, known, (*above, path.resolve()))
    for name, cls in known.items():
        under_reader.knobs(cls, under.get(name), name)  # what is wrong there is told of there
    for name in {**under, **top}:
        own = reader.mapping(top.get(name), name, _fields(known[name]))
        merged = under_reader.mapping(under.get(name), name, _fields(known[name])) | own
        where = top.get(name) or under[name]
        pairs = [(yaml.ScalarNode("tag:yaml.org,2002:str", key, where.start_mark), value) for key, value in merged.items()]
        top[name] = MappingNode("tag:yaml.org,2002:map", pairs, where.start_mark, where.end_mark)
    return reader, top


def _fields(cls: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(cls))


WORKFLOWS = next(p / "workflows" for p in (Path(__file__).parent, Path(__file__).parents[1]) if (p / "workflows").is_dir())
"""The recipes that come along: in the package when it was built as a wheel, beside it in a checkout."""


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
        nodes = self.mapping(node, what, _fields(cls))
        try:
            values = {k: yaml.SafeLoader("").construct_document(v) for k, v in nodes.items()}
            return adapter(cls).validate_json(json.dumps(values, default=str))
        except yaml.YAMLError as error:
            raise self.fail(node or yaml.ScalarNode("", ""), f"{what}: {getattr(error, 'problem', error)}") from error
        except ValidationError as error:
            first = error.errors()[0]
            if not first["loc"]:  # knobs that do not go together
                raise self.fail(
                    node or yaml.ScalarNode("", ""), f"{what}: {first['msg'].removeprefix('Value error, ')}"
                ) from error
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
            if head == "clips" and stage.name in there and not stage.twice:
                raise RecipeError(f"{recipe.path}: stage {stage.name!r} stands under `plan:` and under `clips:`")
            for read in stage.reads:
                if not any(matches(read, t) for t in there):
                    where = f"{recipe.path}: {head}.{stage.name}"
                    raise RecipeError(f"{where} reads {read!r}, which no stage before it gives{_giver(read)}")
            there += [stage.name, *stage.writes]


def _giver(read: str) -> str:
    for name in STAGES:
        cls = stage_class(name)
        if name == read or any(matches(read, w) for w in cls.writes):
            return f"; put {name} before it"
    return " at planning time" if read == "source" else ""
