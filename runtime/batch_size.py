"""The largest batch size that fits into memory, found together by all processes."""

from __future__ import annotations

import gc
import inspect
import time
import traceback
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import torch
from torch import distributed as dist

from . import world
from .operations import empty_caches
from .state import resume_again
from .world import open_world

_WORDS = ("out of memory", "CUDNN_STATUS_NOT_SUPPORTED", "can't allocate memory")
#: Seconds in which the others come by themselves to where a process without memory waits for them, seconds until it
#: gives up, and between two looks.
_SOON = 1.0
_GRACE = 20.0
_PAUSE = 0.02


def find_executable_batch_size(
    function: Callable[..., Any] | None = None,
    starting_batch_size: int = 128,
    reduce_batch_size_fn: Callable[..., int] | None = None,
) -> Any:
    """Decorates a function whose first argument is a batch size: it is called with smaller ones until memory suffices.

    When a process runs out of memory all processes try again together with the next size, so that they never train
    with different ones. Where the others wait for it within a collective on the CPU, it ends that for them, and the
    process group is opened anew. On GPUs, and in a group that the script opened itself, they cannot be called back: its
    error then ends the job. Make the Accelerator before; the function has to make models, optimizers and loaders anew,
    and to call `accelerator.free_memory()` first. Use it with or without arguments: `@find_executable_batch_size` or
    `@find_executable_batch_size(starting_batch_size=64)`.

    Args:
        function: Called without its first argument, which is the batch size.
        starting_batch_size: The size to begin with.
        reduce_batch_size_fn: Gives the next size, from the present one if it takes an argument; None halves it.

    Raises:
        RuntimeError: Memory did not suffice for a single sample.
        TypeError: The batch size was given by the caller.
    """
    if function is None:
        return partial(
            find_executable_batch_size,
            starting_batch_size=starting_batch_size,
            reduce_batch_size_fn=reduce_batch_size_fn,
        )
    smaller = _rule(reduce_batch_size_fn)
    names = list(inspect.signature(function).parameters)

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if names and (names[0] in kwargs or len(args) >= len(names)):
            raise TypeError(
                f"{function.__name__} is given its `{names[0]}` by find_executable_batch_size; leave it away"
            )
        size = starting_batch_size
        while size > 0:
            done, result = _attempt(partial(function, size, *args, **kwargs), size)
            if done:
                return result
            empty_caches()
            resume_again()
            size = smaller(size)
        raise RuntimeError(f"no batch size from {starting_batch_size} down fits into memory")

    return call


def _attempt(function: Callable[[], Any], size: int) -> tuple[bool, Any]:
    """Whether it went well in all processes, and its result here."""
    lost: BaseException | None = None
    result: Any = None
    try:
        result = function()
    except Exception as error:
        together = _Agreement() if open_world().size > 1 else None
        if not _is_of_memory(error) and (together is None or not together.called_back()):
            raise
        lost = error
    else:
        together = _Agreement() if open_world().size > 1 else None
    if lost is not None:
        traceback.clear_frames(lost.__traceback__)  # frames keep models alive
    fits = lost is None if together is None else together.reached(lost, size)
    return fits, result if fits else None


class _Agreement:
    """Whether an attempt went well in every process.

    The processes tell each other through the store that they met in, not through the process group: one that ran out
    of memory may have left others waiting there. It cuts its connections then, which calls them back with an error.
    """

    def __init__(self) -> None:
        self._store = dist.distributed_c10d._get_default_store()  # noqa: SLF001 - torch has no other way
        rank, count = dist.get_rank(), dist.get_world_size()
        attempt = f"jobc/attempt_{self._store.add(f'jobc/attempts_of_{rank}', 1)}"
        self._lost, self._cut = f"{attempt}/lost", f"{attempt}/cut"
        self._keys = [f"{attempt}/{number}" for number in range(count)]
        self._mine = self._keys[rank]

    def called_back(self) -> bool:
        """Whether an error here is that of a collective that another process has left for want of memory."""
        return self._store.check([self._lost])

    def reached(self, lost: BaseException | None, size: int) -> bool:
        """Waits for the others to end this attempt, and opens the group anew where it was cut.

        Raises:
            BaseException: `lost`, if they did not come.
        """
        group, since = world.opened(), time.monotonic()
        self._store.set(self._mine, "fits" if lost is None else "lost")
        if lost is not None:
            self._store.set(self._lost, "lost")
        waiting = lost is not None
        while not self._store.check(self._keys):
            elapsed = time.monotonic() - since
            if waiting and elapsed > _SOON and group is not None and group.can_be_cut:
                self._store.set(self._cut, "cut")
                group.cut()
                waiting = False
            if lost is not None and elapsed > _GRACE:
                lost.add_note(_alone(size))
                raise lost
            time.sleep(_PAUSE)
        if group is not None and self._store.check([self._cut]):
            gc.collect()  # models of the attempt hold on to the group
            group.reopen()
            return False
        return all(self._store.get(key) == b"fits" for key in self._keys)


def _alone(size: int) -> str:
    return (
        f"rank {dist.get_rank()} ran out of memory with batch size {size} while others waited for it in a collective,"
        f" so that all could not try a smaller one; begin with that: starting_batch_size={max(1, size // 2)}"
    )


def _is_of_memory(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)


def _rule(given: Callable[..., int] | None) -> Callable[[int], int]:
    if given is None:
        return lambda size: size // 2
    takes_one = bool(inspect.signature(given).parameters)
    return lambda size: int(given(size) if takes_one else given())
