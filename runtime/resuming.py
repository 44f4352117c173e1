"""Going on in the middle of the data: what the state of a prepared loader says, and whether it fits."""

from __future__ import annotations

from typing import Any

from ..spec.findings import FindingsError, finding
from .dealing import Start
from .places import caller_place
from .streaming import Marks


def start_of(state: dict[str, Any]) -> Start:
    """Where a loop goes on that was under way."""
    stream = state["stream"]
    mark = None if stream is None else Marks.of(stream)
    return Start(samples=state["samples"], mark=mark, ended=state["last"])


def check_state(state: dict[str, Any], kind: str, count: int | None, workers: int) -> None:
    """Whether a loader can go on where a state was taken. Between two loops it begins anew, with whatever data it has.

    Raises:
        FindingsError: J507, it cannot.
    """
    if not state["under_way"] or state["last"]:
        return
    stream = state["stream"]
    if state["kind"] != kind:
        raise _other(f"it is of {_KINDS[state['kind']]}, and this loader has {_KINDS[kind]}", "prepare the same data")
    if count is not None and state["count"] not in (None, count):
        cause = f"it is of {state['count']} samples, and this loader has {count}"
        raise _other(cause, "go on with the data that the training began with, or from the end of an epoch")
    if stream is not None and len(stream["taken"]) != workers:
        before = len(stream["taken"])
        cause = f"{before} worker{'s' * (before != 1)} read the stream, and now there would be {workers}"
        raise _other(cause, "use as many workers as before: each of them has a stream of its own")


_KINDS = {"map": "data that is read by index", "stream": "iterable data"}


def _other(cause: str, step: str) -> FindingsError:
    text = f"the state of a data loader does not fit: {cause}"
    return FindingsError((finding("J507", text, place=caller_place(), next_step=step),))
