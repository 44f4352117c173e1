"""SIGTERM as a request to save: all processes stop at the same step, save, and end so that the run is started again.

Python runs a signal's handler between two lines of the main thread, which may be waiting in a collective. So a thread
hears of the signal, from whichever process got it, and the threads agree through the store on a step that no process
has come to yet. A step pays for a counter and one look at a flag.
"""

from __future__ import annotations

import atexit
import math
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

from torch import distributed as dist

from ..spec.findings import FindingsError, finding
from .connections import Line
from .places import caller_place
from .world import World

#: The exit code after SIGTERM, as a shell has it. torchrun starts all processes again after it, if it may.
EXIT_CODE = 128 + signal.SIGTERM

_LOOK = 0.5  # seconds between two looks at whether another process was asked to end
_ANSWER = 4.0  # seconds in which the thread of a process answers that is alive
_STEP = 10.0  # seconds in which a step ends, unless steps have taken long so far
_LONGEST = 25.0  # seconds for such a step; launchers end what is left after half a minute
_AHEAD = 1.0  # seconds until the common step, which every process has to hear of before it gets there
_EXIT = 5.0  # seconds from the end of the save to that of the process
_STORE = timedelta(seconds=5)


class Preemption:
    """Listens for SIGTERM in all processes of a world, and saves at a step that is the same in all.

    Make it in the main thread of every process, with the process group open; `poll` belongs between two steps.

    Args:
        world: The processes.
        save: Writes a checkpoint; all processes call it together.
    """

    def __init__(self, world: World, save: Callable[[], object]) -> None:
        if threading.current_thread() is not threading.main_thread():
            cause = "`training.checkpoint.on_preemption: save` listens for a signal, which only a main thread can"
            step = "make the Accelerator in the main thread, or leave the setting away"
            raise FindingsError((finding("J510", cause, place=caller_place(), next_step=step),))
        self._rank = world.rank
        self._size = world.size
        self._save = save
        self._line = None if world.size == 1 else Line(_store(), "preemption", world.rank, _STORE)
        self._store = None if self._line is None else self._line.store
        self._steps = 0
        self._began = time.monotonic()
        self._asked = False
        self._stop_at: int | None = None
        self._settled: bool | None = None
        self._leave_by: float | None = None
        self._saving = False
        self._change = threading.Condition()
        self._closed = threading.Event()
        self._reader, self._writer = os.pipe()
        for descriptor in (self._reader, self._writer):
            os.set_blocking(descriptor, False)
        self._wakeup_before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._handler_before = signal.signal(signal.SIGTERM, self._note)
        if not _LISTENING:
            os.register_at_fork(after_in_child=_forget)
        _LISTENING.append(self)
        atexit.register(self.close)
        self._thread = threading.Thread(target=self._listen, name="jobc-preemption", daemon=True)
        self._thread.start()

    def poll(self) -> None:
        """A step has ended. All processes call it equally often; it may save, and end the process.

        Raises:
            SystemExit: The run was asked to end, and is saved.
        """
        self._steps += 1
        if self._asked:
            self._consider()

    def close(self) -> None:
        """Listens no more, and gives SIGTERM the meaning back that it had."""
        if self._closed.is_set():
            return
        self._closed.set()
        atexit.unregister(self.close)
        self._note(0)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._handler_before)
            signal.set_wakeup_fd(self._wakeup_before)
        self._thread.join(_STORE.total_seconds())
        os.close(self._reader)
        os.close(self._writer)

    def be_deaf(self) -> None:
        """In a process that was forked from this one: signals are its own affair."""
        if signal.getsignal(signal.SIGTERM) == self._note:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.set_wakeup_fd(-1)

    def _note(self, number: int, _frame: object = None) -> None:
        """The handler. The thread has heard of the signal already, unless somebody took its place as who is woken."""
        with suppress(BlockingIOError):  # it has enough to read
            os.write(self._writer, bytes([number]))

    # --- the main thread ----------------------------------------------------------------------------------------------

    def _consider(self) -> None:
        """Stops here if this is the common step. Whether it is for all is what the threads tell each other."""
        with self._change:
            self._change.notify_all()
            while self._steps == self._stop_at and self._settled is None:
                self._change.wait()
            if self._steps != self._stop_at or not self._settled:
                return  # not yet, or one has passed this step already and there will be another one
            self._saving = True
        try:
            self._save()
        finally:
            with self._change:
                self._leave_by = time.monotonic() + _EXIT
                self._change.notify_all()
        raise SystemExit(EXIT_CODE)

    # --- the thread that listens --------------------------------------------------------------------------------------

    def _listen(self) -> None:
        try:
            if not self._wait_for_signal():
                return
            self._asked = True
            if self._line is not None and self._line.is_dead:
                why = "the process that all meet at has ended"
            else:
                why = self._agree()
        except RuntimeError as error:  # the store, and so whoever held it, is gone
            why = f"the processes cannot reach each other: {error}".splitlines()[0]
        if why is not None and not self._closed.is_set():
            _give_up(why)

    def _wait_for_signal(self) -> bool:
        """Waits until this process, or another one, is asked to end; False when there is nothing more to listen for."""
        while True:
            deaf = self._line is None or self._line.is_dead
            ready, _, _ = select.select([self._reader], [], [], None if deaf else _LOOK)
            if self._closed.is_set():
                return False
            if ready and signal.SIGTERM in self._received():
                return True
            if not deaf and self._store is not None and self._store.check(["asked"]):
                return True

    def _received(self) -> bytes:
        found = os.read(self._reader, 4096)
        if self._wakeup_before >= 0:
            with suppress(OSError):  # whoever listened before is gone, or has not read for long
                os.write(self._wakeup_before, found)
        return found

    def _agree(self) -> str | None:
        """Stops the main thread at a step that all agree on; why not, where they do not come to one."""
        if self._store is not None:
            self._store.set("asked", "1")
        for number in range(10):
            target = self._steps + 1 + math.floor(self._speed() * _AHEAD * 4**number)
            targets = self._exchange(f"target_{number}", target)
            if targets is None:
                return "a process does not answer: it is gone, or was stopped"
            with self._change:
                self._settled, self._stop_at = None, max(targets)
                in_time = self._steps < self._stop_at
            answers = self._exchange(f"in_time_{number}", int(in_time))
            if answers is None:
                return "a process does not answer: it is gone, or was stopped"
            with self._change:
                self._settled = all(answers)
                if not self._settled:
                    self._stop_at = None
                self._change.notify_all()
            if all(answers):
                return self._accompany()
        return "the processes do not come to a common step"

    def _speed(self) -> float:
        """Steps in a second, so far."""
        return self._steps / max(time.monotonic() - self._began, 1e-3)

    def _exchange(self, name: str, value: int) -> list[int] | None:
        """The values of all processes; None where one does not answer."""
        if self._store is None:
            return [value]
        keys = [f"{name}/{rank}" for rank in range(self._size)]
        self._store.set(keys[self._rank], str(value))
        deadline = time.monotonic() + _ANSWER
        while not self._store.check(keys):
            if time.monotonic() > deadline or self._closed.wait(0.05):
                return None
        return [int(self._store.get(key)) for key in keys]

    def _accompany(self) -> str | None:
        """Waits for the main thread to save and to end; why it is not worth waiting for any longer."""
        steps, since = self._steps, time.monotonic()
        patience = min(_LONGEST, max(_STEP, 3 / max(self._speed(), 1e-3)))
        while not self._closed.wait(0.05):
            now = time.monotonic()
            if self._steps != steps:
                steps, since = self._steps, now
            if self._leave_by is not None and now > self._leave_by:
                _end()  # it is saved; what keeps the process has had its time
            if not self._saving and now - since > patience:
                return f"no step ended within {patience:.0f} s"
        return None


def _store() -> Any:
    return dist.distributed_c10d._get_default_store()  # noqa: SLF001 - torch has no other way


_LISTENING: list[Preemption] = []


def listening() -> bool:
    """Whether SIGTERM asks this process to save."""
    return bool(_LISTENING)


def _forget() -> None:
    for item in _LISTENING:
        item.be_deaf()


def _give_up(why: str) -> None:
    cause = f"the run was asked to end (SIGTERM), and no checkpoint was written: {why}"
    print(finding("J516", cause, next_step="it goes on from its last complete checkpoint").render(), file=sys.stderr)
    _end()


def _end() -> None:
    """Ends this process, whose main thread can be asked no more."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(EXIT_CODE)
