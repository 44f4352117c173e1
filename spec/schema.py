"""Makes the published JSON Schema of a job (draft 2020-12) from the typed model.

The committed `schemas/job.schema.json` is what jobc validates with, what an editor completes from, and where
defaults and sentences are read from when a job is loaded. Blocks of several kinds become `if`/`then` on `kind`,
because a plain `anyOf` could only say that nothing matched. Every leaf also accepts an interpolation, so that an
editor does not complain of `${...}`; the loader closes that door once interpolations are resolved. An empty block
(`training:`) is one that was not written.
"""

from __future__ import annotations

import json
from typing import Any, cast

import msgspec
from msgspec import inspect

from .model import Job
from .parts import Kind
from .untyped import as_dict

ID = "urn:jobc:schema:job:1"
INTERPOLATION = "#/$defs/interpolation"

#: Blocks for which a single value is short for one key of the block.
SHORTHANDS = {"Nodes": "count", "Compile": "backend", "Offload": "device", "GradientClipping": "norm"}

#: Leaves that keep the text they were written as, so that any scalar may stand there.
TEXTS = frozenset({"args", "command", "env", "setup", "launcher_args", "conf", "node_selector"})

Schema = dict[str, Any]

#: The one key that is no field: it is gone once the documents it names are merged (`defaults.py` reads it).
DEFAULTS: Schema = {
    "type": ["array", "null"],
    "description": "What this document builds on: other documents (`base`) and choices of groups (`hardware: h200x8`).",
    "items": {
        "if": {"type": "object"},
        "then": {
            "minProperties": 1,
            "maxProperties": 1,
            "additionalProperties": {
                "type": ["string", "integer", "array", "null"],
                "items": {"type": ["string", "integer"]},
            },
        },
        "else": {"type": "string"},
    },
}


def job_schema() -> Schema:
    """The JSON Schema of `job.yaml` and `job.toml`."""
    maker = _Maker()
    root = maker.block(inspect.type_info(Job), Job.__doc__)
    root["properties"] = {"defaults": DEFAULTS, **root["properties"]}
    interpolation = {
        "type": "string",
        "pattern": r"\$\{",
        "$comment": "`${path.of.a.value}` or `${oc.env:VARIABLE}`. (A description would hide that of a field.)",
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": ID,
        "title": "jobc job",
        **root,
        "$defs": {"interpolation": interpolation, **dict(sorted(maker.definitions.items()))},
    }


def render() -> str:
    """The schema as it is committed."""
    return json.dumps(job_schema(), indent=2, ensure_ascii=False) + "\n"


def section(kind: type[Kind]) -> tuple[Schema, dict[str, Schema]]:
    """The block of a plugin's target, and the definitions that it needs, which have names of their own.

    Raises:
        TypeError: a field has a type that documents do not have.
    """
    tag = str(kind.__struct_config__.tag)
    maker = _Maker(prefix=f"{tag}.")
    return maker.block(inspect.type_info(kind), kind.__doc__, tag), maker.definitions


def with_target(schema: Schema, kind: type[Kind]) -> Schema:
    """The schema with one more kind of target."""
    block, definitions = section(kind)
    tag, name = str(kind.__struct_config__.tag), f"{kind.__struct_config__.tag}."
    union = schema["$defs"]["Target"]
    inner = union["then"]
    words = [*inner["properties"]["kind"]["else"]["enum"], tag]
    condition = {"properties": {"kind": {"const": tag}}, "required": ["kind"]}
    target = {
        **union,
        "x-kinds": {**union["x-kinds"], tag: name},
        "then": {
            **inner,
            "properties": {"kind": _or_interpolation({"enum": words})},
            "allOf": [*inner["allOf"], {"if": condition, "then": {"$ref": f"#/$defs/{name}"}}],
        },
        "else": _or_interpolation({"enum": [*words, None]}),
    }
    properties = {**schema["properties"], "target": _with_example(schema["properties"]["target"], tag)}
    added = {**definitions, name: block, "Target": target}
    return {**schema, "properties": properties, "$defs": {**schema["$defs"], **added}}


def with_launcher(schema: Schema, name: str) -> Schema:
    """The schema with one more launcher."""
    field = schema["properties"]["launcher"]
    leaf = {**field["else"], "enum": [*field["else"]["enum"], name]}
    launcher = {**_with_example(field, name), "else": leaf}
    return {**schema, "properties": {**schema["properties"], "launcher": launcher}}


def _with_example(field: Schema, word: str) -> Schema:
    return {**field, "examples": [*field.get("examples", []), word]}


class _Maker:
    """Walks the model and collects a definition for every block."""

    def __init__(self, prefix: str = "") -> None:
        self.definitions: dict[str, Schema] = {}
        self._prefix = prefix

    def block(self, info: Any, doc: str | None, tag: str | None = None) -> Schema:
        """A mapping with known keys and no others."""
        properties: Schema = {}
        if tag is not None:
            properties["kind"] = {"const": tag, "description": "Which kind this is."}
        for field in info.fields:
            properties[field.name] = self._field(field)
        return {
            "type": "object",
            "description": _sentence(doc),
            "properties": properties,
            "additionalProperties": False,
        }

    def _field(self, field: Any) -> Schema:
        extra, inner = _unwrap(field.type)
        schema: Schema = dict(extra)
        default = _default(field)
        if default is not _NONE:
            schema["default"] = default
        structs = [kind for kind in _members(inner) if isinstance(kind, inspect.StructType)]
        if structs:
            words = [struct.tag for struct in structs if struct.tag is not None]
            return {**_offered(schema, words), "$ref": f"#/$defs/{self._define(field.name, structs)}"}
        leaf = self._leaf(inner, text=field.name in TEXTS)
        schema = _offered(schema, _words(leaf))
        if leaf in ({"type": "string"}, {"type": "object"}):
            return {**schema, **leaf}
        return {**schema, **_or_interpolation(leaf)}

    def _define(self, name: str, structs: list[Any]) -> str:
        if structs[0].tag_field is None:
            return self._define_block(structs[0])
        title = f"{self._prefix}{name.capitalize()}"
        if title not in self.definitions:
            self.definitions[title] = self._union(structs)
        return title

    def _define_block(self, struct: Any) -> str:
        title = f"{self._prefix}{struct.cls.__name__}"
        if title not in self.definitions:
            block = self.block(struct, struct.cls.__doc__)
            short = None if self._prefix else SHORTHANDS.get(title)
            if short is not None:
                value = dict(block["properties"][short])
                value.pop("default", None)
                value = {**value, "else": _or_null(value["else"])}
                block = {"x-shorthand": short, "if": {"type": "object"}, "then": block, "else": value}
            else:
                block = _or_null(block)
            self.definitions[title] = block
        return title

    def _union(self, structs: list[Any]) -> Schema:
        """A block of several kinds: one word, or a mapping whose `kind` decides which keys it may have."""
        tags = [struct.tag for struct in structs]
        choices: list[Schema] = []
        for struct in structs:
            title = f"{self._prefix}{struct.cls.__name__}"
            self.definitions[title] = self.block(struct, struct.cls.__doc__, struct.tag)
            condition = {"properties": {"kind": {"const": struct.tag}}, "required": ["kind"]}
            choices.append({"if": condition, "then": {"$ref": f"#/$defs/{title}"}})
        return {
            "x-shorthand": "kind",
            "x-kinds": {struct.tag: f"{self._prefix}{struct.cls.__name__}" for struct in structs},
            "if": {"type": "object"},
            "then": {
                "required": ["kind"],
                "properties": {"kind": _or_interpolation({"enum": tags})},
                "allOf": choices,
            },
            "else": _or_interpolation({"enum": [*tags, None]}),
        }

    def _leaf(self, info: Any, *, text: bool) -> Schema:
        """A value that is no block; with `text`, any scalar may stand where a string is meant."""
        extra, info = _unwrap(info)
        extra.pop("description", None)
        if isinstance(info, inspect.VarTupleType):
            schema = self._list(info, text=text)
        elif isinstance(info, inspect.DictType):
            schema = self._dict(info, text=text)
        elif isinstance(info, inspect.UnionType):
            schema = self._either(info, text=text)
        else:
            schema = _scalar(info, text=text)
        return {**schema, **extra}

    def _list(self, info: Any, *, text: bool) -> Schema:
        items = self._leaf(info.item_type, text=text)
        open_ = text or items == {"type": "string"}
        schema: Schema = {"type": "array", "items": items if open_ else _or_interpolation(items)}
        if info.min_length:
            schema["minItems"] = info.min_length
        return schema

    def _dict(self, info: Any, *, text: bool) -> Schema:
        schema: Schema = {"type": "object"}
        names = self._leaf(info.key_type, text=False)
        if "pattern" in names:
            schema["propertyNames"] = names
        if not isinstance(info.value_type, inspect.AnyType):
            schema["additionalProperties"] = self._leaf(info.value_type, text=text)
        return schema

    def _either(self, info: Any, *, text: bool) -> Schema:
        """A leaf that may also be null, or a number that may also be one word."""
        parts = [self._leaf(kind, text=text) for kind in _members(info)]
        words = [part for part in parts if "enum" in part]
        others = [part for part in parts if "enum" not in part]
        if words and not others:
            return _or_null(words[0])
        if words:
            (other,) = others
            return {"if": {"type": "string"}, "then": words[0], "else": other}
        (schema,) = others
        return _or_null(schema)


def _scalar(info: Any, *, text: bool) -> Schema:
    match info:
        case inspect.LiteralType():
            return {"enum": list(info.values)}
        case inspect.BoolType():
            return {"type": "boolean"}
        case inspect.IntType() | inspect.FloatType():
            return {"type": "integer" if isinstance(info, inspect.IntType) else "number", **_bounds(info)}
        case inspect.StrType():
            return {"type": ["string", "number", "boolean", "null"] if text else "string", **_string(info)}
        case _:
            raise TypeError(f"the schema has no form for {info!r}")


_NONE = object()


def _members(info: Any) -> list[Any]:
    kinds = info.types if isinstance(info, inspect.UnionType) else (info,)
    return [kind for kind in kinds if not isinstance(kind, inspect.NoneType)]


def _unwrap(info: Any) -> tuple[Schema, Any]:
    extra: Schema = {}
    while isinstance(info, inspect.Metadata):
        extra = {**(as_dict(cast("Any", info).extra_json_schema) or {}), **extra}
        info = info.type
    if isinstance(info, inspect.UnionType) and len(_members(info)) == 1 and not extra.get("description"):
        inner, _ = _unwrap(_members(info)[0])
        extra = {**inner, **extra}
    return extra, info


def _default(field: Any) -> Any:
    """A field's default as plain data: a block of several kinds by its word, other blocks by their own fields."""
    value = field.default
    if value is msgspec.NODEFAULT:
        return {} if field.default_factory is not msgspec.NODEFAULT else _NONE
    if isinstance(value, msgspec.Struct):
        tag = type(value).__struct_config__.tag
        return tag if tag is not None else _NONE
    if value is None:
        return _NONE
    return list(value) if isinstance(value, tuple) else value  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _offered(schema: Schema, words: list[Any]) -> Schema:
    """The schema with its choices as examples: an editor offers those, and does not look behind `if` for them."""
    words = [word for word in words if word is not None and word != schema.get("default")]
    return {**schema, "examples": words} if words else schema


def _words(leaf: Schema) -> list[Any]:
    if "then" in leaf:
        return _words(leaf["then"])
    return [True, False] if leaf.get("type") == "boolean" else leaf.get("enum", [])


def _or_interpolation(leaf: Schema) -> Schema:
    return {"if": {"$ref": INTERPOLATION}, "then": True, "else": leaf}


def _or_null(schema: Schema) -> Schema:
    """The same schema for a value that may be left empty, which is the same as not writing it."""
    if "enum" in schema:
        return {**schema, "enum": [*schema["enum"], None]}
    return schema if isinstance(schema["type"], list) else {**schema, "type": [schema["type"], "null"]}


def _bounds(info: Any) -> Schema:
    names = {"ge": "minimum", "le": "maximum", "gt": "exclusiveMinimum", "lt": "exclusiveMaximum"}
    return {names[key]: getattr(info, key) for key in names if getattr(info, key) is not None}


def _string(info: Any) -> Schema:
    schema: Schema = {}
    if info.pattern is not None:
        schema["pattern"] = info.pattern
    if info.min_length is not None:
        schema["minLength"] = info.min_length
    return schema


def _sentence(doc: str | None) -> str:
    return " ".join((doc or "").split())


if __name__ == "__main__":
    import sys
    from pathlib import Path

    Path(sys.argv[1]).write_text(render(), encoding="utf-8")
