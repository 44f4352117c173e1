"""Tensors of all processes side by side, once it is known that they fit."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import pairwise
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


class _Kind(NamedTuple):
    dtype: torch.dtype
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')}{list(self.shape)}"


class Exchange:
    """Puts the tensors of all processes of a world side by side.

    gloo ends a process that is sent another number of bytes than it expects. The first message is therefore of a size
    that all know: it says what the tensors are, and holds the tensors themselves where it has room for them, as it has
    for those that are as large as those before. On other devices than the CPU nothing is compared, which would make
    the process wait for them.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._most = max(_LEAST, _ALL_MESSAGES // world.size)
        # Bytes that were exchanged last. They agreed, so that all processes know the same ones.
        self._sizes = deque([_LEAST], maxlen=_REMEMBERED)

    def compared(self, given: Sequence[Tensor]) -> list[Tensor]:
        """For each tensor those of all processes as one, with a dimension more in front.

        Raises:
            FindingsError: J519, their number, types or shapes are others in another process.
        """
        if not given or any(item.device.type != "cpu" for item in given):
            return [self.plain(item) for item in given]
        raws = [item.contiguous().view(-1).view(torch.uint8) for item in given]
        ends = [8]
        for raw in raws:
            ends.append(ends[-1] + raw.numel())
        room = min(self._most, max(_LEAST, *self._sizes))
        mine = torch.empty(1 + room // 8, dtype=torch.int64)
        mine[0] = crc32(repr([(item.dtype, *item.shape) for item in given]).encode())
        fits = ends[-1] <= 8 + room
        if fits:
            content = mine.view(torch.uint8)
            for raw, (start, end) in zip(raws, pairwise(ends), strict=True):
                content[start:end] = raw
        messages = torch.empty((self._world.size, len(mine)), dtype=torch.int64)
        dist.all_gather(list(messages.unbind(0)), mine)
        if len(set(messages[:, 0].tolist())) > 1:
            raise self._unlike(given)
        self._sizes.append(ends[-1] + -ends[-1] % 8)
        if not fits:
            return [self.plain(item) for item in given]
        found = messages.view(torch.uint8)
        return [
            found[:, start:end].reshape(-1).view(item.dtype).view(self._world.size, *item.shape)
            for item, (start, end) in zip(given, pairwise(ends), strict=True)
        ]

    def plain(self, tensor: Tensor) -> Tensor:
        """The same for one tensor that is known to be of this type and shape everywhere."""
        sent = tensor.contiguous()
        if tensor.dtype not in _KNOWN:
            sent = sent.reshape(-1).view(torch.uint8)
        stacked = sent.new_empty((self._world.size, *sent.shape))
        dist.all_gather(list(stacked.unbind(0)), sent)  # each part is a piece of one memory: nothing is copied again
        return stacked.view(tensor.dtype).reshape(self._world.size, *tensor.shape)

    def _unlike(self, given: Sequence[Tensor]) -> FindingsError:
        kinds = [_Kind(item.dtype, tuple(item.shape)) for item in given]
        found: list[Any] = [None] * self._world.size
        dist.all_gather_object(found, kinds)
        return _unlike(found, self._world.rank)


def _unlike(found: list[list[_Kind]], rank: int) -> FindingsError:
    counts = [len(kinds) for kinds in found]
    if len(set(counts)) > 1:
        cause = f"values to be gathered have {counts[rank]} tensors in rank {rank}, and {counts} in all"
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
    cause = f"a tensor to be gathered is {mine} in rank {rank} and {listed}"
    return FindingsError((finding("J519", cause, place=caller_place(), next_step=step),))
