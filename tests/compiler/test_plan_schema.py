"""The published JSON Schema of a plan: fresh, valid, and true of every plan."""

import json
from pathlib import Path

import msgspec
import pytest
from jobc.compiler.plan import encode
from jobc.compiler.saved import to_file
from jobc.compiler.schema import render
from jsonschema import Draft202012Validator

COMMITTED = Path(__file__).parents[2] / "schemas" / "plan.schema.json"
JOBS = (
    "script: train.py\n",
    "module: pkg.train\nargs: [a, '$x']\nenv: {A: b}\nsecrets: [TOKEN]\n",
    "script: train.py\nhardware: {kind: cpu, per_node: 3}\nlauncher: python\n",
    "command: [./go]\nhardware: {kind: cpu, per_node: 2}\nnodes: {rendezvous: {port: 29511}}\n",
)


@pytest.fixture(scope="module")
def schema():
    return Draft202012Validator(json.loads(COMMITTED.read_text()))


def test_committed_schema_is_fresh():
    """The schema is what the classes say today; `make generate` writes it."""
    assert COMMITTED.read_text() == render(), "run: make generate"


def test_schema_is_valid_draft_2020_12(schema):
    """The schema keeps to its own meta-schema."""
    Draft202012Validator.check_schema(schema.schema)


@pytest.mark.parametrize("text", JOBS)
def test_plans_follow_the_schema(schema, planned, folder, text):
    """What is printed and what is saved."""
    plan = planned(text)
    for raw in (encode(plan), to_file(plan, folder / "plan.json", folder)):
        assert not list(schema.iter_errors(json.loads(raw)))


def test_schema_refuses_what_is_no_plan(schema, planned):
    """A step of no kind, a field that nobody knows."""
    plan = msgspec.json.decode(encode(planned(JOBS[0])))
    assert list(schema.iter_errors({**plan, "submit": [{"kind": "dance"}]}))
    assert list(schema.iter_errors({**plan, "more": 1}))
    assert list(schema.iter_errors({key: value for key, value in plan.items() if key != "nodes"}))
