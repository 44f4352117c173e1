"""Every field of the document in words: its path, type, choices, default and sentence, read from the published schema.

`jobc explain`, the shells' completion and the reference page speak of fields through this module.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec

from . import shape
from .capabilities import PLANNED
from .untyped import as_dict, as_list

Schema = dict[str, Any]


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One field or block of the document.

    `kind` is the kind of its block that has it, where not every kind does the same. `word` says whether a single value
    may stand at the path, `keys` whether the path has paths below it.
    """

    path: str
    doc: str
    type: str
    default: str
    kind: str = ""
    choices: tuple[str, ...] = ()
    word: bool = True
    keys: bool = False


def fields() -> tuple[Field, ...]:
    """Every field, in the order of the schema; what belongs to one kind of a block comes with that kind."""
    return _fields(shape.edition())


@cache
def _fields(_: int) -> tuple[Field, ...]:
    return tuple(_walk(shape.job_schema()["properties"], "", ""))


def fields_at(path: str) -> tuple[Field, ...]:
    """The fields of a path: one for each kind of its block that has it; empty for an unknown path."""
    return tuple(field for field in fields() if field.path == path.removesuffix(".kind"))


def fields_below(path: str) -> tuple[Field, ...]:
    """Every field below a path."""
    return tuple(field for field in fields() if field.path.startswith(f"{path}."))


def kinds_at(path: str) -> dict[str, str]:
    """The kinds of a block with the sentence of each; empty where the block has one form."""
    schema = _schema_at(path)
    later = {item.kind for item in PLANNED if item.block == path}
    return {
        word: f"{block['description']} (It can be planned, and not run yet.)" if word in later else block["description"]
        for word, block in ({} if schema is None else shape.kinds(schema)).items()
    }


def sentence(schema: Schema) -> str:
    """The one sentence of a field."""
    return schema.get("description") or shape.target(schema).get("description", "")


def _schema_at(path: str) -> Schema | None:
    keys: Schema = shape.job_schema()["properties"]
    schema: Schema | None = None
    for part in path.split("."):
        schema = keys.get(part)
        if schema is None:
            return None
        keys = {key: found for block in _forms(schema).values() for key, found in block.items()}
    return schema


def _forms(schema: Schema) -> dict[str, Schema]:
    """The keys of a block, by kind; under `""` where it has one form."""
    if not shape.is_block(schema):
        return {}
    choices = shape.kinds(schema)
    if not choices:
        return {"": shape.properties(schema)}
    return {word: {k: v for k, v in block["properties"].items() if k != "kind"} for word, block in choices.items()}


def _walk(keys: Schema, prefix: str, kind: str) -> Iterator[Field]:
    for key, schema in keys.items():
        path = f"{prefix}.{key}" if prefix else key
        forms = _forms(schema)
        yield _field(path, schema, kind, forms)
        for word, block in forms.items():
            yield from _walk(block, path, word or kind)


def _field(path: str, schema: Schema, kind: str, forms: dict[str, Schema]) -> Field:
    if not forms:
        leaf = shape.leaf(schema)
        choices = _choices(leaf)
        return Field(
            path=path,
            doc=sentence(schema),
            type=type_words(leaf),
            default=_default_words(schema),
            kind=kind,
            choices=choices,
            word="object" not in _types(leaf),
            keys="object" in _types(leaf),
        )
    short = shape.shorthand(schema)
    words = tuple(shape.kinds(schema))
    if short is not None and not words:
        inner = shape.properties(schema)[short]
        type_, default = f"{type_words(shape.leaf(inner))}, or a block", _default_words(inner)
    else:
        type_ = f"{_either(words)}, or a block with that `kind`" if words else "a block"
        default = _default_words(schema) if words else ""
    return Field(
        path=path,
        doc=sentence(schema),
        type=type_,
        default=default,
        kind=kind,
        choices=words,
        word=short is not None,
        keys=any(forms.values()),
    )


def type_words(leaf: Schema) -> str:
    """The type of a leaf in words: `an integer, 1 to 1024, or `all``."""
    if "enum" in leaf:
        return _either(tuple(str(word) for word in leaf["enum"] if word is not None))
    if "then" in leaf:
        return f"{type_words(leaf['else'])}, or {_either(_choices(leaf['then']))}"
    names = _types(leaf)
    if "array" in names:
        return f"a list of {_plural(leaf.get('items'))}"
    if "object" in names:
        return f"a mapping of names to {_plural(leaf.get('additionalProperties'))}"
    if "string" in names:
        return "text"
    if "boolean" in names:
        return "true or false"
    return ("an integer" if "integer" in names else "a number") + _bounds(leaf)


def _plural(schema: Any) -> str:
    found = as_dict(schema)
    names = _types(shape.leaf(found)) if found else []
    if "string" in names:
        return "texts"
    if "integer" in names or "number" in names:
        return "numbers"
    return "blocks" if "object" in names else "values"


def _bounds(leaf: Schema) -> str:
    low, high = leaf.get("minimum"), leaf.get("maximum")
    if low is not None and high is not None:
        return f", {low} to {high}"
    words = {"minimum": "at least", "maximum": "at most", "exclusiveMinimum": "above", "exclusiveMaximum": "below"}
    return "".join(f", {word} {leaf[key]}" for key, word in words.items() if key in leaf)


def _types(leaf: Schema) -> list[str]:
    kinds = leaf.get("type", [])
    return [kinds] if isinstance(kinds, str) else [kind for kind in kinds if kind != "null"]


def _choices(leaf: Schema) -> tuple[str, ...]:
    if "enum" in leaf:
        return tuple(str(word) for word in leaf["enum"] if word is not None)
    if "then" in leaf:
        return _choices(leaf["then"])
    return ("true", "false") if _types(leaf) == ["boolean"] else ()


def _default_words(schema: Schema) -> str:
    if "default" in schema:
        value = schema["default"]
        items, block = as_list(value), as_dict(value)
        if items == [] or block == {}:
            return "empty"
        return value if isinstance(value, str) else json.dumps(value)
    if "x-derived" in schema:
        return f"derived: {schema['x-derived']}"
    return "unset"


def _either(words: tuple[str, ...]) -> str:
    quoted = [f"`{word}`" for word in words]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"
