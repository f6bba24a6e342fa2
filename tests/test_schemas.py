from __future__ import annotations

import json

import jsonschema
import pytest
import yaml

from curation import recipe, schemas
from curation.store import store
from tests.conftest import ROOT


def test_the_published_schemas_are_what_the_code_says():
    published = {p.name: json.loads(p.read_text(encoding="utf-8")) for p in (ROOT / "schemas").glob("*.json")}
    assert published == schemas.all_schemas(), "run `make schemas`"


def test_the_notice_is_what_the_stores_table_says():
    assert (ROOT / "NOTICE").read_text(encoding="utf-8") == store.notice(), "run `make schemas`"


@pytest.mark.parametrize("path", sorted(recipe.WORKFLOWS.glob("*.yaml")), ids=lambda p: p.stem)
def test_the_recipes_we_ship_fit_their_schema(path):
    kinds = {"train-codec": "codec", "train-": "training", "": "recipe"}
    kind = next(kind for start, kind in kinds.items() if path.stem.startswith(start))
    jsonschema.validate(yaml.safe_load(path.read_text()), schemas.all_schemas()[f"{kind}.schema.json"])


def test_the_recipe_schema_refuses_what_the_reader_refuses():
    schema = schemas.all_schemas()["recipe.schema.json"]
    for bad in ({"clip": []}, {"clips": [{"split_shots": {"min_second": 1}}]}, {"clips": ["nothing"]}, {}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, schema)


def test_the_training_schema_refuses_what_the_reader_refuses():
    schema = schemas.all_schemas()["training.schema.json"]
    good = {"data": {"buckets": "v1"}, "training": {"steps": 1}}
    jsonschema.validate(good, schema)
    for bad in ({}, {"training": {"steps": 1}}, good | {"model": {"sizes": "tiny"}}, good | {"training": {"steps": 0}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, schema)
