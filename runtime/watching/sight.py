"""What a process is doing, as another thread of it sees: where in the user's code, and whether it waits for others.

Nothing is noted by who is being looked at, so that a training step pays nothing for it.
"""

from __future__ import annotations

import inspect
import linecache
import sys
import time
from collections.abc import Iterable, Iterator
from types import FrameType, TracebackType
from typing import Literal

import msgspec

from ...spec.findings import Place

State = Literal["waits", "works", "ended", "failed"]

_OURS = __name__.rsplit(".", 2)[0]
#: Modules of torch in which a process talks to others. Backward passes run in the calling thread only on the CPU.
_TALKING = ("torch.distributed.", "torch.nn.parallel.distributed")
_ENGINE = "_engine_run_backward"
_IDLE = 0.05  # of a second's time on a core; a thread that waits takes none, one that works on a busy machine more
_INNERMOST = 4  # frames; an operation of torch is called through a few
#: Functions around others, whose names say nothing.
_AROUND = frozenset({"wrapper", "_call_impl", "inner", "__call__", "decorate_context", "_fn"})
_FORWARD = "_wrapped_call_impl"  # what a call of a module is


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """One look at a process.

    `sequence` counts the collectives that it began, `operation` is the one it is in, `call` what the user's code called
    at `place`. `busy` is the time that all of its threads took on cores, in parts of one. `own` says of a failure that
    no other process was to blame.
    """

    rank: int
    state: State
    asked: int = 0
    seconds: float = 0.0
    sequence: int = 0
    operation: str | None = None
    call: str | None = None
    function: str | None = None
    place: Place | None = None
    busy: float = 0.0
    own: bool = False


class Observer:
    """Looks at one thread, again and again.

    `spins` says that waiting takes time on a core here, as it does for a GPU.
    """

    def __init__(self, thread: int, *, spins: bool) -> None:
        self._thread = thread
        self._spins = spins
        self._clock = time.pthread_getcpuclockid(thread) if hasattr(time, "pthread_getcpuclockid") else None
        self._last: object = None
        self._since = self._at = time.monotonic()
        self._used, self._used_by_all = self._times()

    def look(self, rank: int, sequence: int) -> Sight:
        """What the thread does now. `seconds` count from the first look since which it has not moved."""
        now, (used, used_by_all) = time.monotonic(), self._times()
        elapsed = max(now - self._at, 1e-3)
        idle = self._spins or (used - self._used) / elapsed < _IDLE
        busy = (used_by_all - self._used_by_all) / elapsed
        self._at, self._used, self._used_by_all = now, used, used_by_all
        frames = list(_outwards(sys._current_frames().get(self._thread)))  # noqa: SLF001 - the way that Python has
        operation = _operation(frames, spins=self._spins)
        here = (sequence, [(id(frame.f_code), frame.f_lasti) for frame in frames])
        if not idle or here != self._last:
            self._last, self._since = here, now
        place, function, call = _user(frames)
        return Sight(
            rank=rank,
            state="waits" if operation is not None and now > self._since else "works",
            seconds=now - self._since,
            sequence=sequence,
            operation=operation,
            call=call,
            function=function,
            place=place,
            busy=busy,
        )

    def _times(self) -> tuple[float, float]:
        all_threads = time.process_time()
        return (all_threads if self._clock is None else time.clock_gettime(self._clock)), all_threads


def of_error(error: BaseException, rank: int) -> Sight:
    """Where a process failed."""
    frames = list(_inwards(error.__traceback__))[::-1]
    place, function, call = _user(frames)
    operation = _operation(frames, spins=False)
    return Sight(rank=rank, state="failed", operation=operation, call=call, function=function, place=place)


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _inwards(traceback: TracebackType | None) -> Iterator[FrameType]:
    while traceback is not None:
        yield traceback.tb_frame
        traceback = traceback.tb_next


def _operation(frames: Iterable[FrameType], *, spins: bool) -> str | None:
    """The function through which the innermost frames talk to other processes, or None where they do not."""
    for depth, frame in enumerate(frames):
        name, function = _module(frame), frame.f_code.co_name
        if name.startswith(_TALKING) and function not in _AROUND:
            return function
        if function == _ENGINE and not spins:
            return "backward"
        if depth >= _INNERMOST or not name.startswith(("torch", _OURS)):
            return None
    return None


def _user(frames: list[FrameType]) -> tuple[Place | None, str | None, str | None]:
    """The innermost place in code that is the user's own, the function that it is in, and what it called there."""
    foreign = [index for index, frame in enumerate(frames) if not _is_library(_module(frame))]
    own = [index for index in foreign if "-packages" not in frames[index].f_code.co_filename]
    index = next(iter(own or foreign), None)
    if index is None:
        return None, None, None
    frame = frames[index]
    inner = [each.f_code.co_name for each in frames[:index][::-1]]
    call = next((name for name in inner if name not in _AROUND), None)
    return _place(frame), frame.f_code.co_name, "forward" if call == _FORWARD else call


def _place(frame: FrameType) -> Place:
    spot = inspect.getframeinfo(frame, context=0)
    text = linecache.getline(spot.filename, spot.lineno).rstrip("\n")
    column = len(text) - len(text.lstrip())
    length = max(1, len(text.strip()))
    return Place(source=spot.filename, line=spot.lineno, column=column + 1, length=length, excerpt=text or None)


def _is_library(name: str) -> bool:
    top = name.partition(".")[0]
    return top == "torch" or name == _OURS or name.startswith(f"{_OURS}.") or top in sys.stdlib_module_names


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))
