"""What the caller sees: the lines of all ranks, and on a terminal the one that is being updated."""

from __future__ import annotations

import os
import select
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO, Literal, NamedTuple, TextIO, cast

Stream = Literal["stdout", "stderr"]


class Source(NamedTuple):
    """Where a line comes from: a rank, or, if its lines are `tagged` with their ranks already, a command by number."""

    rank: int
    stream: Stream
    tagged: bool = False


class Sink:
    """One stream of the caller. When its reader is gone, further output is dropped: log files have it all.

    A reader that does not read holds up the display only until `stopping` says that the run is to end.
    """

    def __init__(self, stream: BinaryIO | TextIO, stopping: Callable[[], bool]) -> None:
        self._stream = stream
        self._stopping = stopping
        self._gone = False
        with suppress(OSError, ValueError):  # its reader is gone, or it was closed; the first write will tell
            stream.flush()
        try:
            self.fd: int | None = stream.fileno()
        except (OSError, ValueError, AttributeError):  # a stream in memory, or a notebook's
            self.fd = None
        self.terminal = self.fd is not None and os.isatty(self.fd)

    @property
    def width(self) -> int:
        """Columns of the terminal."""
        try:
            return os.get_terminal_size(self.fd if self.fd is not None else 1).columns or 80
        except OSError:
            return 80

    def write(self, data: bytes) -> None:
        """Write all of it, as long as somebody reads."""
        if self._gone:
            return
        try:
            if self.fd is None:
                self._write_object(data)
            else:
                self._write_descriptor(self.fd, memoryview(data))
        except (OSError, ValueError):  # the reader is gone, the disk is full, or the stream was closed
            self._gone = True

    def _write_object(self, data: bytes) -> None:
        if hasattr(self._stream, "encoding"):
            cast("TextIO", self._stream).write(data.decode(errors="replace"))
        else:
            cast("BinaryIO", self._stream).write(data)
        self._stream.flush()

    def _write_descriptor(self, fd: int, view: memoryview) -> None:
        poll = select.poll()
        poll.register(fd, select.POLLOUT)
        while view:
            if not poll.poll(100):
                if self._stopping():
                    self._gone = True
                    return
                continue
            with suppress(BlockingIOError):  # somebody made the stream non-blocking, and others write to it too
                view = view[os.write(fd, view[: select.PIPE_BUF]) :]


class Screen:
    """Writes the lines of all sources, in the order in which they come, to the caller's streams."""

    def __init__(self, stdout: Sink, stderr: Sink, *, color: bool, prefix: str = "[{rank}] ") -> None:
        self._prefixes = prefix
        self._sinks: dict[Stream, Sink] = {"stdout": stdout, "stderr": stderr}
        self._color = color
        self._open: Source | None = None
        self._live: tuple[Source, bytes] | None = None
        self._recent: deque[tuple[Source, bytes]] = deque(maxlen=10)

    def aside(self) -> Screen:
        """The same for commands that are no part of the job: what they write goes to stderr."""
        err = self._sinks["stderr"]
        return Screen(err, err, color=self._color, prefix=self._prefixes)

    def show(self, source: Source, block: bytes) -> None:
        """Write whole lines, or a piece of a very long line, of one source."""
        live, sink, prefix = self._live, self._sinks[source.stream], self._prefix(source)
        self._hide()
        start = b"" if self._open == source else prefix
        self._close_open_line(source)
        ended = block.endswith(b"\n")
        body = block[:-1] if ended else block
        sink.write(start + body.replace(b"\n", b"\n" + prefix) + (b"\n" if ended else b""))
        self._open = None if ended else source
        self._recent.extend((source, line) for line in body[-65536:].rsplit(b"\n", 10)[-10:])
        if live is not None and live[0] != source and ended:
            self.update(*live)

    def update(self, source: Source, text: bytes) -> None:
        """Show the unfinished line of a source in a terminal's last row; elsewhere it waits for its end."""
        sink = self._sinks[source.stream]
        if not sink.terminal or self._open is not None:
            return
        if self._live == (source, text) or (not text.strip() and (self._live is None or self._live[0] != source)):
            return
        self._hide()
        if text.strip():
            room = max(8, sink.width - len(self._mark(source.rank)) - 1)
            row = text.decode(errors="replace").replace("\t", " ")[:room]
            sink.write(self._prefix(source) + row.encode(errors="replace"))
            self._live = (source, text)

    def say(self, text: str) -> None:
        """Write a message of jobc's own to stderr."""
        self._hide()
        self._close_open_line(None)
        self._open = None
        self._sinks["stderr"].write(text.encode(errors="surrogateescape"))

    def ends_with(self, source: Source, line: str) -> bool:
        """Whether a line of a source is among the last few shown."""
        wanted = line.strip()
        return any(item == source and seen.decode(errors="replace").strip() == wanted for item, seen in self._recent)

    def _hide(self) -> None:
        if self._live is not None:
            self._sinks[self._live[0].stream].write(b"\r\x1b[K")
            self._live = None

    def _close_open_line(self, source: Source | None) -> None:
        if self._open is not None and self._open != source:
            self._sinks[self._open.stream].write(b"\n")

    def _prefix(self, source: Source) -> bytes:
        if source.tagged:
            return b""
        mark = self._mark(source.rank)
        if not self._color or not mark.strip():
            return mark.encode()
        words = mark.rstrip()
        return f"\x1b[{31 + source.rank % 6}m{words}\x1b[0m{mark[len(words) :]}".encode()

    def _mark(self, rank: int) -> str:
        return self._prefixes.replace("{rank}", str(rank))
