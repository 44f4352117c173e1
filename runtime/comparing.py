"""Debug mode: every call that all processes have to make is compared before it runs.

A process that makes another call than the others, or the same one with a tensor of another shape, is an error in all of
them at once that shows the place of each, and not a wait, a crash within gloo or a wrong number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar

from torch import distributed as dist

from ..spec.findings import FindingsError, Place, finding
from .nested import tensors
from .places import caller_place

P = ParamSpec("P")
R = TypeVar("R")


class Call(NamedTuple):
    """A call that is about to be made. `shapes` are what has to agree, where anything has to."""

    name: str
    number: int
    shapes: tuple[str, ...] | None
    place: Place


class Comparison:
    """Compares calls over a group of its own, so that what it says is not taken for what is compared."""

    def __init__(self) -> None:
        self._group = dist.new_group(backend="gloo")
        self._number = 0

    def announce(self, name: str, shapes: tuple[str, ...] | None) -> None:
        """Waits until all processes are about to make a call.

        Raises:
            FindingsError: J515, they are not about to make the same one.
        """
        self._number += 1
        mine = Call(name, self._number, shapes, caller_place())
        calls: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(calls, mine, group=self._group)
        if len({call[:3] for call in calls}) > 1:
            raise _different(calls, dist.get_rank())


_comparison: Comparison | None = None


def begin() -> None:
    """Compares from now on, in the group that is open. All processes call it together."""
    global _comparison  # noqa: PLW0603 - the collectives of a process are of one group
    _comparison = Comparison()


def end() -> None:
    """Compares no more."""
    global _comparison  # noqa: PLW0603
    _comparison = None


def compared(*, shapes: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorates a method that talks to all processes, under its own name, with the shapes of its first argument."""

    def decorate(method: Callable[P, R]) -> Callable[P, R]:
        name = method.__name__

        @wraps(method)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            if _comparison is not None:
                value = args[1] if shapes and len(args) > 1 else None
                _comparison.announce(name, _shapes(value) if shapes else None)
            return method(*args, **kwargs)

        return call

    return decorate


class Announced:
    """A strategy whose backward passes are compared."""

    def __init__(self, strategy: Any) -> None:
        self._strategy = strategy
        self._apart = False

    def backward(self, loss: Any, **options: Any) -> None:
        if _comparison is not None and not self._apart:
            _comparison.announce("backward", None)
        self._strategy.backward(loss, **options)

    @contextmanager
    def join(self, models: Sequence[Any]) -> Iterator[None]:
        """Within it some processes make backward passes that others, whose data has ended, do not."""
        self._apart = True
        try:
            with self._strategy.join(models):
                yield
        finally:
            self._apart = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._strategy, name)


def announced(strategy: Any) -> Any:
    """The strategy as it is, or with its backward passes compared in debug mode."""
    return strategy if _comparison is None else Announced(strategy)


def _shapes(value: Any) -> tuple[str, ...]:
    return tuple(f"{str(item.dtype).removeprefix('torch.')}{list(item.shape)}" for item in tensors(value))


def _different(calls: list[Call], rank: int) -> FindingsError:
    mine = calls[rank]
    others = [(number, call) for number, call in enumerate(calls) if number != rank]
    related = tuple((f"rank {number} calls {_shown(call)}", call.place) for number, call in others)
    cause = f"rank {rank} calls {_shown(mine)}, call {mine.number} to all processes, and others make another one"
    step = "all processes have to make the same calls in the same order, with tensors that agree"
    return FindingsError((finding("J515", cause, place=mine.place, related=related[:8], next_step=step),))


def _shown(call: Call) -> str:
    return f"`{call.name}`" + (f" with {', '.join(call.shapes)}" if call.shapes else "")
