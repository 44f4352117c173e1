"""Who does what: functions for one process only, and taking turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from .collectives import Collectives
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

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Prints once on every machine."""
        if self._world.is_local_main:
            print(*args, **kwargs)
