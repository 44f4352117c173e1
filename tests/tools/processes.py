"""Processes of an engine, known by a variable in their environment, which those that they start inherit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def variable(pid: int, name: str) -> str | None:
    """What a variable of a process was when it started; None too where the process has ended."""
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    start = f"{name}=".encode()
    return next((os.fsdecode(entry[len(start) :]) for entry in entries if entry.startswith(start)), None)


def matching(condition: Callable[[int], bool]) -> list[int]:
    """Process ids for which something is so; not this process."""
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [pid for pid in pids if pid != os.getpid() and condition(pid)]


def end(condition: Callable[[int], bool], grace: float = 5) -> None:
    """SIGTERM to these processes, SIGKILL to those that stay."""
    for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, 10)):
        for pid in matching(condition):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        if until(lambda: not matching(condition), seconds):
            return
    raise AssertionError(f"still there: {matching(condition)}")


def until(condition: Callable[[], object], seconds: float) -> bool:
    """Whether something came to be so in time."""
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > limit:
            return False
        time.sleep(0.1)
    return True


@contextmanager
def guarded(**variables: str) -> Iterator[None]:
    """What has one of these variables is ended at the end, be it that this process is killed."""
    words = [f"{name}={value}" for name, value in variables.items()]
    guard = subprocess.Popen([sys.executable, __file__, *words], stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield
    finally:
        guard.communicate(timeout=60)


if __name__ == "__main__":
    sys.stdin.read()  # until the other end is closed, by who holds it or because it is gone
    pairs = [word.partition("=")[::2] for word in sys.argv[1:]]
    end(lambda pid: any(variable(pid, name) == value for name, value in pairs))
