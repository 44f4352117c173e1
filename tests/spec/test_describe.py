"""Fields in words, as `jobc explain`, the completion and the reference page show them."""

import pytest
from jobc.spec import shape
from jobc.spec.describe import fields, fields_at, kinds_at


def test_every_field_has_a_sentence_and_a_type():
    """What is not explained cannot be used."""
    for field in fields():
        assert field.doc.endswith((".", "?")), field.path
        assert field.type, field.path


def test_every_top_level_key_is_described():
    """The fields are those of the schema."""
    assert {field.path for field in fields() if "." not in field.path} == set(shape.job_schema()["properties"])


@pytest.mark.parametrize(
    ("path", "type_", "default"),
    [
        ("training.seed", "an integer, 0 to 4294967295", "unset"),
        ("training.dataloader.even_batches", "true or false", "true"),
        ("args", "a list of texts", "empty"),
        ("nodes", "an integer, 1 to 65536, or a block", "1"),
        ("paradigm.static_graph", "true or false", "false"),
        ("name", "text", "derived: the script, module or command"),
    ],
)
def test_field_says_its_type_and_default(path, type_, default):
    """In a person's words, not in the schema's."""
    (field,) = fields_at(path)
    assert (field.type, field.default) == (type_, default)


def test_key_of_several_kinds_is_described_for_each():
    """A GPU count may be `all`, a CPU count may not."""
    choices = {field.kind: field.choices for field in fields_at("hardware.per_node")}
    assert choices["gpu"] == ("all",)
    assert choices["cpu"] == ()


def test_kinds_have_sentences():
    """Each kind says what it is."""
    assert kinds_at("precision")["bf16"].startswith("Forward passes under bfloat16")
    assert kinds_at("training") == {}
