"""Waits for commands that run together: shows what they write, passes signals on, ends all when one fails."""

from __future__ import annotations

import os
import selectors
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import msgspec

from ..compiler.plan import Output
from . import deepspeed
from .family import Family
from .files import last_lines
from .follow import Follower
from .interrupts import Interrupt, Interrupts, in_foreground
from .model import Failure, failure_of
from .processes import Started
from .procfs import exit_descriptor
from .restarts import Restarts
from .screen import Screen, Source
from .shown import Chosen
from .torchelastic import Deaths, attempt_of, failed_attempt, first_failure, read_report, reported_failure, worker_logs

_TICK = 0.05  # seconds between two looks at growing files
_KILLED = 128  # a larger exit code says that a signal ended it, or, 255, that ssh lost the connection
_BURY = 10  # turns between two looks for orphans that ended; DeepSpeed waits until they are gone


@dataclass(frozen=True)
class Ended:
    """How commands that ran together ended: a failure, the signal that stopped them, their time limit, or none."""

    failure: Failure | None = None
    stopped: int | None = None
    timed_out: float | None = None


@dataclass
class Again:
    """How a command that was lost is started again, how often that may be, and how many go on without others then."""

    start: Callable[[Started], Started]
    left: int = 0
    least: int = 0


class Supervisor:
    """Waits for the commands of one step."""

    def __init__(
        self,
        run_dir: Path,
        family: Family,
        screen: Screen,
        interrupts: Interrupts,
        *,
        grace: float,
        timeout: float | None = None,
        again: Again | None = None,
        output: Output = Output(),  # noqa: B008 - it is frozen
    ) -> None:
        self._again = again
        self._logs = run_dir / "logs"
        self._family = family
        self._screen = screen
        self._interrupts = interrupts
        self._grace = grace
        self._limit = timeout
        self._until = None if timeout is None else time.monotonic() + timeout
        self._timed_out = False
        self._restarts = Restarts(screen, Chosen(screen, output))
        self._follower = Follower(self._restarts)
        self._selector = selectors.DefaultSelector()
        self._selector.register(interrupts.wake, selectors.EVENT_READ)
        self._running: list[Started] = []
        self._exits: list[Started] = []
        self._deaths: dict[int, Deaths] = {}
        self._agents: list[Started] = []
        self._attempts: dict[int, int] = {}
        self._files: dict[Source, Path] = {}
        self._known: set[Path] = set()
        self._first: tuple[Started, int] | None = None
        self._well = 0  # commands that ended well
        self._stopped: int | None = None
        self._deadline: float | None = None
        self._sightless = False

    def wait(self, started: Sequence[Started]) -> Ended:
        """Wait until all have ended and no descendant is left; everything they wrote has been shown then."""
        for item in started:
            self._watch(item)
        try:
            if all(item.inherits for item in started):
                self._accompany()
            else:
                self._follow_all()
        finally:
            self._family.end(min(self._grace, 5.0))
            self._sleep(0.0)
            for deaths in self._deaths.values():
                deaths.close()
            self._selector.close()
        self._look_for_files()
        self._follower.finish()
        return self._ended()

    def _accompany(self) -> None:
        """Wait beside commands that share our terminal: nothing to show, but it matters who interrupts."""
        with self._interrupts.with_senders() as senders:
            while self._reap():
                self._react()
                self._family.bury()
                if senders:
                    self._interrupts.wait(self._timeout())
                else:
                    self._sleep(self._timeout())

    def _follow_all(self) -> None:
        """Wait for commands and show what they write meanwhile."""
        for turn in count():
            if not self._reap():
                return
            self._react()
            self._look_for_files()
            if turn % _BURY == 0:
                self._family.bury()
            self._sleep(0.0 if self._follower.pump() else self._timeout())

    def abandon(self, started: Sequence[Started]) -> None:
        """End commands whose companions could not be started."""
        for item in started:
            item.send(signal.SIGTERM)
        self._family.end(min(self._grace, 5.0))
        for item in started:
            item.process.wait()
        self._selector.close()

    def _watch(self, item: Started) -> None:
        self._running.append(item)
        self._restarts.watch(item)
        for source, path in item.logs.items():
            if path not in self._known:
                self._follow(source, path)
        if item.agent_log is not None:
            self._agents.append(item)
            self._deaths[item.process.pid] = Deaths(item.process.pid, self._selector)
        descriptor = exit_descriptor(item.process.pid)
        if descriptor is None:
            self._sightless = True
        else:
            self._selector.register(descriptor, selectors.EVENT_READ, item)

    def _reap(self) -> bool:
        """Note which commands have ended, and which failed first; whether any still runs."""
        in_order = [item for item in self._exits if item in self._running]
        for item in [*in_order, *(each for each in self._running if each not in in_order)]:
            code = item.process.poll()
            if code is None:
                continue
            self._running.remove(item)
            self._well += code == 0
            if self._lost(item, code):
                continue
            if code != 0 and self._first is None:
                self._first = (item, code)
                if self._running and self._stopped is None:
                    self._ask(signal.SIGTERM, self._running)
        return bool(self._running)

    def _lost(self, item: Started, code: int) -> bool:
        """Whether a machine was killed or cut off and the run goes on all the same; an agent that gave up exits 1.

        Its command is started again, or the others go on without it. The machine where all meet is the first one.
        """
        again, ending = self._again, self._first is not None or self._stopped is not None or self._timed_out
        if again is None or ending or item.command.host is None or code <= _KILLED:
            return False
        how, others = failure_of(code, rank=None).how, len(self._running) + self._well
        if again.left:
            again.left -= 1
            self._screen.say(f"jobc: the machine {item.command.host} failed: {how}; its processes start again\n")
            self._watch(again.start(item))
            return True
        if not again.least or item.index == 0 or others < again.least:
            return False
        machines = "1 machine" if others == 1 else f"{others} machines"
        self._screen.say(f"jobc: the machine {item.command.host} failed: {how}; the run goes on with {machines}\n")
        return True

    def _react(self) -> None:
        for item in self._interrupts.fresh():
            self._interrupted(item)
        if self._restarts.failed and self._first is None and self._stopped is None and not self._timed_out:
            for item in [each for each in self._running if each.command.output == "deepspeed"][:1]:
                self._first = (item, 1)  # pdsh lets the other machines go on
                self._ask(signal.SIGTERM, self._running)
        if self._until is not None and time.monotonic() >= self._until:
            self._until = None
            if self._stopped is None and self._first is None:
                self._timed_out = True
                self._ask(signal.SIGTERM, self._running)
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self._family.send(signal.SIGKILL)
            self._deadline = time.monotonic() + 1.0

    def _interrupted(self, item: Interrupt) -> None:
        number = item.number
        if self._stopped is not None or self._first is not None:
            self._deadline = time.monotonic()  # it is ending already; a further signal means at once
            return
        own = [each for each in self._running if not each.inherits]
        typed = number == signal.SIGINT and (in_foreground() if item.typed is None else item.typed)
        if not own and number == signal.SIGINT:
            # What an interrupt means is the command's own affair: a debugger goes on.
            self._each(number, () if typed else self._running)
            return
        self._stopped = number
        self._ask(number, own if typed else self._running)

    def _ask(self, number: int, whom: Sequence[Started]) -> None:
        self._each(number, whom)
        self._deadline = time.monotonic() + self._grace

    def _each(self, number: int, whom: Sequence[Started]) -> None:
        for item in whom:
            item.send(number)

    def _look_for_files(self) -> None:
        for deaths in self._deaths.values():
            deaths.discover()
        for item in self._agents:
            for source, path in worker_logs(self._logs, item.command.ranks, self._known):
                self._note_attempt(item, attempt_of(path))
                with suppress(FileNotFoundError):  # torchrun replaced the attempt's folder between two looks
                    self._follow(source, path)

    def _note_attempt(self, item: Started, attempt: int) -> None:
        """Say that the agent starts all its workers again, and why, after everything that the former ones wrote."""
        last = self._attempts.setdefault(item.process.pid, 0)
        if attempt <= last or item.agent_log is None:
            return
        self._attempts[item.process.pid] = attempt
        self._follower.finish()
        found = failed_attempt(item.agent_log, self._deaths[item.process.pid], last, item.command.ranks)
        who = "a process" if found is None or found.rank is None else f"rank {found.rank}"
        how = "" if found is None or found.code is found.signal is None else f": {found.how}"
        self._screen.say(f"jobc: {who} failed{how}; all processes start again (restart {attempt})\n")

    def _follow(self, source: Source, path: Path) -> None:
        self._follower.add(source, path)
        self._known.add(path)
        self._files[source] = path

    def _sleep(self, timeout: float | None) -> None:
        for key, _ in self._selector.select(timeout):
            if isinstance(key.data, Deaths):
                key.data.ended(key.fd)
            elif isinstance(key.data, Started):
                self._exits.append(key.data)
                self._selector.unregister(key.fd)
                os.close(key.fd)

    def _timeout(self) -> float | None:
        if self._sightless or any(not item.inherits for item in self._running):
            return _TICK
        next_ = min((moment for moment in (self._deadline, self._until) if moment is not None), default=None)
        return None if next_ is None else max(0.0, next_ - time.monotonic())

    def _ended(self) -> Ended:
        if self._timed_out:
            return Ended(timed_out=self._limit)
        if self._stopped is not None:
            return Ended(stopped=self._stopped)
        if self._first is None:
            return Ended()
        item, code = self._first
        if item.command.host is not None:
            return Ended(failure=self._failure_elsewhere(item, code))
        interrupted = any(each.number == signal.SIGINT for each in self._interrupts.received)
        if item.inherits and interrupted and code in {-signal.SIGINT, 130}:
            return Ended(stopped=signal.SIGINT)
        if item.agent_log is None:
            rank = item.rank
            return Ended(failure=failure_of(code, rank=rank, lines=self._last_lines(rank)))
        if item.command.output == "deepspeed":
            deaths = self._deaths[item.process.pid]
            found = deepspeed.first_failure(item.agent_log, deaths, item.command.ranks)
            return Ended(failure=self._with_lines(item, found or failure_of(code, rank=None)))
        found = first_failure(read_report(item.agent_log), self._deaths[item.process.pid].order, item.command.ranks)
        if found is None:
            return Ended(failure=failure_of(code, rank=None, lines=last_lines(item.agent_log)))
        return Ended(failure=msgspec.structs.replace(found, lines=self._last_lines(found.rank)))

    def _failure_elsewhere(self, item: Started, code: int) -> Failure:
        """What failed on another machine: a rank, the connection, or the command itself."""
        noted = (reported_failure(path) or deepspeed.noted_failure(path) for path in item.logs.values())
        found = next((failure for failure in noted if failure is not None), None)
        found = self._with_lines(item, found or failure_of(code, rank=item.rank))
        return msgspec.structs.replace(found, host=str(item.command.host))

    def _with_lines(self, item: Started, failure: Failure) -> Failure:
        """The failure with the last lines of its rank, where lines carry ranks; else with those of the command."""
        path = next(path for source, path in item.logs.items() if source.stream == "stderr")
        lines = last_lines(path, 200) or last_lines(next(iter(item.logs.values())))
        own = tuple(line for line in lines if line.startswith(f"[{failure.rank}] "))
        return msgspec.structs.replace(failure, lines=(own or lines)[-20:])

    def _last_lines(self, rank: int | None) -> tuple[str, ...]:
        if rank is None:
            return ()
        paths = [self._files.get(Source(rank, "stderr")), self._files.get(Source(rank, "stdout"))]
        return next((lines for path in paths if path is not None and (lines := last_lines(path))), ())
