"""Overrides of the command line (`precision=bf16`, `~env.X`), parsed by hydra-core's own grammar.

Hydra's lexer and parser are used as they are; our visitor differs from Hydra's in one thing: it remembers the text each
value was written as, because arguments and environment variables keep it (`1e-4` stays `1e-4`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from .findings import Finding, did_you_mean
from .scalars import read_scalar
from .sources import Sources
from .tree import Entry, Mapping, Node, Origin, Path, Scalar, Sequence

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override as HydraOverride

_EVALUATING = re.compile(r"\w+ while evaluating '(?P<call>(?P<name>\w+)\(.*\))': (?P<why>.*)", re.DOTALL)
_FUNCTIONS = ["bool", "choice", "float", "glob", "int", "range", "sort", "str"]
MOST_PLANS = 1000  # of one sweep


class Override(msgspec.Struct, frozen=True, kw_only=True):
    """One parsed override: set the value at a path, add one, or delete it.

    `group` is what stands before the `=` when it can name a group of files (`hardware`, `training/opt`), and `package`
    what follows its `@`. `path` is empty where the word can only mean a group. A deletion may have no value.
    """

    text: str
    action: Literal["set", "add", "force", "delete"]
    path: Path
    group: str | None = None
    package: str | None = None
    value: Node | None = None
    origin: Origin


#: One word of the command line: one override, or in a sweep one for each of its values.
Choices = tuple[Override, ...]


def parse_overrides(
    texts: tuple[str, ...], sources: Sources, names: Callable[[str], list[str]] | None = None, *, sweep: bool = False
) -> tuple[list[Choices], list[Finding]]:
    """The overrides in their order, and a finding (J109, J201, J202, J207) for each that cannot be used.

    Args:
        texts: the words.
        sources: takes the words, for excerpts.
        names: the choices of a group, for `glob`.
        sweep: whether a word may have several values.
    """
    good: list[Choices] = []
    bad: list[Finding] = []
    for text, source, following in _words(texts, sources):
        parsed = _not_an_override(text, source, following) or _parse(text, source, names, sweep=sweep)
        if isinstance(parsed, _Problem):
            bad.append(sources.finding(parsed.code, parsed.origin, parsed.cause, parsed.next_step))
        else:
            good.append(parsed)
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
    if text.startswith("-"):
        step = "this command has no such option; arguments of the script are `args=[--epochs,3]`"
        if text in ("-m", "--multirun"):
            step = "`jobc plan -m` shows the plans of a sweep"
        return _Problem("J201", whole, f"`{text}` is not an override", step)
    if text.startswith("="):
        return _Problem("J201", whole, f"`{text}` has no path before the `=`", "for example `nodes.count=2`")
    if "=" not in text and not text.startswith("~"):
        step = f"an override sets a value: `{text}=value`; `~{text}` removes one"
        return _Problem("J201", whole, f"`{text}` has no `=`", step)
    if not text.isprintable() and any("\ud800" <= char <= "\udfff" for char in text):
        return _Problem("J201", whole, "the override is not UTF-8", "check the terminal's encoding")
    return None


def _parse(text: str, source: str, names: Callable[[str], list[str]] | None, *, sweep: bool) -> Choices | _Problem:
    from antlr4.error.Errors import LexerNoViableAltException
    from hydra.errors import HydraException

    from .hydra_grammar import parse

    try:
        parsed, pieces = parse(text)
    except HydraException as error:
        failed = _EVALUATING.match(str(error))
        if failed is not None:
            return _failed_function(failed, text, source)
        cause = error.__cause__
        column = getattr(error, "column", None)
        if isinstance(cause, LexerNoViableAltException):
            column = int(cause.startIndex)  # pyright: ignore[reportArgumentType, reportUnknownMemberType, reportAttributeAccessIssue]
        in_value = (column or 0) > text.find("=")
        hint = _quoting_hint(text) if in_value else "an override is a path, `=` and a value: `nodes.count=2`"
        return _Problem("J201", _at(source, (column or 0) + 1), _syntax(str(error)), hint)
    key = parsed.key_or_group
    place = _at(source, len(text) - len(text.lstrip("+~")) + 1, len(key))
    base = _base(text, parsed, place)
    if isinstance(base, _Problem):
        return base
    try:
        if not parsed.is_sweep_override():
            if parsed.value_type is None:
                return (base,)
            return (msgspec.structs.replace(base, value=_node(parsed.value(), text, source, _value_column(text))),)
        if not sweep:
            step = "`jobc plan -m` shows a plan for each; a list goes in brackets, `key=[a,b]`, a comma in quotes"
            return _Problem("J201", place, f"`{key}` has several values, and this is one plan", step)
        return _swept(base, parsed, pieces, names)
    except _TwiceError as error:
        step = "keep one of them"
        return _Problem("J109", error.origin, f"`{error.key}` is written twice in this mapping", step)


def _failed_function(failed: re.Match[str], text: str, source: str) -> _Problem:
    call, name = failed["call"], failed["name"]
    place = _at(source, max(text.find(call), 0) + 1, len(call))
    if failed["why"].startswith("Unknown function"):
        near = did_you_mean(name, _FUNCTIONS)
        step = near or f"functions: {', '.join(_FUNCTIONS)}; as text it needs quotes"
        return _Problem("J201", place, f"`{name}` is not a function of overrides", step)
    return _Problem("J201", place, f"`{call}` cannot be evaluated: {failed['why'].splitlines()[0]}")


def _base(text: str, parsed: HydraOverride, place: Origin) -> Override | _Problem:
    """The override without its value."""
    key = parsed.key_or_group
    path: Path = tuple(key.split("."))
    if not all(path):
        return _Problem("J202", place, "an override starts with the path of a setting", "for example `nodes.count=2`")
    if path[0] == "defaults":
        step = "a choice of the list is changed by its group, such as `hardware=h200x8`, or added, `+hardware=h200x8`"
        return _Problem("J202", place, "a defaults list is not a setting", step)
    if parsed.package is not None and len(path) > 1:
        step = f"a group is named by its folder, such as `{'/'.join(key.split('.'))}`"
        return _Problem("J202", place, f"`{key}` is the path of a setting, and `@` goes with a group", step)
    return Override(
        text=text,
        action={"CHANGE": "set", "ADD": "add", "FORCE_ADD": "force", "DEL": "delete"}[parsed.type.name],  # pyright: ignore[reportArgumentType]
        path=() if parsed.package is not None or "/" in key else path,
        group=key if len(path) == 1 else None,
        package=parsed.package,
        origin=place,
    )


def _swept(
    base: Override, parsed: HydraOverride, pieces: list[tuple[str, int]], names: Callable[[str], list[str]] | None
) -> Choices | _Problem:
    """One override for each value of a sweep."""
    from hydra.core.override_parser.types import Glob
    from hydra.errors import HydraException

    from .hydra_grammar import as_word, choices

    value: Any = parsed.value()
    text, source, head = base.text, base.origin.source, base.text.partition("=")[0]
    written = _at(source, _value_column(text), len(text))
    if base.action == "delete":
        return _Problem("J207", written, "`~` removes one setting, a sweep has several", "sweep over values: `key=a,b`")
    if parsed.is_interval_sweep():
        step = "give values: `key=1,2,3`, or steps: `key=range(1,10,3)`"
        return _Problem("J207", written, "an interval has no countable values", step)
    if getattr(value, "shuffle", False):
        return _Problem("J207", written, "plans have an order that does not change", "leave `shuffle` out")
    if isinstance(value, Glob):
        found = names(base.group) if names is not None and base.group is not None else []
        chosen: list[Any] = value.filter(found)
        if not chosen:
            known = f"its choices: {', '.join(found)}" if found else "`glob` looks through the files of a group"
            return _Problem("J207", written, f"no choice of `{'.'.join(map(str, base.path))}` matches", known)
        pieces = []
    else:
        try:
            chosen = list(choices(parsed, MOST_PLANS + 1))
        except (HydraException, ValueError, ArithmeticError) as error:
            return _Problem("J207", written, f"the values cannot be counted: {error}", "see `range(start,stop,step)`")
    if not chosen:
        return _Problem("J207", written, "the sweep has no values", "for example `range(1,4)`: 1, 2 and 3")
    if len(pieces) != len(chosen):
        pieces = [(as_word(item), written.column - 1 if written.column else 0) for item in chosen]
    return tuple(
        msgspec.structs.replace(base, text=f"{head}={word}", value=_node(item, text, source, column + 1))
        for item, (word, column) in zip(chosen, pieces, strict=True)
    )


class _TwiceError(Exception):
    """A key stands twice in a mapping."""

    def __init__(self, key: str, origin: Origin) -> None:
        super().__init__(key)
        self.key = key
        self.origin = origin


def _value_column(text: str) -> int:
    return len(text.partition("=")[0]) + 2


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
        entries: dict[str, Entry] = {}
        for key, item in value.items():  # pyright: ignore[reportUnknownVariableType]
            word = key.text if isinstance(key, Written) else str(key)  # pyright: ignore[reportUnknownArgumentType]
            origin = _at(source, key.column + 1, len(word)) if isinstance(key, Written) else _at(source, column)
            if word in entries:
                raise _TwiceError(word, origin)
            entries[word] = Entry(word, origin, _node(item, text, source, column))
        return Mapping(tuple(entries.values()), _at(source, column))
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
