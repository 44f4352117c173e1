"""hydra-core's override grammar with a visitor that keeps the source text of every value.

Everything here follows `hydra.core.override_parser.overrides_parser.OverridesParser.parse_rule` (hydra-core 1.3).
"""

from __future__ import annotations

from typing import Any

import msgspec
from hydra.core.override_parser.overrides_parser import create_functions
from hydra.core.override_parser.overrides_visitor import HydraErrorListener, HydraOverrideVisitor
from hydra.core.override_parser.types import Override, QuotedString
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
    """Hydra's visitor; primitives outside of functions come back as `Written`."""

    def __init__(self) -> None:
        super().__init__(create_functions())
        self._functions_open = 0

    def visitFunction(self, ctx: Any) -> Any:
        self._functions_open += 1
        try:
            return super().visitFunction(ctx)
        finally:
            self._functions_open -= 1

    def visitPrimitive(self, ctx: Any) -> Any:
        value = super().visitPrimitive(ctx)
        if self._functions_open:
            return value
        quoted = isinstance(value, QuotedString)
        text = value.text if isinstance(value, QuotedString) else ctx.getText().strip()
        return Written(text if quoted else value, text, ctx.start.column, quoted)


def parse(text: str) -> Override:
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
    override: Any = _Visitor().visit(parser.override())
    override.input_line = text
    override.validate()
    return override
