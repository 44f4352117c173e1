"""Signals that ask a run to end: noted in the order in which they come, never an exception amid something."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NamedTuple, Self

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_FROM_KERNEL = 0x80  # SI_KERNEL: nobody called kill; for an interrupt that means the keyboard
_PIECE = 1.0  # seconds; another thread of this process, one that does not hold signals back, may take them from us


class Interrupt(NamedTuple):
    """A signal that came. `typed` says whether a terminal sent it to our whole group, None if unknown."""

    number: int
    typed: bool | None


class Interrupts:
    """While this context is open SIGINT, SIGTERM and SIGHUP are only noted; each makes `wake` readable.

    A signal that the caller ignores (nohup, a job in the background of a script) stays ignored. Outside the
    main thread Python cannot install handlers: then nothing is noted.
    """

    def __init__(self) -> None:
        self.received: list[Interrupt] = []
        self._taken = 0
        self._before: dict[int, Any] = {}
        self.wake, self._write = -1, -1

    def __enter__(self) -> Self:
        self.wake, self._write = os.pipe()
        os.set_blocking(self.wake, False)
        os.set_blocking(self._write, False)
        if threading.current_thread() is threading.main_thread():
            for number in HANDLED:
                before = signal.getsignal(number)
                if before is not None and before is not signal.SIG_IGN:  # None: installed by C code, not ours to move
                    self._before[number] = before
                    signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        os.close(self.wake)
        os.close(self._write)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.received.append(Interrupt(number, None))
        with suppress(BlockingIOError):  # the pipe is full of wake-ups already
            os.write(self._write, b"!")

    @property
    def tell_senders(self) -> bool:
        """Whether `wait` can say here who sent a signal."""
        return bool(self._before) and hasattr(signal, "sigtimedwait")

    @contextmanager
    def held(self) -> Generator[None]:
        """Within this context signals wait until `wait` asks for them; begun before a command that may get them."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {*self._before, signal.SIGCHLD})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    @contextmanager
    def with_senders(self) -> Generator[bool]:
        """Within this context `wait` learns who sent a signal; yields whether that works here."""
        if not self.tell_senders:
            yield False
            return
        with self.held():
            yield True

    def wait(self, timeout: float | None) -> None:
        """Wait for a signal or for the end of a child, at most `timeout` seconds and not long: look again then."""
        piece = _PIECE if timeout is None else min(_PIECE, timeout)
        found = signal.sigtimedwait({*self._before, signal.SIGCHLD}, piece)
        if found is not None and found.si_signo in self._before:
            self.received.append(Interrupt(found.si_signo, found.si_code == _FROM_KERNEL))

    def fresh(self) -> list[Interrupt]:
        """The signals that came since this was last asked."""
        with suppress(BlockingIOError):  # no wake-up is waiting
            os.read(self.wake, 4096)
        found = self.received[self._taken :]
        self._taken += len(found)
        return found

    @property
    def pending(self) -> bool:
        """Whether a signal came that nobody has asked for yet."""
        return len(self.received) > self._taken


def in_foreground() -> bool:
    """Whether we are in the foreground of a terminal, so that its Ctrl-C reaches our whole group."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:  # no controlling terminal
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:  # the terminal went away
        return False
    finally:
        os.close(terminal)
