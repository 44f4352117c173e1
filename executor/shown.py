"""What a person asked to see of what processes write, and what stands before their lines."""

from __future__ import annotations

import re

from ..compiler.plan import Output
from .follow import Display
from .screen import Source

#: The rank that stands before a line of another machine, where it comes in one stream with the others.
TAG = re.compile(rb"^\[(\d+)\] ")
_USUAL = Output()


class Chosen:
    """A display of the processes and streams that were asked for, with the prefix that was asked for.

    Lines that no process wrote, such as those of an agent, are passed on as they are.
    """

    def __init__(self, display: Display, output: Output) -> None:
        self._display = display
        self._ranks = None if output.ranks is None else frozenset(output.ranks)
        self._streams = frozenset(output.streams)
        self._prefix = None if output.prefix == _USUAL.prefix else output.prefix
        self._open: dict[Source, bool] = {}  # whether a line that came in pieces is shown

    def show(self, source: Source, block: bytes) -> None:
        """Pass on what was asked for of some whole lines, or of a piece of a very long one."""
        if not source.tagged:
            if self._wanted(source, source.rank):
                self._display.show(source, block)
            return
        lines = [shown for line in block.splitlines(keepends=True) if (shown := self._line(source, line))]
        if lines:
            self._display.show(source, b"".join(lines))

    def update(self, source: Source, text: bytes) -> None:
        """Pass on the unfinished line of a source."""
        shown = text
        if source.tagged:
            shown = b"" if source in self._open else self._tagged(source, text)
        if source.tagged or self._wanted(source, source.rank):
            self._display.update(source, shown)

    def _line(self, source: Source, line: bytes) -> bytes:
        """A line, or a piece of one, as it is shown; nothing where it is not."""
        begun = self._open.pop(source, None)
        shown = self._tagged(source, line) if begun is None else line if begun else b""
        if not line.endswith(b"\n"):
            self._open[source] = bool(shown)
        return shown

    def _tagged(self, source: Source, line: bytes) -> bytes:
        tag = TAG.match(line)
        if tag is None:
            return line
        rank = int(tag[1])
        if not self._wanted(source, rank):
            return b""
        return line if self._prefix is None else self._prefix.replace("{rank}", str(rank)).encode() + line[tag.end() :]

    def _wanted(self, source: Source, rank: int) -> bool:
        return source.stream in self._streams and (self._ranks is None or rank in self._ranks)
