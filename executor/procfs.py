"""What Linux says about processes: `/proc`, process descriptors and the ties between parent and child.

Every function degrades: where the system has no such thing the answer is empty or False.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37
_PROC = Path("/proc")
_HELD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)


class Stat(NamedTuple):
    """A process: its state letter, parent, session and start (clock ticks after boot)."""

    pid: int
    state: str
    parent: int
    session: int
    start: int


def stat_of(pid: int) -> Stat | None:
    """What `/proc` says about a process, None when there is no such process."""
    try:
        raw = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:  # it ended, or this system has no /proc
        return None
    fields = raw[raw.rindex(b")") + 2 :].split()
    return Stat(pid, fields[0].decode(), int(fields[1]), int(fields[3]), int(fields[19]))


def table() -> dict[int, Stat]:
    """All processes that `/proc` shows."""
    try:
        names = [entry.name for entry in _PROC.iterdir()]
    except OSError:
        return {}
    found = (stat_of(int(name)) for name in names if name.isdigit())
    return {stat.pid: stat for stat in found if stat is not None}


def children(pid: int) -> list[int]:
    """The processes that the main thread of a process started and has not yet waited for."""
    try:
        return [int(word) for word in (_PROC / str(pid) / "task" / str(pid) / "children").read_bytes().split()]
    except OSError:  # it ended, or the kernel does not say
        return []


def variable(pid: int, name: bytes) -> bytes | None:
    """A variable that a process was started with, where this user may see it."""
    try:
        raw = (_PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return None
    prefix = name + b"="
    return next((item[len(prefix) :] for item in raw.split(b"\0") if item.startswith(prefix)), None)


def exit_code(pid: int) -> int | None:
    """How a process ended that its parent has not yet waited for, as `subprocess` says it: field 52 of proc(5) stat."""
    try:
        words = (_PROC / str(pid) / "stat").read_bytes().rpartition(b") ")[2].split()
    except OSError:
        return None
    return os.waitstatus_to_exitcode(int(words[49])) if words[0] == b"Z" else None


def command_line(pid: int) -> str:
    """The command of a process for people, at most 80 characters."""
    try:
        raw = (_PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return ""
    text = " ".join(raw.rstrip(b"\0").decode(errors="replace").split("\0"))
    text = "".join(char if char.isprintable() else " " for char in text)
    return text if len(text) <= 80 else f"{text[:77]}..."


def listener(port: int) -> int | None:
    """The process that listens on a TCP port, where `/proc` shows it to this user."""
    wanted = _listening_inodes(port)
    if not wanted:
        return None
    return next((pid for pid in table() if wanted.intersection(_open_files(pid))), None)


def _open_files(pid: int) -> Iterator[str]:
    """What the descriptors of a process refer to, as far as this user may see."""
    with suppress(OSError):  # another user's process, or one that ended meanwhile
        for entry in (_PROC / str(pid) / "fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                yield str(entry.readlink())


def _listening_inodes(port: int) -> set[str]:
    found: set[str] = set()
    for name in ("tcp", "tcp6"):
        try:
            rows = (_PROC / "net" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            fields = row.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(f"socket:[{fields[9]}]")
    return found


def exit_descriptor(pid: int) -> int | None:
    """A descriptor that becomes readable when the process ends, ours or not; None where there is none."""
    opener = getattr(os, "pidfd_open", None)
    if opener is None:
        return None
    try:
        return int(opener(pid))
    except OSError:  # it ended and was waited for, or the kernel is too old
        return None


@cache
def _libc() -> Any:
    if sys.platform != "linux":
        return None
    import ctypes  # noqa: PLC0415  (only an execution on Linux needs it)

    try:
        library = ctypes.CDLL(None, use_errno=True)
        library.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
    except (OSError, AttributeError):  # a static interpreter without a libc to load
        return None
    return library


@contextmanager
def subreaper() -> Generator[bool]:
    """Within this context orphaned descendants become children of this process; yields whether it works."""
    libc = _libc()
    if libc is None:
        yield False
        return
    import ctypes  # noqa: PLC0415  (only an execution on Linux needs it)

    before = ctypes.c_int(0)
    libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.addressof(before), 0, 0, 0)
    done = libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    try:
        yield done
    finally:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, before.value, 0, 0, 0)


def can_tie() -> bool:
    """Whether a new child can call a function before exec: on Linux, from a process without other threads.

    Between fork and exec only such a process is sure to hold no lock.
    """
    return threading.active_count() == 1 and _libc() is not None


def die_with_parent(number: int) -> Any:
    """A function for a new child to call before exec, so that it gets the signal when this process dies.

    The child gets the signals that this process holds back. The function makes three system calls and touches no
    lock, so it is safe between fork and exec. None where the system cannot do that.
    """
    libc = _libc()
    if libc is None:
        return None
    parent, prctl, mask = os.getpid(), libc.prctl, signal.pthread_sigmask

    def tie() -> None:
        mask(signal.SIG_UNBLOCK, _HELD)
        prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:  # it died before the tie was made
            os._exit(128 + number)

    return tie
