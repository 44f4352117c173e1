"""Where things were said: a call in the user's code, a value of the job."""

from __future__ import annotations

import inspect
import linecache
from types import FrameType

from ..spec.findings import Place
from ..spec.tree import Origin

_HERE = __name__.rpartition(".")[0]


def caller_place(keyword: str | None = None) -> Place:
    """The call in the user's code that led here, or a keyword of that call; line and column are 1-based."""
    frame = inspect.currentframe()
    while frame is not None and _is_ours(frame):
        frame = frame.f_back
    if frame is None:
        return Place(source="the calling code")
    spot = inspect.getframeinfo(frame, context=0)
    positions = spot.positions
    first = spot.lineno if positions is None else positions.lineno or spot.lineno
    last = first if positions is None else positions.end_lineno or first
    for line in range(first, last + 1) if keyword else ():
        text = linecache.getline(spot.filename, line).rstrip("\n")
        column = text.find(f"{keyword}=")
        if column >= 0:
            length = len(keyword or "")
            return Place(source=spot.filename, line=line, column=column + 1, length=length, excerpt=text)
    column = 0 if positions is None else positions.col_offset or 0
    text = linecache.getline(spot.filename, first).rstrip("\n")
    return Place(source=spot.filename, line=first, column=column + 1, excerpt=text or None)


def origin_place(origin: Origin) -> Place:
    """The place of a value of the job."""
    if origin.line is None:
        return Place(source=str(origin))
    return Place(source=origin.source, line=origin.line, column=origin.column or 1, length=origin.length)


def _is_ours(frame: FrameType) -> bool:
    # torch stands between the user and us where it calls what we registered with it.
    name = frame.f_globals.get("__name__", "")
    return name in (_HERE, "contextlib") or name.startswith((f"{_HERE}.", "torch."))
