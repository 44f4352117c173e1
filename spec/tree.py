"""The document as a tree in which every node knows where it came from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

Layer = Literal["default", "preset", "file", "environment", "override", "derived", "detected"]

#: Layers whose values a person asked for. A contradiction of one of them in code is an error.
EXPLICIT: frozenset[str] = frozenset({"preset", "file", "environment", "override"})


class Origin(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which layer set a value, and where.

    A file and a preset have a 1-based line and column; an override (`source` is `override 2`) only a column. `name` is
    the variable that was read (layer `environment`) or what a value was derived or detected from.
    """

    layer: Layer
    source: str = ""
    line: int | None = None
    column: int | None = None
    length: int = 1
    name: str = ""

    @property
    def explicit(self) -> bool:
        """Whether a person asked for the value."""
        return self.layer in EXPLICIT

    def __str__(self) -> str:
        if self.name:
            return f"{self.layer} {self.name}"
        if self.line is not None:
            return f"{self.source}:{self.line}"
        return self.source or self.layer


DEFAULT = Origin(layer="default")

Value = str | int | float | bool | None


class Scalar(msgspec.Struct, frozen=True):
    """A leaf: its value, the text it was written as, and its origin."""

    value: Value
    text: str
    origin: Origin


class Entry(msgspec.Struct, frozen=True):
    """One key of a mapping with its value; the key has a place of its own."""

    key: str
    origin: Origin
    value: Node


class Mapping(msgspec.Struct, frozen=True):
    """Keys in the order written. Keys are unique."""

    entries: tuple[Entry, ...]
    origin: Origin

    def get(self, key: str) -> Node | None:
        for entry in self.entries:
            if entry.key == key:
                return entry.value
        return None

    def entry(self, key: str) -> Entry | None:
        for entry in self.entries:
            if entry.key == key:
                return entry
        return None

    def put(self, new: Entry) -> Mapping:
        """This mapping with an entry replaced in its place, or added at the end."""
        if self.entry(new.key) is None:
            return Mapping((*self.entries, new), self.origin)
        return Mapping(tuple(new if old.key == new.key else old for old in self.entries), self.origin)

    def without(self, key: str) -> Mapping:
        return Mapping(tuple(entry for entry in self.entries if entry.key != key), self.origin)


class Sequence(msgspec.Struct, frozen=True):
    """A list."""

    items: tuple[Node, ...]
    origin: Origin


Node = Scalar | Mapping | Sequence
Path = tuple[str | int, ...]


def plain(node: Node) -> object:
    """The tree as ordinary dictionaries, lists and scalars."""
    match node:
        case Scalar():
            return node.value
        case Mapping():
            return {entry.key: plain(entry.value) for entry in node.entries}
        case Sequence():
            return [plain(item) for item in node.items]


def leaves(node: Node, path: Path = ()) -> Iterator[tuple[Path, Scalar | Mapping | Sequence]]:
    """Every scalar and every empty mapping or list, with its path, in document order."""
    match node:
        case Mapping() if node.entries:
            for entry in node.entries:
                yield from leaves(entry.value, (*path, entry.key))
        case Sequence() if node.items:
            for index, item in enumerate(node.items):
                yield from leaves(item, (*path, index))
        case _:
            yield path, node


def find(node: Node, path: Path) -> Node | None:
    """The node at a path, or None."""
    here: Node | None = node
    for part in path:
        if isinstance(here, Mapping) and isinstance(part, str):
            here = here.get(part)
        elif isinstance(here, Sequence) and isinstance(part, int) and part < len(here.items):
            here = here.items[part]
        else:
            return None
    return here


def put(node: Node | None, path: Path, value: Node, key_origin: Origin) -> Node:
    """The tree with the node at a path of mapping keys replaced; missing mappings are made."""
    if not path:
        return value
    here = node if isinstance(node, Mapping) else Mapping((), key_origin)
    key = str(path[0])
    old = here.entry(key)
    child = put(old.value if old is not None else None, path[1:], value, key_origin)
    return here.put(Entry(key, key_origin if old is None or len(path) == 1 else old.origin, child))


def dotted(path: Path) -> str:
    """`nodes.count`, `args[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
