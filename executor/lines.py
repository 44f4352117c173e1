"""From bytes to lines: whole lines out, the unfinished rest kept, a carriage return taken as an update."""

from __future__ import annotations

#: The longest unfinished line that is kept in memory, in bytes; beyond it the line is passed on in pieces.
LONGEST = 1 << 20


class Lines:
    """The lines of one stream.

    `rest` is the state of the line that has not ended: what came after its last carriage return. A carriage
    return at its very end is kept, for the newline that may follow.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """Take more bytes; give back what is settled: whole lines, or a piece of a very long one."""
        head, newline, tail = data.rpartition(b"\n")
        block = b""
        if newline:
            block = self._rest + head + b"\n"
            if b"\r" in block:
                block = b"".join(_state(line) + b"\n" for line in block[:-1].split(b"\n"))
            self._rest = b""
        rest = self._rest + tail
        if b"\r" in rest:
            rest = _state(rest) + (b"\r" if rest.endswith(b"\r") else b"")
        if len(rest) > LONGEST:
            block, rest = block + rest, b""
        self._rest = rest
        return block

    @property
    def rest(self) -> bytes:
        """The unfinished line as it would look on a terminal."""
        return self._rest.rstrip(b"\r")

    def finish(self) -> bytes:
        """The last line when no newline ended it, with one; empty when there is none."""
        rest, self._rest = self.rest, b""
        return rest + b"\n" if rest.strip() else b""


def _state(line: bytes) -> bytes:
    """What a line shows after its last carriage return."""
    return line.rstrip(b"\r").rpartition(b"\r")[2]
