"""Every process that a run started, directly or not, and the end of those that outlive it."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from .guardian import Guardian
from .procfs import Stat, children, stat_of, table, variable


class Family:
    """The descendants of the commands of a run.

    They are: what was started directly; children of this process that were not there before and live in
    another session (orphans that came to it as a subreaper); processes whose `JOBC_SPEC` lies in the run's
    folder; and what any of these started. A verb of a run that goes on beside it passes no folder, and
    leaves the run alone. Without `/proc` only the sessions of what was started are known.
    """

    def __init__(self, run_dir: Path | None, guardian: Guardian | None = None) -> None:
        self._guardian = guardian
        self._mark = None if run_dir is None else os.fsencode(run_dir) + b"/"
        self._started: dict[int, tuple[bool, int | None]] = {}
        self._me = stat_of(os.getpid())
        self._before = {pid for pid, stat in table().items() if stat.parent == os.getpid()}

    def add(self, pid: int, *, own_session: bool) -> None:
        """Note a process that the run started directly."""
        stat = stat_of(pid)
        self._started[pid] = (own_session, stat.start if stat else None)
        if self._guardian is not None:
            self._guardian.add(pid)

    def members(self) -> list[Stat]:
        """All members that are there, ended ones that nobody has waited for included."""
        everyone = table()
        found = {pid for pid, stat in everyone.items() if self._is_ours(stat)}
        heirs: dict[int, list[int]] = {}
        for stat in everyone.values():
            heirs.setdefault(stat.parent, []).append(stat.pid)
        queue = list(found)
        while queue:
            for pid in heirs.get(queue.pop(), []):
                if pid not in found:
                    found.add(pid)
                    queue.append(pid)
        found.discard(os.getpid())
        return [everyone[pid] for pid in found]

    def _is_ours(self, stat: Stat) -> bool:
        me = self._me
        if me is None or stat.pid == me.pid or stat.start < me.start:
            return False
        if stat.pid in self._started:  # unless its number was given to a stranger since
            return self._started[stat.pid][1] == stat.start
        if stat.session in self._started:
            return True
        if stat.parent == me.pid and stat.session != me.session and stat.pid not in self._before:
            return True
        if self._mark is None or stat.state == "Z" or stat.parent == 2:  # it has ended, or is the kernel's
            return False
        value = variable(stat.pid, b"JOBC_SPEC")
        return value is not None and value.startswith(self._mark)

    def send(self, number: int) -> None:
        """Send a signal to every member."""
        members = self.members()
        for stat in members:
            _send(stat.pid, number)
        if not members:
            for pid in [pid for pid, (own_session, _) in self._started.items() if own_session]:
                with suppress(ProcessLookupError, PermissionError):  # the session is empty
                    os.killpg(pid, number)

    def end(self, patience: float) -> None:
        """Ask every member that is left to end, wait at most `patience` seconds, then end it."""
        if not self._left(0.1):
            return
        self.send(signal.SIGTERM)
        if not self._left(patience):
            return
        for _ in range(10):  # one that forks while it is ended leaves a child for the next round
            self.send(signal.SIGKILL)
            if not self._left(1.0):
                return

    def bury(self) -> None:
        """Wait for orphans that came to this process and have ended, so that they do not pile up."""
        me = self._me
        if me is None:
            return
        for pid in children(me.pid):
            stat = stat_of(pid)
            if stat is not None and stat.state == "Z" and stat.session != me.session and self._is_ours(stat):
                self._bury(stat)

    def _left(self, seconds: float) -> bool:
        """Whether members still run when the seconds are over, or none does before."""
        deadline = time.monotonic() + seconds
        while True:
            running = False
            for stat in self.members():
                if stat.state in "ZX":
                    self._bury(stat)
                else:
                    running = True
            if not running or time.monotonic() >= deadline:
                return running
            time.sleep(0.02)

    def _bury(self, stat: Stat) -> None:
        """Wait for an ended orphan; a direct child is left to who started it."""
        if stat.parent == os.getpid() and stat.pid not in self._started:
            with suppress(ChildProcessError):  # somebody else waited for it
                os.waitpid(stat.pid, os.WNOHANG)


def _send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # it ended meanwhile, or became another user
        os.kill(pid, number)
