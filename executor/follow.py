"""Follows log files while they grow and hands their lines to the screen."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from .lines import Lines
from .screen import Source

_CHUNK = 1 << 16
_CHUNKS = 16  # a turn of one file reads at most 1 MiB, so that a loud rank does not hide the others


class Display(Protocol):
    """What lines are handed to."""

    def show(self, source: Source, block: bytes) -> None:
        """Write whole lines of one source."""
        ...

    def update(self, source: Source, text: bytes) -> None:
        """Show the unfinished line of a source."""
        ...


class Tail:
    """One growing file."""

    def __init__(self, source: Source, path: Path) -> None:
        self.source = source
        self.path = path
        self.lines = Lines()
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self) -> bytes:
        """The next bytes, empty when there are none yet."""
        return os.read(self._fd, _CHUNK)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)


class Follower:
    """Follows any number of files, each a piece at a time, so that memory stays small."""

    def __init__(self, screen: Display) -> None:
        self._screen = screen
        self._tails: dict[Path, Tail] = {}

    def __contains__(self, path: Path) -> bool:
        return path in self._tails

    def add(self, source: Source, path: Path) -> None:
        """Follow a file; the one of the same source (an earlier attempt) is shown to its end first."""
        for old in [tail for tail in self._tails.values() if tail.source == source]:
            self._finish(old)
        self._tails[path] = Tail(source, path)

    def pump(self) -> bool:
        """Show what is new; whether there may be more at once."""
        more = False
        for tail in self._tails.values():
            more |= self._turn(tail)
        return more

    def finish(self) -> None:
        """Show everything to the end, with last lines that no newline ended."""
        while self.pump():
            pass
        for tail in list(self._tails.values()):
            self._finish(tail)

    def _turn(self, tail: Tail) -> bool:
        for _ in range(_CHUNKS):
            data = tail.read()
            if not data:
                return False
            block = tail.lines.feed(data)
            if block:
                self._screen.show(tail.source, block)
            self._screen.update(tail.source, tail.lines.rest)
        return True

    def _finish(self, tail: Tail) -> None:
        while self._turn(tail):
            pass
        last = tail.lines.finish()
        if last:
            self._screen.show(tail.source, last)
        tail.close()
        del self._tails[tail.path]
