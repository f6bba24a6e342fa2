"""A hook of MkDocs: writes the pages under reference/ from the schemas, the stages' classes and the command line."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from typer.cli import get_docs_for_click

from curation import cli, recipe
from curation.columns import COLUMNS

SCHEMAS = Path(__file__).parents[1] / "schemas"
NAMES = {"number": "number", "integer": "whole number", "string": "text", "boolean": "true or false", "null": "null"}
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<", "multipleOf": "a multiple of"}
Schema = dict[str, Any]
NOTES = "`PAPER.md` and `FEASIBILITY.md` are the project's notes on the papers and on what was measured; they are not published."


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages, and the schemas themselves beside them."""
    pages = {
        "recipe.md": stages(),
        "training.md": training(),
        "codec.md": codec(),
        "sample.md": sample(),
        "ledger.md": tables(),
        "cli.md": commands(),
    }
    schemas = {path.name: path.read_text(encoding="utf-8") for path in SCHEMAS.glob("*.json")}
    for name, content in {**pages, **schemas}.items():
        files.append(File.generated(config, f"reference/{name}", content=content))
    return files


def schema(name: str) -> Schema:
    return json.loads((SCHEMAS / f"{name}.schema.json").read_text(encoding="utf-8"))


def kind(node: Schema) -> str:
    """What may stand there, in words."""
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if values := node.get("enum", [node["const"]] if "const" in node else []):
        return ", ".join(f"`{json.dumps(value)}`" for value in values)
    if choices := node.get("anyOf") or node.get("oneOf"):
        return " or ".join(map(kind, choices))
    if node.get("type") == "array":
        count = f"{node['minItems']} × " if "minItems" in node and node["minItems"] == node.get("maxItems") else "list of "
        return count + kind(node.get("items", {}))
    if node.get("type") == "object":
        values = node.get("additionalProperties")
        return f"object of {kind(values)}" if isinstance(values, dict) else "object"
    limits = [f"{sign} {node[name]:g}" for name, sign in BOUNDS.items() if name in node]
    return ", ".join([NAMES.get(str(node.get("type")), "anything"), *limits])


def fields(node: Schema) -> str:
    """A table of an object's fields; without any, nothing."""
    rows = ["| field | what stands there | default | |", "|---|---|---|---|"]
    for name, field in node.get("properties", {}).items():
        default = f"`{json.dumps(field['default'], ensure_ascii=False)}`" if "default" in field else "—"
        rows.append(f"| `{name}` | {kind(field)} | {default} | {' '.join(field.get('description', '').split())} |")
    return "\n".join(rows) if len(rows) > 2 else ""


def section(title: str, node: Schema, more: str = "") -> str:
    return "\n\n".join(part for part in (f"## {title}", node.get("description", ""), more, fields(node)) if part)


def stages() -> str:
    found = schema("recipe")
    parts = [f"# Recipe\n\nGenerated from the code; the same as a [JSON Schema](recipe.schema.json). {NOTES}"]
    parts += ["Every stage also takes `workers` (how many; `null` lets the engine choose) and `gpus` (of each worker)."]
    for name in recipe.STAGES:
        node = found["$defs"][name]
        own = {k: v for k, v in node["properties"].items() if k not in recipe.PLACEMENT}
        cls = recipe.stage_class(name)
        reads, writes = (", ".join(f"`{m}`" for m in members) or "nothing" for members in (cls.reads, cls.writes))
        parts.append(section(name, {**node, "properties": own}, f"Reads {reads}; writes {writes}."))
    parts += [section(name, node) for name, node in found["$defs"].items() if name not in recipe.STAGES]
    return "\n\n".join([*parts, *(section(name, found["properties"][name]) for name in recipe.SHAPES)])


def training() -> str:
    return sections("training", "Training recipe")


def codec() -> str:
    return sections("codec", "Codec recipe")


def sections(name: str, title: str) -> str:
    found = schema(name)
    parts = [f"# {title}\n\nGenerated from the code; the same as a [JSON Schema]({name}.schema.json). {NOTES}"]
    parts += [section(name, node) for name, node in found["properties"].items()]
    return "\n\n".join([*parts, *(section(name, node) for name, node in found["$defs"].items())])


def sample() -> str:
    found = schema("clip")
    owners = recipe.find("embedded").owners().items()
    members = "\n".join(["| member | made by |", "|---|---|", *(f"| `KEY.{member}` | {stage} |" for member, stage in owners)])
    parts = ["# Sample on disk", f"What `workflows/embedded.yaml` publishes beside `KEY.json`:\n\n{members}"]
    parts += ["`?` is one of 0, 1, 2; `*` stands for entity and frame. A cut-out is RGBA, and its alpha is the mask."]
    parts += ["`KEY.json` is generated from the code; the same as a [JSON Schema](clip.schema.json)."]
    parts += [section("KEY.json", {"description": found["description"], **found})]
    return "\n\n".join([*parts, *(section(name, node) for name, node in found["$defs"].items())])


def tables() -> str:
    parts = ["# Plan and ledger", "Parquet, one row per clip. Generated from the code."]
    for title, module in {"Ledger": "curation.ledger", "Plan": "curation.shards.planned"}.items():
        columns: pa.Schema = importlib.import_module(module).SCHEMA
        lines = (f"| `{c.name}` | `{c.type}` | {COLUMNS[c.name].says if c.name in COLUMNS else ''} |" for c in columns)
        rows = "\n".join(["| column | type | |", "|---|---|---|", *lines])
        parts += [f"## {title}", said_of("SCHEMA", module), rows]
    return "\n\n".join(parts)


def said_of(name: str, module: str) -> str:
    """The string below an assignment."""
    nodes = ast.parse(inspect.getsource(importlib.import_module(module))).body
    said = {n.targets[0].id: after for n, after in zip(nodes, nodes[1:], strict=False) if isinstance(n, ast.Assign)}
    return inspect.cleandoc(ast.literal_eval(said[name].value))


def commands() -> str:
    command = typer.main.get_command(cli.app)
    context = command.make_context("curation", [], resilient_parsing=True)
    return get_docs_for_click(obj=command, ctx=context, name="curation", title="Command line")
