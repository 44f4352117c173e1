"""What `jobc explain` prints: values with their origins, the doc of a field, the page of a finding."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import click
import msgspec

from ..spec.codes import CODES
from ..spec.describe import Field, fields, fields_at, fields_below, kinds_at
from ..spec.explain import Row
from ..spec.pages import page
from ..spec.resolved import Beaten
from ..spec.untyped import as_dict, as_list

_WIDEST_VALUE = 40


# --- values ---------------------------------------------------------------------------------------------------------


def row_lines(rows: tuple[Row, ...]) -> Iterator[str]:
    """Values as text: aligned on a terminal, else one line for each in columns set apart by tabs.

    The columns are the path, the value, its origin, the values that it beat, and the sentence of the field.
    """
    table = [(_short(row.path), _state(row), _origin(row), _lost(row), row.doc, row) for row in rows]
    if not sys.stdout.isatty():
        for path, value, origin, lost, doc, _ in table:
            yield f"{path}\t{value}\t{origin}\t{lost}\t{doc}"
        return
    width = min(shutil.get_terminal_size((100, 24)).columns, 160)
    paths = max((len(path) for path, *_ in table), default=0)
    values = min(max((len(value) for _, value, *_ in table), default=0), _WIDEST_VALUE)
    origins = max((len(origin) for _, _, origin, *_ in table), default=0)
    for path, value, origin, lost, doc, row in table:
        head = f"{path:<{paths}}  {value:<{values}}  {origin:<{origins}}  "
        quiet = row.origin.layer == "default" and not row.beaten
        yield from _with_doc(head, f"{lost}  {doc}" if lost else doc, width, quiet=quiet)


def _with_doc(head: str, doc: str, width: int, *, quiet: bool) -> Iterator[str]:
    """The doc in what is left of the line, wrapped there, or below it on a narrow terminal."""
    room = width - len(head)
    indent = len(head)
    first, rest = head, []
    if room < 30:
        yield click.style(head.rstrip(), dim=True) if quiet else head.rstrip()
        first, indent, room = "", 4, width - 4
    rest = textwrap.wrap(doc, max(room, 20), break_on_hyphens=False)
    for number, line in enumerate(rest or [""]):
        before = first if number == 0 and first else " " * indent
        text = click.style(line, dim=True)
        yield ((click.style(before, dim=True) if quiet else before) + text).rstrip()


def _short(path: str) -> str:
    return path.removesuffix(".kind")


def _state(row: Row) -> str:
    return shown(row.value) if row.state == "value" else "-"


def _origin(row: Row) -> str:
    return str(row.origin) if row.state == "value" else row.state


def _lost(row: Row) -> str:
    return ", ".join(f"was {shown(item.value)} ({item.origin})" for item in row.beaten)


def shown(value: object) -> str:
    """A value on one line, without characters that move a terminal's cursor."""
    items, block = as_list(value), as_dict(value)
    if value is None:
        text = "unset"
    elif isinstance(value, str):
        text = value if value and not value[0].isspace() and not value[-1].isspace() else json.dumps(value)
    elif items is not None or block is not None:
        text = json.dumps(msgspec.to_builtins(value), ensure_ascii=False)
    else:
        text = json.dumps(value)
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)


def rows_as_json(job: str, rows: tuple[Row, ...]) -> str:
    """Values for programs."""
    values = [
        {
            "path": row.path,
            "value": row.value,
            "state": row.state,
            "set": row.is_set,
            "origin": {"text": str(row.origin), **msgspec.to_builtins(row.origin)},
            "beaten": [_beaten(item) for item in row.beaten],
            "doc": row.doc,
        }
        for row in rows
    ]
    return json.dumps({"job": job, "values": values}, indent=2, ensure_ascii=False)


def _beaten(item: Beaten) -> dict[str, Any]:
    return {"value": item.value, "origin": {"text": str(item.origin), **msgspec.to_builtins(item.origin)}}


# --- fields ---------------------------------------------------------------------------------------------------------


def field_lines(path: str | None) -> Iterator[str]:
    """The doc of a field or block; without a path, the fields of the document."""
    width = _width()
    if path is None:
        top = [field for field in fields() if "." not in field.path]
        yield from _table(top, width, "")
        yield ""
        yield click.style("jobc explain <field> says more of each", dim=True)
        return
    path = path.removesuffix(".kind")
    here = fields_at(path)
    for field in here:
        kind = f"  of the kind {field.kind}" if field.kind else ""
        yield click.style(path, bold=True) + kind
        yield from textwrap.wrap(field.doc, width, initial_indent="  ", subsequent_indent="  ")
        yield from textwrap.wrap(type_and_default(field), width, initial_indent="  ", subsequent_indent="  ")
    below = fields_below(path)
    kinds = kinds_at(path)
    for word, doc in kinds.items():
        yield ""
        text = f"{path}: {word}"
        yield click.style(text, bold=True)
        yield from textwrap.wrap(doc, width, initial_indent="  ", subsequent_indent="  ")
        yield from _table([field for field in below if field.kind == word], width, "  ")
    if below and not kinds:
        yield ""
        yield from _table(list(below), width, "  ")


def _table(listed: list[Field], width: int, indent: str) -> Iterator[str]:
    """Fields one below the other: path, type and default, then the sentence."""
    column = max((len(field.path) for field in listed), default=0)
    for field in listed:
        margin = f"{indent}{' ' * column}  "
        said = [
            *textwrap.wrap(type_and_default(field), max(width - len(margin), 30), break_on_hyphens=False),
            *textwrap.wrap(field.doc, max(width - len(margin), 30), break_on_hyphens=False),
        ]
        yield f"{indent}{field.path:<{column}}  {said[0]}"
        for line in said[1:]:
            yield margin + line


def type_and_default(field: Field) -> str:
    """`an integer, at least 1; default: 1`."""
    if not field.default or field.default.startswith("derived: "):
        return f"{field.type}; {field.default}" if field.default else field.type
    return f"{field.type}; default: {field.default}"


def fields_as_json(path: str | None) -> Iterator[str]:
    """The same for programs."""
    found = fields() if path is None else (*fields_at(path), *fields_below(path.removesuffix(".kind")))
    kinds = kinds_at(path.removesuffix(".kind")) if path is not None else {}
    yield json.dumps({"kinds": kinds, "fields": msgspec.to_builtins(found)}, indent=2, ensure_ascii=False)


# --- findings -------------------------------------------------------------------------------------------------------


def code_lines(code: str) -> Iterator[str]:
    """The page of a finding."""
    width = _width()
    entry, found = CODES[code], page(code)
    color = {"error": "red", "warning": "yellow", "hint": "cyan"}[entry.severity]
    yield f"{click.style(f'{entry.severity}[{code}]', fg=color, bold=True)}  {entry.title}"
    yield ""
    yield from textwrap.wrap(found.meaning, width, break_on_hyphens=False)
    if found.when:
        yield ""
        yield f"It happens {found.when}."
    if found.example:
        yield ""
        yield click.style(f"Example: {found.file}", bold=True)
        yield from textwrap.indent(found.example.strip("\n"), "  ").splitlines()
        if found.overrides:
            yield ""
            yield f"  {command_line(code)}"
    yield ""
    yield click.style("What to do", bold=True)
    yield from textwrap.wrap(found.advice, width, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)


def command_line(code: str) -> str:
    """The command that meets the finding with the page's example."""
    import shlex

    found = page(code)
    return shlex.join(["jobc", "check", found.file, *found.overrides])


def code_as_json(code: str) -> Iterator[str]:
    """The same for programs."""
    entry = CODES[code]
    said = {"code": code, "severity": entry.severity, "title": entry.title, **msgspec.to_builtins(page(code))}
    yield json.dumps(said, indent=2, ensure_ascii=False)


def _width() -> int:
    return min(shutil.get_terminal_size((100, 24)).columns, 110)
