"""Reads TOML into a tree with positions: values from the standard library's tomllib, places from tree-sitter."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from .findings import Finding, FindingsError
from .sources import Sources
from .tree import Entry, Mapping, Node, Origin, Path, Scalar, Sequence
from .untyped import as_dict, as_list
from .yaml_reader import DEEPEST

_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def read_toml(text: str, shown: str, sources: Sources) -> tuple[Mapping, list[Finding]]:
    """The tree of a TOML text. TOML itself refuses duplicate keys, so there are no findings beside the errors.

    Raises:
        FindingsError: J102 (syntax), J108 (empty), J111 (too deep).
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise FindingsError((_syntax(str(error), text, shown, sources),)) from error
    except RecursionError as error:
        origin = Origin(layer="file", source=shown, line=1)
        cause = f"the document is nested more than {DEEPEST} levels deep"
        raise FindingsError((sources.finding("J111", origin, cause),)) from error
    start = Origin(layer="file", source=shown, line=1, column=1)
    if not values:
        next_step = 'write settings as `key = value`, for example `script = "train.py"`'
        raise FindingsError(
            (sources.finding("J108", Origin(layer="file", source=shown), f"`{shown}` is empty", next_step),)
        )
    places = _Places(text, shown)
    root = _build(values, (), places, start, 1, sources)
    assert isinstance(root, Mapping)  # noqa: S101 - a TOML document is a table
    return root, []


def _build(value: Any, path: Path, places: _Places, above: Origin, depth: int, sources: Sources) -> Node:
    origin = places.values.get(path, above)
    if depth > DEEPEST:
        cause = f"the document is nested more than {DEEPEST} levels deep"
        raise FindingsError((sources.finding("J111", origin, cause),))
    block, items = as_dict(value), as_list(value)
    if block is not None:
        entries: list[Entry] = []
        for key, item in block.items():
            key_origin = places.keys.get((*path, key), origin)
            child = _build(item, (*path, key), places, key_origin, depth + 1, sources)
            entries.append(Entry(key, key_origin, child))
        return Mapping(tuple(entries), origin)
    if items is not None:
        built = (_build(item, (*path, index), places, origin, depth + 1, sources) for index, item in enumerate(items))
        return Sequence(tuple(built), origin)
    text = value if isinstance(value, str) else places.texts.get(path, str(value))
    if value is None or isinstance(value, str | int | float | bool):
        return Scalar(value, text, origin)
    return Scalar(text, text, origin)  # a date or time: its own text


class _Places:
    """Where each key and each value of a TOML text stands, by path."""

    def __init__(self, text: str, shown: str) -> None:
        import tree_sitter_toml
        from tree_sitter import Language, Parser

        self.keys: dict[Path, Origin] = {}
        self.values: dict[Path, Origin] = {}
        self.texts: dict[Path, str] = {}
        self._shown = shown
        self._lines = text.encode().split(b"\n")
        self._counts: dict[Path, int] = {}
        tree = Parser(Language(tree_sitter_toml.language())).parse(text.encode())
        for node in tree.root_node.named_children:
            if node.type == "pair":
                self._pair(node, ())
            elif node.type in ("table", "table_array_element"):
                self._table(node)

    def _table(self, node: Any) -> None:
        header, *pairs = [child for child in node.named_children if child.type != "comment"]
        prefix = self._absolute(self._key(header))
        self.keys.setdefault(prefix, self._origin(header))
        if node.type == "table_array_element":
            index = self._counts.get(prefix, -1) + 1
            self._counts[prefix] = index
            prefix = (*prefix, index)
        self.values.setdefault(prefix, self._origin(header))
        for pair in pairs:
            self._pair(pair, prefix)

    def _absolute(self, key: tuple[str, ...]) -> Path:
        """A header's path; a table below an array of tables belongs to the array's last element."""
        path: Path = ()
        for part in key[:-1]:
            path = (*path, part)
            if path in self._counts:
                path = (*path, self._counts[path])
        return (*path, *key[-1:])

    def _pair(self, node: Any, prefix: Path) -> None:
        key_node, value_node = [child for child in node.named_children if child.type != "comment"][:2]
        path = prefix
        for part, part_node in zip(self._key(key_node), self._key_nodes(key_node), strict=True):
            path = (*path, part)
            self.keys.setdefault(path, self._origin(part_node))
        self._value(value_node, path)

    def _value(self, node: Any, path: Path) -> None:
        self.values[path] = self._origin(node)
        if node.type == "inline_table":
            for pair in node.named_children:
                if pair.type == "pair":
                    self._pair(pair, path)
        elif node.type == "array":
            for index, item in enumerate(child for child in node.named_children if child.type != "comment"):
                self._value(item, (*path, index))
        else:
            self.texts[path] = node.text.decode()

    def _key_nodes(self, node: Any) -> list[Any]:
        if node.type != "dotted_key":
            return [node]
        return [found for child in node.named_children for found in self._key_nodes(child)]

    def _key(self, node: Any) -> tuple[str, ...]:
        return tuple(self._word(part) for part in self._key_nodes(node))

    @staticmethod
    def _word(node: Any) -> str:
        text = node.text.decode()
        if node.type == "quoted_key":
            return next(iter(tomllib.loads(f"{text} = 0")))
        return text

    def _origin(self, node: Any) -> Origin:
        row, byte = _point(node.start_point)
        end_row, end_byte = _point(node.end_point)
        line: bytes = self._lines[row] if row < len(self._lines) else b""
        column = len(line[:byte].decode("utf-8", "replace")) + 1
        length = len(line[byte:end_byte].decode("utf-8", "replace")) if end_row == row else 1
        return Origin(layer="file", source=self._shown, line=row + 1, column=column, length=max(1, length))


def _point(point: Any) -> tuple[int, int]:
    """A tree-sitter point: 0-based row, and column in bytes."""
    return int(point[0]), int(point[1])


def _syntax(message: str, text: str, shown: str, sources: Sources) -> Finding:
    match = _PLACE.search(message)
    cause = _PLACE.sub("", message)
    if match is not None and match[1]:
        line, column = int(match[1]), int(match[2])
    else:
        lines = text.splitlines() or [""]
        line, column = len(lines), len(lines[-1]) + 1
    origin = Origin(layer="file", source=shown, line=line, column=column)
    code = "J109" if "overwrite" in cause or "twice" in cause else "J102"
    return sources.finding(code, origin, f"not valid TOML: {cause[0].lower()}{cause[1:]}")
