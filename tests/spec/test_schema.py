"""The published JSON Schema: fresh, valid, and open to what an editor must accept."""

import json
from pathlib import Path

import jobc
import pytest
from jobc.spec import shape
from jobc.spec.schema import render
from jsonschema import Draft202012Validator

COMMITTED = Path(__file__).parents[2] / "schemas" / "job.schema.json"


@pytest.fixture(scope="module")
def schema():
    return Draft202012Validator(json.loads(COMMITTED.read_text()))


def test_committed_schema_is_fresh():
    """The schema is what the typed model says today; `make generate` writes it."""
    assert COMMITTED.read_text() == render(), "run: make generate"


def test_package_carries_the_committed_schema():
    """What is installed validates with the same schema."""
    assert (Path(jobc.__file__).parent / "schemas" / "job.schema.json").read_text() == COMMITTED.read_text()


def test_schema_is_valid_draft_2020_12(schema):
    """The schema keeps to its own meta-schema."""
    Draft202012Validator.check_schema(schema.schema)


@pytest.mark.parametrize(
    "document",
    [
        {"script": "train.py"},
        {"script": "train.py", "hardware": "cpu", "nodes": 2, "precision": "no"},
        {"script": "train.py", "hardware": {"kind": "cpu", "per_node": "${vars.n}"}, "paradigm": "${vars.p}"},
        {"script": "train.py", "args": [1, "a", True, None], "env": {"A": 1}, "training": None, "nodes": "${vars.n}"},
    ],
)
def test_schema_accepts_what_a_person_may_write(schema, document):
    """Shorthands, interpolations, empty blocks and unquoted words are no errors in an editor."""
    assert not list(schema.iter_errors(document))


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({"precision": "bf61"}, ["precision"]),
        ({"hardware": {"kind": "cpu", "pernode": 1}}, ["hardware"]),
        ({"nodes": 0}, ["nodes"]),
        ({"training": {"scheduler": {"step": "x"}}}, ["training", "scheduler", "step"]),
    ],
)
def test_schema_alone_places_an_error(schema, document, path):
    """An editor that knows only the schema points at the same value as jobc."""
    assert [list(error.absolute_path) for error in schema.iter_errors(document)] == [path]


def test_every_field_has_one_sentence():
    """A field without a sentence has no help text, no schema description and no docs."""

    def fields(block, path):
        for name, field in block.get("properties", {}).items():
            yield f"{path}.{name}", field

    blocks = {"job": shape.job_schema(), **shape.job_schema()["$defs"]}
    for name, block in blocks.items():
        for path, field in fields(block.get("then", block) if "x-kinds" not in block else {}, name):
            assert field["description"].endswith("."), path
