"""Batches on their way to the device while it computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import Any, Protocol

import torch
from torch import Tensor

from .dealing import Share
from .nested import is_container, move, rebuild, tensors

Batches = Iterator[tuple[Any, Share]]


class Mover(Protocol):
    """What takes batches to a device: a batch that was sent is asked for later, in the same order."""

    def send(self, batch: Any) -> Any: ...

    def receive(self, sent: Any) -> Any: ...


def ahead(batches: Batches, mover: Mover, count: int) -> Batches:
    """The batches on the device; `count` more than the one handed out are read and sent."""
    ring: deque[tuple[Any, Share]] = deque()
    for batch, share in batches:
        ring.append((mover.send(batch), share))
        if len(ring) > count:
            sent, its_share = ring.popleft()
            yield mover.receive(sent), its_share
            del sent  # or it would live until the one after the next is here
    while ring:
        sent, its_share = ring.popleft()
        yield mover.receive(sent), its_share


class SideStream:
    """Copies to a GPU on a stream of their own. With `pins` what is not in pinned memory yet goes there first."""

    def __init__(self, device: torch.device, *, pins: bool) -> None:
        self._device = device
        self._pins = pins
        self._stream = torch.cuda.Stream(device)

    def send(self, batch: Any) -> tuple[Any, Any]:
        """Begins to copy a batch."""
        if self._pins:
            batch = _pinned(batch)
        if not _is_plain(batch):
            # Memory in objects that cannot be looked into is not to be used again before the computation is done.
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            copied = move(batch, self._device, non_blocking=True)
        return copied, self._stream.record_event()

    def receive(self, sent: tuple[Any, Any]) -> Any:
        """The batch, for what is computed from now on."""
        batch, copied = sent
        stream = torch.cuda.current_stream(self._device)
        stream.wait_event(copied)
        for tensor in tensors(batch):
            if tensor.is_cuda:
                tensor.record_stream(stream)  # its memory is given back only when this stream is done with it
        return batch


def delivery(device: torch.device, *, pins: bool, prefetch: int, workers: int) -> Callable[[Batches], Batches]:
    """How batches come to a device. `workers` is how many read the data.

    Where the process itself reads it, nothing is read ahead, so that its random numbers are drawn in the same order as
    without prefetching, in particular when it goes on from a checkpoint. The copy still overlaps with the computation
    that the device has not finished.
    """
    if device.type == "cuda" and prefetch:
        mover, count = SideStream(device, pins=pins), prefetch if workers else 0
        return lambda batches: ahead(batches, mover, count)
    return lambda batches: ((move(batch, device, non_blocking=pins), share) for batch, share in batches)


def _is_plain(value: Any) -> bool:
    """Whether all tensors in a nesting can be found."""
    if isinstance(value, Mapping):
        return all(map(_is_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if is_container(value):
        return all(_is_plain(getattr(value, field.name)) for field in fields(value))
    return isinstance(value, Tensor) or not callable(getattr(value, "to", None))


def _pinned(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value if value.is_pinned() or value.is_cuda else value.pin_memory()
    return rebuild(value, _pinned)
