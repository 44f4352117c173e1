"""What a torchrun agent leaves behind: the log files of its workers, and its report of which of them failed.

torchrun keeps the time of a failure in whole seconds and looks at its workers ten times a second, so when two
fail within moments its "root cause" may be the lower rank instead of the first. `Deaths` watches the workers
themselves.
"""

from __future__ import annotations

import os
import re
import selectors
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from .model import Failure, failure_of
from .procfs import children, exit_code, exit_descriptor, variable
from .screen import Source, Stream

_STREAMS: tuple[Stream, Stream] = ("stdout", "stderr")
_ENTRY = re.compile(
    rb"^\[\d+\]:\n  time +: (.*)\n  host +: .*\n  rank +: (\d+) \(local_rank: (\d+)\)\n"
    rb"  exitcode +: (-?\d+) +\(pid: (\d+)\)",
    re.MULTILINE,
)
#: How an agent notes the end of a process: its exit code, its number on the machine, its process id.
NOTED = re.compile(rb"failed \(exitcode: (-?\d+)\) local_rank: (\d+) \(pid: (\d+)\)")
_ROOT = b"\nRoot Cause (first observed failure):\n"
_REPORT = b" FAILED\n---"
_MOST = 4 << 20  # a report holds a traceback for each failed worker of this machine


class Reported(NamedTuple):
    """A failed worker in the agent's report; `time` is when, in whole seconds and in a form that sorts."""

    local_rank: int
    exitcode: int
    pid: int
    rank: int = -1
    time: bytes = b""


def read_report(log: Path) -> tuple[Reported, ...]:
    """The failed workers in the last report of the agent's log, its own root cause first; or none."""
    text = end_of(log)
    root_at = text.rfind(_ROOT)
    if root_at < 0:
        return ()
    start = text.rfind(_REPORT, 0, root_at)
    root = list(_entries(text[root_at:]))[:1]
    return (*root, *_entries(text[max(start, 0) : root_at]))


def end_of(log: Path) -> bytes:
    """The last part of a log, which holds the whole of a report; nothing where there is no log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _MOST))
            return file.read(_MOST)
    except FileNotFoundError:
        return b""


def _entries(text: bytes) -> Iterator[Reported]:
    for found in _ENTRY.finditer(text):
        time, *words = found.groups()
        rank, local_rank, exitcode, pid = map(int, words)
        yield Reported(local_rank, exitcode, pid, rank, time)


def first_failure(reported: tuple[Reported, ...], deaths: list[int], ranks: tuple[int, ...]) -> Failure | None:
    """The failure that came first: in the order in which workers ended, else as the report says."""
    if not reported:
        return None
    order = {pid: place for place, pid in enumerate(deaths)}
    first = min(reported, key=lambda item: order.get(item.pid, len(order)))
    return failure_of(first.exitcode, rank=_rank(ranks, first.local_rank))


def reported_failure(log: Path) -> Failure | None:
    """The failure that the agent of another machine calls its root cause, by the number of the rank in the job."""
    reported = read_report(log)
    return failure_of(reported[0].exitcode, rank=reported[0].rank) if reported else None


def earliest_failure(logs: Iterable[Path]) -> Failure | None:
    """The one that came first of what the agents of several machines call their root causes."""
    roots = [reported[0] for log in logs if (reported := read_report(log))]
    first = min(roots, key=lambda root: root.time, default=None)
    return None if first is None else failure_of(first.exitcode, rank=first.rank)


def failed_attempt(log: Path, deaths: Deaths, attempt: int, ranks: tuple[int, ...]) -> Failure | None:
    """What ended an attempt that the agent has followed by another: its note, unless another worker ended before."""
    noted = [Reported(int(rank), int(code), int(pid)) for code, rank, pid in NOTED.findall(end_of(log))]
    first = next((pid for pid in deaths.order if deaths.places.get(pid, (None, 0))[0] == attempt), None)
    if first is not None and (not noted or noted[-1].pid != first):
        rank, code = _rank(ranks, deaths.places[first][1]), deaths.codes.get(first)
        return Failure(rank=rank) if code is None else failure_of(code, rank=rank)
    return failure_of(noted[-1].exitcode, rank=_rank(ranks, noted[-1].local_rank)) if noted else None


class Deaths:
    """The order in which an agent's workers end, taken from the kernel rather than from the agent's clock."""

    def __init__(self, agent: int, selector: selectors.BaseSelector) -> None:
        self._agent = agent
        self._selector = selector
        self._seen: set[int] = set()
        self._watched: dict[int, int] = {}
        self.order: list[int] = []
        #: The exit codes of those that were looked at before the agent waited for them.
        self.codes: dict[int, int] = {}
        #: The attempt and local rank of each worker, from the variables that it was started with.
        self.places: dict[int, tuple[int, int]] = {}

    def discover(self) -> None:
        """Watch workers that the agent started since the last look."""
        for pid in children(self._agent):
            if pid in self._seen:
                continue
            self._seen.add(pid)
            descriptor = exit_descriptor(pid)
            if descriptor is not None:
                self._watched[descriptor] = pid
                self._selector.register(descriptor, selectors.EVENT_READ, self)
        for pid in [pid for pid in self._watched.values() if pid not in self.places]:
            attempt, rank = variable(pid, b"TORCHELASTIC_RESTART_COUNT"), variable(pid, b"LOCAL_RANK")
            if rank is not None:  # before exec it has the agent's own variables
                self.places[pid] = (int(attempt or 0), int(rank))

    def ended(self, descriptor: int) -> None:
        """Note that the process behind a descriptor has ended."""
        self._selector.unregister(descriptor)
        os.close(descriptor)
        pid = self._watched.pop(descriptor)
        self.order.append(pid)
        code = exit_code(pid)
        if code is not None:
            self.codes[pid] = code

    def close(self) -> None:
        """Stop watching."""
        for descriptor in list(self._watched):
            self._selector.unregister(descriptor)
            os.close(descriptor)
        self._watched.clear()


def worker_logs(logs: Path, ranks: tuple[int, ...], known: Container[Path]) -> Iterator[tuple[Source, Path]]:
    """Log files not yet known, oldest attempt first: `<logs>/<id>/attempt_<n>/<local rank>/stdout.log`."""
    attempts = sorted(logs.glob("*/attempt_*"), key=_number)
    for attempt in attempts:
        for local_rank in range(len(ranks)):
            for stream in _STREAMS:
                path = attempt / str(local_rank) / f"{stream}.log"
                if path not in known and path.exists():
                    yield Source(_rank(ranks, local_rank), stream), path


def attempt_of(path: Path) -> int:
    """The attempt that a log file of a worker belongs to, from 0."""
    return _number(path.parent.parent)


def _number(path: Path) -> int:
    number = path.name.rpartition("_")[2]
    return int(number) if number.isdigit() else -1


def _rank(ranks: tuple[int, ...], local_rank: int) -> int:
    return ranks[local_rank] if local_rank < len(ranks) else local_rank
