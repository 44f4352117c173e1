"""The largest batch size that fits into memory, found together by all processes."""

from __future__ import annotations

import inspect
import time
import traceback
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import torch
from torch import distributed as dist

from .operations import empty_caches

_WORDS = ("out of memory", "CUDNN_STATUS_NOT_SUPPORTED", "can't allocate memory")
#: Seconds that a process without memory waits for the others, and between two looks.
_GRACE = 60.0
_PAUSE = 0.02


def find_executable_batch_size(
    function: Callable[..., Any] | None = None,
    starting_batch_size: int = 128,
    reduce_batch_size_fn: Callable[..., int] | None = None,
) -> Any:
    """Decorates a function whose first argument is a batch size: it is called with smaller ones until memory suffices.

    When a process runs out of memory all processes try again together with the next size, so that they never train
    with different ones. Where the others wait for it within a collective they cannot: its error then ends the job
    after a minute. Make the Accelerator before; the function has to make models, optimizers and loaders anew,
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
            done, result = _attempt(partial(function, size, *args, **kwargs))
            if done:
                return result
            empty_caches()
            size = smaller(size)
        raise RuntimeError(f"no batch size from {starting_batch_size} down fits into memory")

    return call


def _attempt(function: Callable[[], Any]) -> tuple[bool, Any]:
    """Whether it went well in all processes, and its result here."""
    lost: BaseException | None = None
    result: Any = None
    try:
        result = function()
    except Exception as error:
        if not _is_of_memory(error):
            raise
        lost = error
    if lost is not None:
        traceback.clear_frames(lost.__traceback__)  # frames keep models alive
    fits = _agreed(lost)
    return fits, result if fits else None


def _agreed(lost: BaseException | None) -> bool:
    """Whether the attempt went well in every process.

    The processes tell each other through the store that they met in, not through the process group: one that ran out
    of memory may have left others waiting there. If they still wait after a while its error is raised, which ends the
    job: nothing could make them try again.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return lost is None
    store = dist.distributed_c10d._get_default_store()  # noqa: SLF001 - torch has no other way
    rank, size = dist.get_rank(), dist.get_world_size()
    attempt = store.add(f"jobc/attempts_of_{rank}", 1)
    keys = [f"jobc/attempt_{attempt}/{number}" for number in range(size)]
    store.set(keys[rank], "fits" if lost is None else "lost")
    since = time.monotonic()
    while not store.check(keys):
        if lost is not None and time.monotonic() - since > _GRACE:
            raise lost
        time.sleep(_PAUSE)
    return all(store.get(key) == b"fits" for key in keys)


def _is_of_memory(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)


def _rule(given: Callable[..., int] | None) -> Callable[[int], int]:
    if given is None:
        return lambda size: size // 2
    takes_one = bool(inspect.signature(given).parameters)
    return lambda size: int(given(size) if takes_one else given())
