"""hydra-core's override grammar with a visitor that keeps the source text of every value.

Everything here follows `hydra.core.override_parser.overrides_parser.OverridesParser.parse_rule` (hydra-core 1.3).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import msgspec
from hydra.core.override_parser.overrides_parser import create_functions
from hydra.core.override_parser.overrides_visitor import HydraErrorListener, HydraOverrideVisitor
from hydra.core.override_parser.types import ChoiceSweep, Override, QuotedString, Transformer
from hydra.errors import HydraException
from hydra.grammar.gen.OverrideLexer import (  # pyright: ignore[reportMissingTypeStubs]
    CommonTokenStream,
    InputStream,
    OverrideLexer,
)
from hydra.grammar.gen.OverrideParser import OverrideParser  # pyright: ignore[reportMissingTypeStubs]

from .tree import Value


class Written(msgspec.Struct, frozen=True):
    """A primitive value, the text it was written as, and the 0-based column of that text."""

    value: Value
    text: str
    column: int
    quoted: bool


class _Listener(HydraErrorListener):
    """Hydra's listener, which also tells the column."""

    def syntaxError(self, recognizer: Any, offending_symbol: Any, line: Any, column: Any, msg: Any, e: Any) -> None:
        try:
            super().syntaxError(recognizer, offending_symbol, line, column, msg, e)
        except HydraException as error:
            error.column = column  # type: ignore[attr-defined]
            raise


class _Visitor(HydraOverrideVisitor):
    """Hydra's visitor; primitives outside of functions and the keys of mappings come back as `Written`.

    `pieces` are the choices of a sweep as they were written, each with its 0-based column.
    """

    def __init__(self) -> None:
        super().__init__(create_functions())
        self.pieces: list[tuple[str, int]] = []
        self._functions_open = 0

    def visitFunction(self, ctx: Any) -> Any:
        outermost = self._functions_open == 0
        self._functions_open += 1
        try:
            result = super().visitFunction(ctx)
        finally:
            self._functions_open -= 1
        if outermost and isinstance(result, ChoiceSweep) and ctx.getChild(0).getText() == "choice":
            elements = _elements(ctx)
            if len(elements) == len(result.list):
                self._keep(elements)
                for index, element in enumerate(elements):
                    if element.primitive():
                        result.list[index] = self.visitPrimitive(element.primitive())
        return result

    def visitSimpleChoiceSweep(self, ctx: Any) -> Any:
        self._keep(_elements(ctx))
        return super().visitSimpleChoiceSweep(ctx)

    def visitPrimitive(self, ctx: Any) -> Any:
        value = super().visitPrimitive(ctx)
        return value if self._functions_open else _written(value, ctx)

    def visitDictKey(self, ctx: Any) -> Any:
        value = super().visitDictKey(ctx)
        return value if self._functions_open else _written(value, ctx)

    def _keep(self, elements: list[Any]) -> None:
        self.pieces = [
            (element.start.getInputStream().getText(element.start.start, element.stop.stop), element.start.column)
            for element in elements
        ]


def _elements(ctx: Any) -> list[Any]:
    return [child for child in ctx.getChildren() if isinstance(child, OverrideParser.ElementContext)]


def _written(value: Any, ctx: Any) -> Written:
    quoted = isinstance(value, QuotedString)
    text = value.text if isinstance(value, QuotedString) else ctx.getText().strip()
    return Written(text if quoted else value, text, ctx.start.column, quoted)


class Parsed(NamedTuple):
    """An override, and the choices of its sweep as they were written."""

    override: Override
    pieces: list[tuple[str, int]]


def parse(text: str) -> Parsed:
    """The parsed override.

    Raises:
        HydraException: it does not follow the grammar; `column` (0-based) says where, when it is known.
    """
    listener = _Listener()
    lexer = OverrideLexer(InputStream(text))
    lexer.removeErrorListeners()
    lexer.addErrorListener(listener)
    parser = OverrideParser(CommonTokenStream(lexer))
    parser.removeErrorListeners()
    parser.addErrorListener(listener)
    visitor = _Visitor()
    override: Any = visitor.visit(parser.override())
    override.input_line = text
    override.validate()
    return Parsed(override, visitor.pieces)


def choices(override: Override, most: int) -> Iterator[Any]:
    """The values of a sweep in their order, at most so many."""
    return islice(override.sweep_iterator(), most)


def as_word(value: Any) -> str:
    """A value as it would be written in an override."""
    return str(Transformer.str(value))
