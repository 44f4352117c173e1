"""Checks a document against the published schema and says what is wrong in people's words.

jsonschema finds the faults; this module names them: code, place, cause, next step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any, cast

from jsonschema import Draft202012Validator, TypeChecker, ValidationError, validators

from . import plugins, shape
from .findings import Finding, did_you_mean, nearest
from .sources import Sources
from .tree import Mapping, Node, Origin, Path, Scalar, Sequence, dotted, find, leaves, plain
from .untyped import as_list

_LARGEST = 2**63 - 1  # numbers beyond 64 bits have no exact place in JSON


def validate(root: Mapping, sources: Sources) -> list[Finding]:
    """Every fault of a document in its long form with interpolations resolved, in the order of the document."""
    faults = [
        finding
        for error in _validator(shape.edition()).iter_errors(plain(root))
        for finding in _explain(error, root, sources)
    ]
    faults += _numbers(root, sources)
    return sorted(faults, key=lambda fault: (fault.place is None, _order(fault)))


def _order(fault: Finding) -> tuple[str, int, int]:
    place = fault.place
    return ("", 0, 0) if place is None else (place.source, place.line or 0, place.column or 0)


@cache
def _validator(_: int) -> Any:
    """A validator for documents without interpolations: the door that the published schema leaves open is closed."""
    schema = dict(shape.job_schema())
    schema["$defs"] = {**schema["$defs"], "interpolation": False}
    checker: TypeChecker = Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer)
    extend = cast("Any", validators.extend)  # pyright: ignore[reportUnknownMemberType]
    strict: Any = extend(Draft202012Validator, type_checker=checker)
    return strict(schema)


def _is_integer(_: TypeChecker, value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _explain(  # noqa: C901 - one short case for each keyword of the schema
    error: ValidationError, root: Mapping, sources: Sources
) -> Iterator[Finding]:
    path: Path = tuple(error.absolute_path)
    node = find(root, path)
    origin = _where(root, path)
    name = dotted(_as_written(root, path, sources))
    schema: dict[str, Any] = error.schema if isinstance(error.schema, dict) else {}
    match error.validator:
        case "additionalProperties" if isinstance(node, Mapping):
            known = list(schema.get("properties", {}))
            for entry in node.entries:
                if entry.key not in known:
                    yield _unknown_key(entry.key, entry.origin, path, known, root, sources)
        case "type":
            cause = f"`{name}` is {_words(error.validator_value)}, here it is {_read(node)}"
            step = _block_hint(schema, name)
            yield sources.finding("J104", origin, cause, step)
        case "enum" | "const":
            yield _not_a_choice(error, node, name, origin, sources)
        case "required":
            yield _missing(error, path, node, origin, sources)
        case "minimum" | "exclusiveMinimum" | "maximum" | "exclusiveMaximum":
            yield sources.finding("J106", origin, f"`{name}` is {_bound(schema)}, here it is {_read(node)}")
        case "pattern":
            wanted = schema.get("x-form") or _form(root, path) or f"text of the form {schema.get('pattern')}"
            if "propertyNames" in error.absolute_schema_path:
                key = str(error.instance)
                entry = node.entry(key) if isinstance(node, Mapping) else None
                here = entry.origin if entry is not None else origin
                yield sources.finding("J106", here, f"`{key}` in `{name}` is not {wanted}")
            else:
                yield sources.finding("J106", origin, f"`{name}` is {wanted}; here it is {_read(node)}")
        case "minLength" | "minItems":
            yield sources.finding("J106", origin, f"`{name}` is empty", "give it a value, or leave it out")
        case _:
            yield sources.finding("J104", origin, f"`{name}`: {error.message}")


def _as_written(root: Mapping, path: Path, sources: Sources) -> Path:
    """The path as the person wrote it: `precision: bf61` is about `precision`, not about `precision.kind`."""
    block, value = find(root, path[:-1]), find(root, path)
    if len(path) < 2 or block is None or value is None or value.origin.layer == "default":
        return path
    if value.origin.layer == "override":
        said = (sources.place(value.origin).excerpt or "").lstrip("+").partition("=")[0]
        return path[:-1] if said == dotted(path[:-1]) else path
    return path[:-1] if block.origin == value.origin else path


def _where(root: Mapping, path: Path) -> Origin:
    """The origin of a value, or of the nearest block above it that a person wrote."""
    node = find(root, path)
    if node is not None and node.origin.layer != "default":
        return node.origin
    for length in range(len(path), 0, -1):
        above = find(root, path[: length - 1])
        entry = above.entry(str(path[length - 1])) if isinstance(above, Mapping) else None
        if entry is not None and entry.origin.layer != "default":
            return entry.origin
    return node.origin if node is not None else root.origin


def _unknown_key(key: str, origin: Origin, path: Path, known: list[str], root: Mapping, sources: Sources) -> Finding:
    name = dotted((*path, key))
    owners = _kinds_with(key, path)
    block = find(root, path)
    if owners and isinstance(block, Mapping):
        kind = block.get("kind")
        word = kind.value if isinstance(kind, Scalar) else "?"
        cause = f"`{name}` does not go with `{dotted(path)}: {word}`"
        return sources.finding("J110", origin, cause, f"`{key}` belongs to the kind {_list(owners)}")
    hint = did_you_mean(key, known)
    if hint is None:
        elsewhere = _levels_with(key, root)
        if elsewhere:
            hint = f"did you mean `{elsewhere[0]}`?"
        elif known:
            hint = f"known here: {', '.join(known)}"
    return sources.finding("J103", origin, f"unknown key `{name}`", hint)


def _kinds_with(key: str, path: Path) -> list[str]:
    """The kinds of a block that have a key, where the block has kinds."""
    schema = shape.job_schema()["properties"].get(path[0]) if len(path) == 1 else None
    if schema is None:
        return []
    return [word for word, block in shape.kinds(schema).items() if key in block["properties"]]


def _levels_with(key: str, root: Mapping) -> list[str]:
    """Paths of the document that end in a key: where it would be known."""
    found: list[str] = []

    def search(fields: dict[str, Any], path: Path, node: Node | None) -> None:
        for name, schema in fields.items():
            if name == key:
                found.append(dotted((*path, name)))
            if shape.is_block(schema):
                below = node.get(name) if isinstance(node, Mapping) else None
                search(shape.properties(schema, below), (*path, name), below)

    search(shape.job_schema()["properties"], (), root)
    return found


def _not_a_choice(error: ValidationError, node: Node | None, name: str, origin: Origin, sources: Sources) -> Finding:
    choices: list[Any] = as_list(error.validator_value) or [error.validator_value]
    words = [str(choice) for choice in choices if choice is not None]
    if name == "version":
        step = "this jobc reads version 1"
        return sources.finding("J113", origin, f"`version` is {_read(node)}", step)
    words += [word for word in plugins.names(name.removesuffix(".kind")) if word not in words]
    cause = f"`{name}` is {_list(words)}, here it is {_read(node)}"
    near = nearest(str(node.value), words) if isinstance(node, Scalar) else None
    return sources.finding("J105", origin, cause, f"did you mean `{near}`?" if near is not None else None)


def _missing(error: ValidationError, path: Path, node: Node | None, origin: Origin, sources: Sources) -> Finding:
    keys = [entry.key for entry in node.entries] if isinstance(node, Mapping) else []
    schema = shape.job_schema()["properties"].get(path[0]) if path else None
    words = list(shape.kinds(schema)) if schema is not None else []
    owners = [
        word
        for word in words
        if schema is not None and all(key in shape.kinds(schema)[word]["properties"] for key in keys)
    ]
    name = dotted(path)
    missing = next(key for key in as_list(error.validator_value) or [] if key not in keys)
    step = f"say which: `{missing}: {owners[0]}`" if len(owners) == 1 else f"say which: {_list(words)}"
    return sources.finding("J107", origin, f"`{name}` has no `{missing}`", step)


def _form(root: Mapping, path: Path) -> str | None:
    schema = shape.at(path, root)
    return None if schema is None else schema.get("x-form") or shape.leaf(schema).get("x-form")


def _block_hint(schema: dict[str, Any], name: str) -> str | None:
    keys = list(schema.get("properties", {}))
    return f"its keys are {', '.join(f'`{name}.{key}`' for key in keys)}" if keys else None


def _bound(schema: dict[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f"between {low} and {high}"
    if low is not None:
        return f"at least {low}"
    if high is not None:
        return f"at most {high}"
    return (
        f"more than {schema['exclusiveMinimum']}"
        if "exclusiveMinimum" in schema
        else f"less than {schema['exclusiveMaximum']}"
    )


_TYPE_WORDS = {
    "integer": "an integer",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
}


def _words(kinds: Any) -> str:
    names = [kinds] if isinstance(kinds, str) else [kind for kind in kinds if kind != "null"]
    if set(names) == {"string", "number", "boolean"}:
        return "a single value"
    return " or ".join(_TYPE_WORDS[name] for name in names)


def _read(node: Node | None) -> str:
    """What was read, in a few words."""
    match node:
        case Mapping():
            return "a mapping"
        case Sequence():
            return "a list"
        case Scalar(value=None):
            return "empty"
        case Scalar(value=str(value)):
            return f"the text `{_short(value)}`"
        case Scalar():
            return f"`{_short(node.text)}`"
        case None:
            return "missing"


def _short(text: str) -> str:
    text = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _list(words: list[str]) -> str:
    quoted = [f"`{word}`" for word in words]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"


def _numbers(root: Mapping, sources: Sources) -> Iterator[Finding]:
    """Numbers that JSON cannot carry, wherever they stand."""
    for path, node in leaves(root):
        value = node.value if isinstance(node, Scalar) else None
        if isinstance(value, int) and abs(value) > _LARGEST:
            yield sources.finding(
                "J106",
                node.origin,
                f"`{dotted(path)}` is an integer beyond 64 bits",
                "quote it if it is text",
            )
        elif isinstance(value, float) and not math.isfinite(value):
            yield sources.finding(
                "J106", node.origin, f"`{dotted(path)}` is not a finite number", "quote it if it is text"
            )
