"""Every value of a resolved spec beside where it came from, what it beat, and its sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from . import shape
from .describe import sentence
from .resolved import Beaten, ResolvedSpec
from .tree import DEFAULT, Origin
from .untyped import as_dict, as_list

Schema = dict[str, Any]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One value. `state` tells a value of the job from one that was taken back or no longer applies."""

    path: str
    value: Any
    origin: Origin
    beaten: tuple[Beaten, ...] = ()
    doc: str = ""
    state: str = "value"

    @property
    def is_set(self) -> bool:
        """Whether a person asked for it, or for something that it replaced."""
        return self.origin.explicit or bool(self.beaten)


def rows(spec: ResolvedSpec) -> tuple[Row, ...]:
    """Every value in the order of the schema, then values that were removed or dropped.

    A list whose items come from one place is one value.
    """
    left = _gathered(spec.beaten)
    found: list[Row] = []
    for path, value, doc in _values(spec.values(), shape.job_schema()["properties"], "", "", spec):
        beaten = tuple(item for item in left if item.path == path)
        left = [item for item in left if item.path != path]
        found.append(Row(path=path, value=value, origin=spec.origin(path), beaten=beaten, doc=doc))
    found += [Row(path=item.path, value=None, origin=DEFAULT, beaten=(item,), state="removed") for item in left]
    dropped = _gathered(spec.dropped)
    found += [Row(path=item.path, value=None, origin=DEFAULT, beaten=(item,), state="dropped") for item in dropped]
    return tuple(found)


def within(row: Row, path: str) -> bool:
    """Whether a value stands at a path or below it."""
    return row.path == path or row.path.startswith((f"{path}.", f"{path}["))


def _values(value: Any, keys: Schema, path: str, doc: str, spec: ResolvedSpec) -> Iterator[tuple[str, Any, str]]:
    block, items = as_dict(value), as_list(value)
    if block:
        for key, item in block.items():
            schema = keys.get(key)
            below = _keys(schema, item) if schema is not None else {}
            own = doc if schema is None or (key == "kind" and path) else sentence(schema)
            yield from _values(item, below, f"{path}.{key}" if path else key, own, spec)
    elif items and len({str(spec.origin(f"{path}[{index}]")) for index in range(len(items))}) > 1:
        for index, item in enumerate(items):
            yield from _values(item, {}, f"{path}[{index}]", doc, spec)
    else:
        yield path, value, doc


def _keys(schema: Schema, value: Any) -> Schema:
    """The keys of a block as the value chose its kind."""
    block = as_dict(value)
    if block is None or not shape.is_block(schema):
        return {}
    choices = shape.kinds(schema)
    if not choices:
        return shape.properties(schema)
    return choices[block["kind"]]["properties"] if block.get("kind") in choices else {}


_ITEM = re.compile(r"(.*)\[(\d+)\]\Z")


def _gathered(lost: tuple[Beaten, ...]) -> list[Beaten]:
    """Values that lost, a list's items as the list that they were."""
    found: list[Beaten] = []
    for item in lost:
        match = _ITEM.match(item.path)
        if match is None:
            found.append(item)
        elif match[2] == "0" or not found or found[-1].path != match[1]:
            found.append(Beaten(match[1], [item.value], item.origin))
        else:
            found[-1] = Beaten(match[1], [*found[-1].value, item.value], found[-1].origin)
    return found
