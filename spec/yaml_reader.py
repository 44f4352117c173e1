"""Reads YAML into a tree with positions.

The tree is built from the parser's events, not from PyYAML's constructor: so every key and value keeps its place and
its source text, nothing but plain data can come out, and nesting, aliases and duplicate keys are under our control.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import yaml

from .findings import Finding, FindingsError, Place, finding
from .scalars import read_scalar
from .sources import Sources
from .tree import Entry, Layer, Mapping, Node, Origin, Scalar, Sequence, Value

DEEPEST = 64
MOST_NODES = 100_000

_parse = cast("Any", yaml.parse)  # pyright: ignore[reportUnknownMemberType]
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PLAIN_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq")}


def read_yaml(text: str, shown: str, sources: Sources, layer: Layer = "file") -> tuple[Mapping, list[Finding]]:
    """The tree of a YAML text whose root is a mapping, and findings about duplicate or unusable keys.

    Raises:
        FindingsError: J102 (syntax), J108 (the root is not a mapping), J111 (too deep or too large), J112 (tags).
    """
    builder = _Builder(shown, sources, layer)
    try:
        root = builder.document(iter(_parse(text, Loader=_Loader)))
    except yaml.YAMLError as error:
        raise FindingsError((_syntax(error, shown, sources, text),)) from error
    if isinstance(root, Mapping):
        return root, builder.findings
    raise FindingsError((_not_a_mapping(root, shown, sources),))


class _Builder:
    """Turns a stream of events into nodes."""

    def __init__(self, shown: str, sources: Sources, layer: Layer) -> None:
        self.findings: list[Finding] = []
        self._layer: Layer = layer
        self._shown = shown
        self._sources = sources
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._nodes = 0

    def document(self, events: Iterator[Any]) -> Node | None:
        root: Node | None = None
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    self._refuse("J102", event, "a job file holds one document, here a second one starts")
                root = self._node(next(events), events, 1)
        return root

    def _node(self, event: Any, events: Iterator[Any], depth: int) -> Node:
        if depth > DEEPEST:
            self._refuse("J111", event, f"the document is nested more than {DEEPEST} levels deep")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        if event.tag is not None and event.tag not in _PLAIN_TAGS and event.tag != "!":
            cause = f"the YAML tag `{_tag(event.tag)}` would construct an object; a job is plain data"
            self._refuse("J112", event, cause)
        before = self._nodes
        if isinstance(event, yaml.ScalarEvent):
            node: Node = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(event, events, depth)
        else:
            node = self._mapping(event, events, depth)
        self._count(event, 1)
        if event.anchor is not None:
            self._anchors[event.anchor] = (node, self._nodes - before)
        return node

    def _alias(self, event: Any) -> Node:
        if event.anchor not in self._anchors:
            self._refuse("J102", event, f"the alias `*{event.anchor}` has no anchor before it")
        node, size = self._anchors[event.anchor]
        self._count(event, size)  # an alias costs what it expands to, so that a few lines cannot fill the memory
        return node

    def _count(self, event: Any, size: int) -> None:
        self._nodes += size
        if self._nodes > MOST_NODES:
            self._refuse("J111", event, f"the document expands to more than {MOST_NODES} values")

    def _scalar(self, event: Any) -> Scalar:
        origin = self._origin(event)
        if event.tag is not None and event.tag.endswith(":str"):
            return Scalar(event.value, event.value, origin)
        plain = _is_plain(event) or event.tag in _PLAIN_TAGS
        value: Value = read_scalar(event.value) if plain else event.value
        return Scalar(value, event.value, origin)

    def _sequence(self, event: Any, events: Iterator[Any], depth: int) -> Sequence:
        items: list[Node] = []
        for item in events:
            if isinstance(item, yaml.SequenceEndEvent):
                break
            items.append(self._node(item, events, depth + 1))
        return Sequence(tuple(items), self._origin(event))

    def _mapping(self, event: Any, events: Iterator[Any], depth: int) -> Mapping:
        entries: dict[str, Entry] = {}
        merged: list[Mapping] = []
        for key_event in events:
            if isinstance(key_event, yaml.MappingEndEvent):
                break
            key = self._node(key_event, events, depth + 1)
            value = self._node(next(events), events, depth + 1)
            if not isinstance(key, Scalar):
                self._report("J104", key.origin, "a key is a word, here it is a list or a mapping")
            elif key.text == "<<" and _is_plain(key_event):
                merged += self._merge(value)
            elif key.text in entries:
                first = entries[key.text].origin
                cause = f"`{key.text}` is written twice in this mapping"
                self._report("J109", key.origin, cause, "keep one of them", (("the first one", first),))
            else:
                entries[key.text] = Entry(key.text, key.origin, value)
        for base in merged:
            for entry in base.entries:
                entries.setdefault(entry.key, entry)
        return Mapping(tuple(entries.values()), self._origin(event))

    def _merge(self, value: Node) -> list[Mapping]:
        """The mappings that a merge key (`<<`) names. Source: https://yaml.org/type/merge.html."""
        if isinstance(value, Mapping):
            return [value]
        if isinstance(value, Sequence):
            return [found for item in value.items for found in self._merge(item)]
        self._report("J104", value.origin, "a merge key `<<` takes a mapping or a list of mappings")
        return []

    def _origin(self, event: Any) -> Origin:
        start, end = event.start_mark, event.end_mark
        on_one_line = start.line == end.line and isinstance(event, yaml.ScalarEvent)
        return Origin(
            layer=self._layer,
            source=self._shown,
            line=start.line + 1,
            column=start.column + 1,
            length=max(1, end.column - start.column) if on_one_line else 1,
        )

    def _report(
        self,
        code: str,
        origin: Origin,
        cause: str,
        next_step: str | None = None,
        related: tuple[tuple[str, Origin], ...] = (),
    ) -> None:
        self.findings.append(self._sources.finding(code, origin, cause, next_step, related))

    def _refuse(self, code: str, event: Any, cause: str) -> None:
        raise FindingsError((*self.findings, self._sources.finding(code, self._origin(event), cause)))


def _is_plain(event: Any) -> bool:
    """Whether a scalar stands without quotes; libyaml says so with an empty style, PyYAML's own parser with None."""
    return not event.style and event.tag is None


def _tag(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")


def _syntax(error: yaml.YAMLError, shown: str, sources: Sources, text: str) -> Finding:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML"
    if mark is None:
        where = _first_unprintable(text)
        line, column = (1, 1) if where is None else where
        if where is not None:
            problem = "a control character is not allowed"
    else:
        line, column = mark.line + 1, mark.column + 1
    origin = Origin(layer="file", source=shown, line=line, column=column)
    lines = text.splitlines()
    around = lines[line - 1] if line <= len(lines) else ""
    hint = None
    if "\t" in around[: max(column, 1)]:
        hint = "YAML is indented with spaces, not tabs"
    elif "${" in around:
        hint = 'inside brackets an interpolation needs quotes: "${...}"'
    return sources.finding("J102", origin, f"not valid YAML: {problem}", hint)


def _first_unprintable(text: str) -> tuple[int, int] | None:
    for number, line in enumerate(text.split("\n"), 1):
        for column, char in enumerate(line, 1):
            if ord(char) < 32 and char not in "\t\r":
                return number, column
    return None


def _not_a_mapping(root: Node | None, shown: str, sources: Sources) -> Finding:
    next_step = "write settings as `key: value`, for example `script: train.py`"
    if root is None or (isinstance(root, Scalar) and root.value is None):
        return finding("J108", f"`{shown}` is empty", place=Place(source=shown), next_step=next_step)
    what = "a list" if isinstance(root, Sequence) else "a single value"
    return sources.finding("J108", root.origin, f"the document is {what}, not a mapping of settings", next_step)
