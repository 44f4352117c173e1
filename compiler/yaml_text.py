"""Plain data with placeholders as YAML that a person can read, the same on every machine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, TypeGuard, cast

from ..spec.untyped import as_dict
from .launchers.base import joined
from .plan import Ref, Text

#: Texts that every reader of YAML takes for texts.
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*\Z")
_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})
_NAMED = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def document(value: object) -> Text:
    """A mapping as a document.

    Lists are lists; a tuple is a text with placeholders, whose values are words without quotes and white space.
    """
    return joined(*(part for line in _lines(value) for part in (line, "\n")))


def _lines(value: object) -> Iterator[Text]:
    block, items = as_dict(value), _as_items(value)
    if block:
        for key, item in block.items():
            yield from _entry(joined(_scalar(key), ":"), item)
    elif items:
        for item in items:
            if _is_text(item) and _is_block(item):
                yield from _entry("-", item)
            else:
                yield from (joined("  " if number else "- ", line) for number, line in enumerate(_lines(item)))
    else:
        yield _scalar(value)


def _entry(head: Text, value: object) -> Iterator[Text]:
    """A key and its value: on its line, or below it."""
    if _is_text(value) and _is_block(value):
        ends = isinstance(value[-1], str) and value[-1].endswith("\n")
        yield joined(head, " |" if ends else " |-")
        yield from _indented(_split(value))
    elif as_dict(value) or _as_items(value):
        yield head
        yield from _indented(_lines(value))
    else:
        yield joined(head, " ", _scalar(value))


def _is_text(value: object) -> TypeGuard[Text]:
    return isinstance(value, str | tuple)


def _as_items(value: object) -> list[Any] | None:
    return cast("list[Any]", value) if isinstance(value, list) else None


def _scalar(value: object) -> Text:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if not _is_text(value):
        return f"{value}" if isinstance(value, int | float) else "{}" if isinstance(value, dict) else "[]"
    parts = (value,) if isinstance(value, str) else value
    text = "".join(part if isinstance(part, str) else "x" for part in parts)
    if _PLAIN.match(text) and text.lower() not in _WORDS:
        return value
    return joined('"', *("".join(map(_escaped, part)) if isinstance(part, str) else (part,) for part in parts), '"')


def _is_block(text: Text) -> bool:
    """Whether a text has several lines that stand as they are in a literal block."""
    parts = (text,) if isinstance(text, str) else text
    plain = "".join(part if isinstance(part, str) else "x" for part in parts)
    shown = all(char.isprintable() or char == "\n" for char in plain)
    return shown and "\n" in plain and not plain.endswith("\n\n") and plain[0] not in " \n"


def _split(text: Text) -> Iterator[Text]:
    """The lines of a text."""
    line: list[str | Ref] = []
    for part in (text,) if isinstance(text, str) else text:
        if isinstance(part, Ref):
            line.append(part)
            continue
        first, *rest = part.split("\n")
        line.append(first)
        for other in rest:
            yield joined(tuple(line))
            line = [other]
    if any(line):
        yield joined(tuple(line))


def _indented(lines: Iterator[Text]) -> Iterator[Text]:
    for line in lines:
        yield joined("  ", line) if line else ""


def _escaped(char: str) -> str:
    if char in _NAMED:
        return _NAMED[char]
    if char.isprintable():
        return char
    number = ord(char)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
