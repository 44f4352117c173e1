"""What the published schema says about a place in the document: its keys, kinds, defaults and sentences.

The schema is data; this module reads it, so that loading a job needs no introspection of the typed model.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from .tree import DEFAULT, Entry, Mapping, Node, Scalar, Sequence, Value
from .tree import Path as TreePath
from .untyped import as_dict, as_list

Schema = dict[str, Any]

SCHEMA_FILE = Path(__file__).parent.parent / "schemas" / "job.schema.json"


#: The published schema with what plugins add, each of them longer than the one before.
_EXTENDED: list[Schema] = []


@cache
def published() -> Schema:
    """The committed JSON Schema of a job."""
    return msgspec.json.decode(SCHEMA_FILE.read_bytes())


def job_schema() -> Schema:
    """The JSON Schema of a job: the committed one, and what plugins added that a document named."""
    return _EXTENDED[-1] if _EXTENDED else published()


def extend(schema: Schema) -> None:
    """Use a schema with more in it from now on."""
    _EXTENDED.append(schema)


def edition() -> int:
    """A number that grows with the schema in use, for what is made from it once."""
    return len(_EXTENDED)


def target(schema: Schema) -> Schema:
    """The schema that a `$ref` points to, or the schema itself."""
    ref = schema.get("$ref")
    return schema if ref is None else job_schema()["$defs"][ref.rpartition("/")[2]]


def shorthand(schema: Schema) -> str | None:
    """The key for which a single value may stand instead of the block."""
    return target(schema).get("x-shorthand")


def kinds(schema: Schema) -> dict[str, Schema]:
    """The kinds of a block by their word; empty where a block has one form."""
    names: dict[str, str] = target(schema).get("x-kinds", {})
    return {word: job_schema()["$defs"][name] for word, name in names.items()}


def properties(schema: Schema, node: Node | None = None) -> Schema:
    """The keys that a block may have; of a block with kinds, those of the kind that the node chose."""
    found = target(schema)
    choices = kinds(schema)
    if choices:
        chosen = node.get("kind") if isinstance(node, Mapping) else None
        word = chosen.value if isinstance(chosen, Scalar) else None
        return choices[word]["properties"] if isinstance(word, str) and word in choices else {}
    if "then" in found and "properties" in found["then"]:
        return found["then"]["properties"]
    return found.get("properties", {})


def is_block(schema: Schema) -> bool:
    """Whether the place holds a mapping with known keys."""
    return "$ref" in schema and schema["$ref"] != "#/$defs/interpolation"


def leaf(schema: Schema) -> Schema:
    """What a leaf must be once interpolations are resolved."""
    return schema["else"] if schema.get("if") == {"$ref": "#/$defs/interpolation"} else schema


def at(path: TreePath, root: Mapping) -> Schema | None:
    """The schema of a path in a document whose kinds are chosen; None below a free mapping or off the map."""
    schema: Schema = {"$ref": "#"}
    here: Node | None = root
    keys: Schema = job_schema()["properties"]
    for part in path:
        if isinstance(part, int):
            schema, keys = leaf(schema).get("items", {}), {}
            here = None
            continue
        if part not in keys:
            extra = as_dict(leaf(schema).get("additionalProperties"))
            if extra is None:
                return None
            schema, keys = extra, {}
            continue
        schema = keys[part]
        here = here.get(part) if isinstance(here, Mapping) else None
        keys = properties(schema, here) if is_block(schema) else {}
    return schema


def normal(root: Mapping) -> Mapping:
    """The document in its long form with every static default filled in.

    A single value that is short for a block becomes the block, an empty block becomes its defaults. Values that do not
    fit are left as they are for the validation to name. Doing it twice changes nothing.
    """
    return _fill(root, job_schema()["properties"])


def _fill(block: Mapping, fields: Schema) -> Mapping:
    for key, schema in fields.items():
        entry = block.entry(key)
        if is_block(schema):
            value = _expand(entry.value if entry is not None else None, schema)
            if value is None:
                block = block.without(key)  # `paradigm:` is one that was not written
                continue
            if isinstance(value, Mapping):
                value = _fill(value, properties(schema, value))
            block = block.put(Entry(key, entry.origin if entry is not None else DEFAULT, value))
        elif entry is None and "default" in schema:
            block = block.put(Entry(key, DEFAULT, _default_node(schema["default"])))
    return block


def _expand(value: Node | None, schema: Schema) -> Node | None:
    """A block in its long form, made from nothing, from its one word, or from a mapping without its `kind`."""
    short = shorthand(schema)
    default = schema.get("default")
    if value is None or (isinstance(value, Scalar) and value.value is None):
        if short == "kind" and default is None:
            return None  # derived
        value = Mapping((), DEFAULT)
    if isinstance(value, Scalar) and short is not None and not _is_interpolated(value):
        return Mapping((Entry(short, value.origin, value),), value.origin)
    if isinstance(value, Mapping) and short == "kind" and value.get("kind") is None and default is not None:
        kind = Entry("kind", DEFAULT, Scalar(default, str(default), DEFAULT))
        return Mapping((kind, *value.entries), value.origin)
    return value


def _is_interpolated(node: Scalar) -> bool:
    return isinstance(node.value, str) and "${" in node.value


def _default_node(value: Any) -> Node:
    if isinstance(value, dict):
        return Mapping((), DEFAULT)
    items = as_list(value)
    if items is not None:
        return Sequence(tuple(_default_node(item) for item in items), DEFAULT)
    scalar: Value = value
    return Scalar(scalar, str(scalar), DEFAULT)
