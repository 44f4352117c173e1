"""Watches whether the processes of a job keep each other waiting, and says who is where instead of a silent time-out.

A thread in each process looks once a second at what its main thread does. Where that has waited for others for a few
seconds it asks all processes, through the store that they met in, to say where they are. It has a connection of its own
to the store, and the main thread never waits for it.
"""

from __future__ import annotations

import atexit
import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import torch
from torch import distributed as dist

from ...spec.findings import Finding
from ..connections import Line, reaches_others
from .judge import PATIENCE, Sights, after_failure, judge
from .sight import Observer, Sight, of_error

_PAUSE = 1.0  # seconds between two looks
_ANSWER = 2.5  # seconds in which a process answers that is alive
_STORE = timedelta(seconds=5)  # how long the store may take
_LEAVE = 1.2  # seconds until whoever spoke ends, the first, and so the one to be blamed; the others have heard by then
#: What backends say when a process that they talk to is gone, or in another collective.
_LOST = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "gloo",
    "NCCL",
)


class Watch:
    """The watch over one process group, in one of its processes."""

    def __init__(self, line: Line, rank: int, size: int, *, spins: bool) -> None:
        self._line = line
        self._store = line.store
        self._rank = rank
        self._size = size
        self._group = id(dist.group.WORLD)
        self._observer = Observer(threading.get_ident(), spins=spins)
        self._stop = threading.Event()
        self._asked = 0
        self._since: tuple[int, float] | None = None
        self._told: set[object] = set()
        self._thread = threading.Thread(target=self._run, name="jobc-watch", daemon=True)

    def start(self) -> None:
        """Begins to look."""
        atexit.register(self.leave)
        self._thread.start()

    def leave(self) -> None:
        """Ends the watch; where this process failed because of another, says what the other one does."""
        if self._stop.is_set():
            return
        self._stop.set()
        self._thread.join(_STORE.total_seconds())
        atexit.unregister(self.leave)
        _watched.discard(self._group)
        error: BaseException | None = getattr(sys, "last_value", None)
        if self._line.is_dead:
            return
        try:
            if error is None:
                self._publish(Sight(rank=self._rank, state="ended"))
            else:
                self._failed(error)
        except RuntimeError:  # the store is gone with the process that held it, so there is nobody left to tell
            return

    def _failed(self, error: BaseException) -> None:
        lost = isinstance(error, RuntimeError) and any(word in str(error) for word in _LOST)
        mine = msgspec.structs.replace(of_error(error, self._rank), own=not lost, asked=self._store.add("asked", 1))
        self._publish(mine)
        if lost:
            self._since = None
            deadline = time.monotonic() + _ANSWER
            while (sights := self._sights(mine.asked, patient=time.monotonic() < deadline)) is None:
                time.sleep(0.1)
            found = after_failure({**sights, self._rank: mine}, mine)
            if found is not None:
                _say(found)

    def _run(self) -> None:
        try:
            while not self._stop.wait(_PAUSE):
                group: Any = dist.group.WORLD
                if group is None or id(group) != self._group or self._line.is_dead:
                    return  # whoever opened the group closed it, or whoever held the store is gone
                sight = self._observer.look(self._rank, group._get_sequence_number_for_group())  # noqa: SLF001 - torch has no other way
                del group
                self._turn(sight)
        except RuntimeError:  # the store is gone, and with it the way to hear of others; the main thread hears it too
            return

    def _turn(self, sight: Sight) -> None:
        waits = sight.state == "waits" and sight.seconds >= PATIENCE
        asked = self._store.add("asked", int(waits))
        if asked != self._asked:
            self._asked = asked
            self._publish(msgspec.structs.replace(sight, asked=asked))
        if not waits:
            self._since = None
            return
        if self._since is None:
            self._since = (asked, time.monotonic())
        first, since = self._since
        if self._store.check(["verdict"]):
            # What there is to say was said. When the speaker ends, its end is an error here that says nothing more.
            sys.excepthook = lambda *_: None
            _end(2 * _LEAVE)
        sights = self._sights(first, patient=time.monotonic() - since < _ANSWER)
        if sights is not None:
            self._tell(judge({**sights, self._rank: sight}, sight), sight)

    def _tell(self, found: Finding | None, sight: Sight) -> None:
        if found is None:
            return
        if found.severity == "error":
            self._store.set("verdict", found.code)
            _say(found)
            _end(_LEAVE)
        here = (found.code, sight.place)
        if here not in self._told:
            self._told.add(here)
            _say(found)

    def _publish(self, sight: Sight) -> None:
        self._store.set(f"sight/{self._rank}", msgspec.json.encode(sight))

    def _sights(self, since: int, *, patient: bool) -> Sights | None:
        """What the others said since they were asked, None where one has not answered.

        None for all if it is another one's turn to speak, that of the lowest that waits, or if, while one is `patient`,
        answers are missing. A process that has ended said so once and for all.
        """
        found: dict[int, Sight | None] = {}
        for rank in [rank for rank in range(self._size) if rank != self._rank]:
            key = f"sight/{rank}"
            sight = msgspec.json.decode(self._store.get(key), type=Sight) if self._store.check([key]) else None
            if sight is not None and sight.asked < since and sight.state in ("waits", "works"):
                sight = None  # from an earlier time
            if sight is None and patient:
                return None
            if sight is not None and sight.state == "waits" and rank < self._rank and self._since is not None:
                return None
            found[rank] = sight
        return found


#: The identity of the group that is watched over in this process, where one is.
_watched: set[int] = set()


def begin(store: Any, rank: int, size: int, device: torch.device) -> Callable[[], None]:
    """Watches over the group that is open, met through `store`; returns what ends the watch.

    A group that is watched over already, or that met in another way than torch usually does, is left alone.
    """
    if not reaches_others(store) or id(dist.group.WORLD) in _watched:
        return lambda: None
    watch = Watch(Line(store, "watch", rank, _STORE), rank, size, spins=device.type == "cuda")
    if sys.__stderr__ is not None and not faulthandler.is_enabled():
        faulthandler.enable(
            sys.__stderr__
        )  # gloo ends a process that is sent what it did not expect: show where it was
    _watched.clear()
    _watched.add(id(dist.group.WORLD))
    watch.start()
    return watch.leave


def _say(found: Finding) -> None:
    print(found.render(), file=sys.stderr, flush=True)


def _end(after: float) -> None:
    """Ends this process, whose main thread can be asked no more."""
    time.sleep(after)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)
