"""What jobc raises on purpose is shown where the user's own code ends: frames beneath say nothing about the mistake."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from types import FrameType, TracebackType

from ..spec.findings import JobcError

_HERE = __name__.rpartition(".")[0]
_PACKAGE = _HERE.rpartition(".")[0]


def install() -> None:
    """Shows errors of jobc that nobody catches without frames of jobc, by whatever shows exceptions so far.

    Every other exception is shown as before, and those of jobc keep all their frames for debuggers.
    """
    if not isinstance(sys.excepthook, _Hook):
        sys.excepthook = _Hook(sys.excepthook)


def text(error: BaseException) -> str:
    """What a process shows of an exception, as a text."""
    frames = cut(error.__traceback__) if isinstance(error, JobcError) else error.__traceback__
    return "".join(traceback.format_exception(type(error), error, frames))


def cut(frames: TracebackType | None) -> TracebackType | None:
    """The same frames without those of jobc, and of what jobc called on the way; all of them if no other is left."""
    kept: list[TracebackType] = []
    within = False
    here = frames
    while here is not None:
        within = _is_ours(here.tb_frame) or (within and _is_between(here.tb_frame))
        if not within:
            kept.append(here)
        here = here.tb_next
    while kept and _is_between(kept[-1].tb_frame):
        kept.pop()
    found = None
    for item in reversed(kept):
        found = TracebackType(found, item.tb_frame, item.tb_lasti, item.tb_lineno)
    return frames if found is None else found


class _Hook:
    """Shows exceptions through the hook that was there before."""

    def __init__(self, before: Callable[..., object]) -> None:
        self._before = before

    def __call__(self, kind: type[BaseException], error: BaseException, frames: TracebackType | None) -> None:
        if not isinstance(error, JobcError):
            self._before(kind, error, frames)
            return
        shorter, whole = cut(frames), error.__traceback__
        try:
            # Python shows the frames that the exception has, whichever it is given beside it.
            self._before(kind, error.with_traceback(shorter), shorter)
        finally:
            error.__traceback__ = whole


def _is_ours(frame: FrameType) -> bool:
    name = frame.f_globals.get("__name__", "")
    return name == _PACKAGE or name.startswith(f"{_PACKAGE}.")


def _is_between(frame: FrameType) -> bool:
    name = frame.f_globals.get("__name__", "")
    return name == "contextlib" or name.startswith("torch.")
