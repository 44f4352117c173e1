"""Overrides of the command line (`precision=bf16`, `~env.X`), parsed by hydra-core's own grammar.

Hydra's lexer and parser are used as they are; our visitor differs from Hydra's in one thing: it remembers the text each
value was written as, because arguments and environment variables keep it (`1e-4` stays `1e-4`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import msgspec

from .findings import Finding
from .scalars import read_scalar
from .sources import Sources
from .tree import Entry, Mapping, Node, Origin, Path, Scalar, Sequence


class Override(msgspec.Struct, frozen=True):
    """One parsed override: set the value at a path, or delete it."""

    action: Literal["set", "delete"]
    path: Path
    value: Node
    origin: Origin


def parse_overrides(texts: tuple[str, ...], sources: Sources) -> tuple[list[Override], list[Finding]]:
    """The overrides in their order, and a finding (J201, J202) for each that cannot be used."""
    good: list[Override] = []
    bad: list[Finding] = []
    for text, source, following in _words(texts, sources):
        parsed = _not_an_override(text, source, following) or _parse(text, source)
        if isinstance(parsed, Override):
            good.append(parsed)
        else:
            bad.append(sources.finding(parsed.code, parsed.origin, parsed.cause, parsed.next_step))
    return good, bad


def _words(texts: tuple[str, ...], sources: Sources) -> Iterator[tuple[str, str, str]]:
    """Each word, the name findings show it under, and the rest of an assignment that the shell cut in pieces.

    `precision = bf16` arrives as three words and is one mistake, not three.
    """
    skip = 0
    for number, text in enumerate(texts, 1):
        source = f"override {number}"
        sources.add(source, text)
        if skip:
            skip -= 1
            continue
        rest = texts[number:]
        following = ""
        if "=" not in text and rest and rest[0].startswith("="):
            skip = 2 if rest[0] == "=" and len(rest) > 1 else 1
            following = "".join(rest[:skip])
        elif text.endswith("=") and rest and "=" not in rest[0]:
            skip = 1
            following = rest[0]
        yield text, source, following


class _Problem(NamedTuple):
    code: str
    origin: Origin
    cause: str
    next_step: str | None = None


def _at(source: str, column: int, length: int = 1) -> Origin:
    return Origin(layer="override", source=source, column=column, length=max(1, length))


def _not_an_override(text: str, source: str, following: str) -> _Problem | None:
    """What is wrong with a word that cannot be one, told apart by what the person probably meant."""
    whole = _at(source, 1, len(text))
    if following:
        step = f"write it without spaces: `{text}{following}`"
        return _Problem("J201", whole, f"`{text}` and `{following}` are two words, an override is one", step)
    if text.startswith("--"):
        step = "options of jobc stand before the job file; arguments of the script are `args=[--epochs,3]`"
        return _Problem("J201", whole, f"`{text}` is not an override", step)
    if text.startswith("="):
        return _Problem("J201", whole, f"`{text}` has no path before the `=`", "for example `nodes.count=2`")
    if "=" not in text and not text.startswith("~"):
        step = f"an override sets a value: `{text}=value`; `~{text}` removes one"
        return _Problem("J201", whole, f"`{text}` has no `=`", step)
    if not text.isprintable() and any("\ud800" <= char <= "\udfff" for char in text):
        return _Problem("J201", whole, "the override is not UTF-8", "check the terminal's encoding")
    return None


def _parse(text: str, source: str) -> Override | _Problem:
    from antlr4.error.Errors import LexerNoViableAltException
    from hydra.core.override_parser.types import Override as HydraOverride
    from hydra.core.override_parser.types import OverrideType
    from hydra.errors import HydraException

    from .hydra_grammar import parse

    try:
        parsed: HydraOverride = parse(text)
    except HydraException as error:
        cause = error.__cause__
        column = getattr(error, "column", None)
        if isinstance(cause, LexerNoViableAltException):
            column = int(cause.startIndex)  # pyright: ignore[reportArgumentType, reportUnknownMemberType, reportAttributeAccessIssue]
        in_value = (column or 0) > text.find("=")
        hint = _quoting_hint(text) if in_value else "an override is a path, `=` and a value: `nodes.count=2`"
        return _Problem("J201", _at(source, (column or 0) + 1), _syntax(str(error)), hint)
    key_column = len(text) - len(text.lstrip("+~")) + 1
    key = parsed.key_or_group
    place = _at(source, key_column, len(key))
    if parsed.package is not None or "/" in key:
        step = "name the setting by its path, such as `nodes.count=2`"
        return _Problem("J202", place, f"`{text.partition('=')[0]}` names a package, which a job does not have", step)
    if parsed.is_sweep_override():
        step = "a list is written in brackets, `key=[a,b]`; a value with a comma in quotes, `key='\"a,b\"'`"
        return _Problem("J201", place, f"`{key}` has several values, and jobc plans one job at a time", step)
    path: Path = tuple(key.split("."))
    if not all(path):
        return _Problem("J202", place, "an override starts with the path of a setting", "for example `nodes.count=2`")
    value = _node(parsed.value(), text, source, len(text.partition("=")[0]) + 2)
    action: Literal["set", "delete"] = "delete" if parsed.type == OverrideType.DEL else "set"
    return Override(action, path, value, place)


def _node(value: Any, text: str, source: str, column: int) -> Node:
    """A parsed value as a tree; every part of it points at the text it was written as."""
    from .hydra_grammar import Written

    if isinstance(value, Written):
        origin = _at(source, value.column + 1, len(value.text))
        if value.quoted or not isinstance(value.value, str):
            return Scalar(value.value, value.text, origin)
        # Hydra's grammar reads some numbers of YAML as words (`007`, `0x1f`); a job means the same in both places.
        return Scalar(read_scalar(value.text) if value.value == value.text else value.value, value.value, origin)
    if isinstance(value, dict):
        entries = [
            Entry(str(key), _at(source, column), _node(item, text, source, column))  # pyright: ignore[reportUnknownArgumentType]
            for key, item in value.items()  # pyright: ignore[reportUnknownVariableType]
        ]
        return Mapping(tuple(entries), _at(source, column))
    if isinstance(value, list):
        return Sequence(tuple(_node(item, text, source, column) for item in value), _at(source, column))  # pyright: ignore[reportUnknownVariableType]
    rest = text.partition("=")[2]
    return Scalar(value, "" if value is None else str(value), _at(source, column, len(rest)))


def _syntax(message: str) -> str:
    """Hydra's message in our words: its first line, without the names of its tokens."""
    first = message.strip().splitlines()[0]
    return f"this is not an override: {re.sub(r' expecting .*', '', first)}"


def _quoting_hint(text: str) -> str:
    key, _, value = text.partition("=")
    for opening, closing in ("[]", "{}", "()"):
        if value.count(opening) != value.count(closing):
            return f"`{opening}` and `{closing}` do not match"
    quoted = value.replace("'", "\\'")
    return f"a value with special characters goes in quotes, and the shell needs its own: \"{key}='{quoted}'\""
