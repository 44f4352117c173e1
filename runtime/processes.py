"""Who does what: functions for one process only, and taking turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from ..spec.findings import FindingsError, finding
from . import parts
from .collectives import Collectives
from .places import caller_place
from .world import World

P = ParamSpec("P")
R = TypeVar("R")


class Processes:
    """Helpers for code that only some processes run."""

    def __init__(self, world: World, collectives: Collectives) -> None:
        self._world = world
        self._collectives = collectives

    def only(self, chosen: bool, function: Callable[P, R]) -> Callable[P, R | None]:  # noqa: FBT001 - a plain fact
        """The function where this process is chosen; elsewhere one that does nothing and returns None."""

        @wraps(function)
        def maybe(*args: P.args, **kwargs: P.kwargs) -> R | None:
            return function(*args, **kwargs) if chosen else None

        return maybe

    @contextmanager
    def first(self, chosen: bool) -> Iterator[None]:  # noqa: FBT001 - a plain fact
        """Lets the chosen process through the block before all others.

        An exception in the block of the chosen one lets the others go on, so that they do not wait for it for ever.
        """
        if not chosen:
            self._collectives.barrier()
        try:
            yield
        finally:
            if chosen:
                self._collectives.barrier()

    def numbered(self, function: Callable[..., Any] | None, wanted: int | None, index: int, count: int) -> Any:
        """A decorator for the process of a number, or, given the function too, the function decorated.

        Alone a process has every number, so that what is meant for one of several is not lost.
        """
        if wanted is not None and count == 1:
            wanted = index
        if wanted is None or not 0 <= wanted < count:
            cause = "no process is named" if wanted is None else f"there is no process {wanted}"
            step = f"name one by keyword, from 0 to {count - 1}: `process_index=0` (or `local_process_index=0`)"
            raise FindingsError((finding("J507", f"process_index: {cause}", place=caller_place(), next_step=step),))
        if function is None:
            return lambda later: self.only(index == wanted, later)
        return self.only(index == wanted, function)

    @contextmanager
    def part(self, inputs: Any, *, apply_padding: bool) -> Iterator[Any]:
        """This process's part of something that has a length."""
        yield parts.part(inputs, self._world.rank, self._world.size, filled=apply_padding)

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Prints once on every machine."""
        if self._world.is_local_main:
            print(*args, **kwargs)
