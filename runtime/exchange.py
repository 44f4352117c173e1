"""Tensors of all processes side by side, once it is known that they fit."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple
from zlib import crc32

import torch
from torch import Tensor
from torch import distributed as dist

from ..spec.findings import FindingsError, finding
from .places import caller_place
from .world import World

#: The types of tensors that every backend sends as they are.
_KNOWN = {torch.float32, torch.float64, torch.int32, torch.int64, torch.int8, torch.uint8}
_LEAST = 2048  # bytes of tensors that there is always room for in a message that says what they are
_ALL_MESSAGES = 1 << 17  # bytes of the messages of all processes, where that is more
_REMEMBERED = 4  # sizes; a loop gathers a few kinds of values in turn
_SHOWN = 4  # other tensors that a finding names
_LINE = 16  # bytes to which tensors are aligned, the widest type of all
#: The part of a tensor that each process has, one after another; its name was another before torch 2.13.
_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor


class _Kind(NamedTuple):
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return self.dtype.itemsize * prod(self.shape)

    def __str__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')}{list(self.shape)}"


class _Message:
    """What one process sends of tensors of some kinds: a line that says what they are, and room for them."""

    def __init__(self, kinds: Sequence[_Kind], room: int, count: int) -> None:
        code = crc32(repr([(kind.dtype, *kind.shape) for kind in kinds]).encode())
        self.codes = [code] * count
        self.length = count * (_LINE + room) // 8
        self.size = sum(_lines(kind.size) for kind in kinds)
        self.fits = self.size <= room
        self.slots: list[Tensor] = []
        self._places: list[tuple[torch.dtype, tuple[int, ...], tuple[int, ...], int]] = []
        with torch.inference_mode(mode=False):  # it is written again where that mode is not
            self.sent = torch.zeros((_LINE + room) // 8, dtype=torch.int64)
            self.sent[0] = code
            start = _LINE
            for kind in kinds if self.fits else ():
                slot = self.sent.view(torch.uint8)[start : start + kind.size].view(kind.dtype).view(kind.shape)
                width = kind.dtype.itemsize
                strides = ((_LINE + room) // width, *slot.stride())
                self._places.append((kind.dtype, (count, *kind.shape), strides, start // width))
                self.slots.append(slot)
                start += _lines(kind.size)

    def found(self, messages: Tensor) -> list[Tensor]:
        """The tensors out of the messages of all processes, as views that are not contiguous."""
        return [messages.view(dtype).as_strided(shape, strides, start) for dtype, shape, strides, start in self._places]


def _lines(size: int) -> int:
    return size + -size % _LINE


class Exchange:
    """Puts the tensors of all processes of a world side by side.

    gloo ends a process that is sent another number of bytes than it expects. The first message is therefore of a size
    that all know: it says what the tensors are, and holds the tensors themselves where it has room for them, as it has
    for those that are as large as those before. On other devices than the CPU nothing is compared, which would make
    the process wait for them.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._most = max(_LEAST, _ALL_MESSAGES // world.size // _LINE * _LINE)
        # Bytes that were exchanged last. They agreed, so that all processes know the same ones.
        self._sizes = deque([_LEAST], maxlen=_REMEMBERED)
        self._room = _LEAST
        self._messages: dict[tuple[Any, ...], _Message] = {}

    def compared(self, given: Sequence[Tensor]) -> list[Tensor]:
        """For each tensor those of all processes as one, with a dimension more in front.

        Raises:
            FindingsError: J519, their number, types or shapes are others in another process.
        """
        found = self.together(given)
        return [self.plain(item) for item in given] if found is None else found

    def together(self, given: Sequence[Tensor]) -> list[Tensor] | None:
        """The same in one message, or None where there is no room for them, which are of the same kinds everywhere.

        Raises:
            FindingsError: J519, their number, types or shapes are others in another process.
        """
        if not given or not all(item.is_cpu for item in given):
            return None
        mine = self._message(given)
        for slot, item in zip(mine.slots, given, strict=mine.fits):
            slot.copy_(item)
        messages = mine.sent.new_empty(mine.length)
        _gather(messages, mine.sent)
        if messages[:: len(mine.sent)].tolist() != mine.codes:
            raise self._unlike(given)
        if mine.size != self._sizes[-1] and mine.size <= self._most:
            self._sizes.append(mine.size)
            self._room = max(_LEAST, *self._sizes)
        return mine.found(messages) if mine.fits else None

    def plain(self, tensor: Tensor) -> Tensor:
        """The same for one tensor that is known to be of this type and shape everywhere."""
        sent = tensor.contiguous()
        if tensor.dtype not in _KNOWN:
            sent = sent.reshape(-1).view(torch.uint8)
        stacked = sent.new_empty((self._world.size, *sent.shape))
        dist.all_gather(list(stacked.unbind(0)), sent)  # each part is a piece of one memory: nothing is copied again
        return stacked.view(tensor.dtype).reshape(self._world.size, *tensor.shape)

    def _message(self, given: Sequence[Tensor]) -> _Message:
        key = (self._room, *[part for item in given for part in (item.dtype, item.shape)])
        known = self._messages.get(key)
        if known is None:
            if len(self._messages) >= _REMEMBERED:
                del self._messages[next(iter(self._messages))]
            kinds = [_Kind(item.dtype, tuple(item.shape)) for item in given]
            known = self._messages[key] = _Message(kinds, self._room, self._world.size)
        return known

    def _unlike(self, given: Sequence[Tensor]) -> FindingsError:
        kinds = [_Kind(item.dtype, tuple(item.shape)) for item in given]
        found: list[Any] = [None] * self._world.size
        dist.all_gather_object(found, kinds)
        return _unlike(found, self._world.rank)


def _unlike(found: list[list[_Kind]], rank: int) -> FindingsError:
    counts = [len(kinds) for kinds in found]
    if len(set(counts)) > 1:
        cause = f"values for all processes have {counts[rank]} tensors in rank {rank}, and {counts} in all"
        step = "give all processes values of the same structure"
        return FindingsError((finding("J519", cause, place=caller_place(), next_step=step),))
    kinds = next(kinds for kinds in zip(*found, strict=True) if len(set(kinds)) > 1)
    mine = kinds[rank]
    others = {kind: number for number, kind in reversed(list(enumerate(kinds))) if kind != mine}
    listed = ", ".join(f"{kind} in rank {number}" for kind, number in list(others.items())[:_SHOWN])
    sizes = enumerate(zip(*(kind.shape for kind in kinds), strict=False))
    longer = [dim for dim, here in sizes if len(set(here)) > 1]
    if len({len(kind.shape) for kind in kinds}) == 1 and longer:
        calls = " and ".join(f"`tensor = accelerator.pad_across_processes(tensor, dim={dim})`" for dim in longer)
        step = f"make it as long everywhere before: {calls}"
    else:
        step = "give all processes a tensor of one type and number of dimensions"
    cause = f"a tensor for all processes is {mine} in rank {rank} and {listed}"
    return FindingsError((finding("J519", cause, place=caller_place(), next_step=step),))
