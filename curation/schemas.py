"""The published schemas, generated from the code: `python -m curation.schemas schemas/`. A test fails when they drift."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation import columns, ledger, recipe
from curation.run import plan
from curation.shards.clip import Clip
from curation.trainer import codec_config, config

DRAFT = "https://json-schema.org/draft/2020-12/schema"
TYPES = {
    **dict.fromkeys((pa.int16(), pa.int32(), pa.int64()), "integer"),
    **dict.fromkeys((pa.float32(), pa.float64()), "number"),
    pa.string(): "string",
}


def all_schemas() -> dict[str, dict[str, Any]]:
    """File name → JSON Schema."""
    return {
        "clip.schema.json": {"$schema": DRAFT, **Clip.model_json_schema()},
        "ledger.schema.json": _table(ledger.SCHEMA, "ledger", "One row of shards/shard-GGGGG-NNNN.parquet"),
        "plan.schema.json": _table(plan.SCHEMA, "plan", "One row of plan/part-NNNNN.parquet"),
        "recipe.schema.json": _recipe(),
        "training.schema.json": _sections(config.SECTIONS, "training recipe", "workflows/train-*.yaml, but those of codecs"),
        "codec.schema.json": _sections(codec_config.SECTIONS, "codec recipe", "workflows/train-codec*.yaml"),
    }


def _table(schema: pa.Schema, title: str, description: str) -> dict[str, Any]:
    properties = {}
    for column in schema:
        if pa.types.is_map(column.type):
            properties[column.name] = {"type": "object", "additionalProperties": {"type": "number"}}
        elif pa.types.is_list(column.type):
            properties[column.name] = {"type": ["array", "null"], "items": {"type": TYPES[column.type.value_type]}}
        else:
            properties[column.name] = {"type": [TYPES[column.type], "null"]}
        if column.name in columns.COLUMNS:
            properties[column.name]["description"] = columns.COLUMNS[column.name].says
    head = {"$schema": DRAFT, "title": title, "description": description, "type": "object"}
    return {**head, "properties": properties, "required": list(properties), "additionalProperties": False}


def _recipe() -> dict[str, Any]:
    """Any stage may stand under either head; a stage is its bare name or its name with its knobs."""
    definitions: dict[str, Any] = {}
    choices = []
    for name in recipe.STAGES:
        schema = recipe.adapter(recipe.stage_class(name)).json_schema()
        definitions |= schema.pop("$defs", {})
        definitions[name] = schema
        knobs = {"anyOf": [{"$ref": f"#/$defs/{name}"}, {"type": "null"}]}
        choices.append({"type": "object", "properties": {name: knobs}, "required": [name], "additionalProperties": False})
    stages = {"type": "array", "items": {"anyOf": [{"enum": list(recipe.STAGES)}, *choices]}}
    return {
        "$schema": DRAFT,
        "title": "recipe",
        "description": "workflows/*.yaml: caption stages for planning, clip stages for the run, the shape of the shards",
        "type": "object",
        "properties": {"plan": stages, "clips": stages, **{n: recipe.adapter(c).json_schema() for n, c in recipe.SHAPES.items()}},
        "required": ["clips"],
        "additionalProperties": False,
        "$defs": definitions,
    }


def _sections(sections: dict[str, Any], title: str, description: str) -> dict[str, Any]:
    """What must be given may also stand in the base."""
    definitions: dict[str, Any] = {}
    properties: dict[str, Any] = {
        "base": {"type": "string", "description": "The recipe whose knobs are taken where none is given."}
    }
    required = {}
    for name, cls in sections.items():
        schema = recipe.adapter(cls).json_schema()
        definitions |= schema.pop("$defs", {})
        if needed := schema.pop("required", []):
            required[name] = {"required": needed}
        properties[name] = schema
    return {
        "$schema": DRAFT,
        "title": title,
        "description": description,
        "type": "object",
        "properties": properties,
        "anyOf": [{"required": ["base"]}, {"required": [*required], "properties": required}],
        "additionalProperties": False,
        "$defs": definitions,
    }


def write(folder: Path) -> None:
    """Write every schema into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, schema in all_schemas().items():
        (folder / name).write_text(json.dumps(schema, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "schemas"))
