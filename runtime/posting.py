"""Objects from one process to another: the tensors in them travel as they are, the rest is pickled."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from .nested import rebuild
from .world import World

#: Messages of users between two processes are not mistaken for ours.
_TAG = 5061


@dataclass(frozen=True, slots=True)
class _Blank:
    """The place of a tensor that travels apart."""

    dtype: torch.dtype
    shape: tuple[int, ...]


class Post:
    """What one process sends and another receives, in the same order; nobody else takes part."""

    def __init__(self, world: World) -> None:
        self._device = world.small_talk

    def pack(self, value: Any) -> list[Tensor]:
        """An object ready to be sent, in messages. What cannot be pickled raises here, before anyone waits for it."""
        found: list[Tensor] = []
        text = pickle.dumps(_taken_out(value, found), protocol=pickle.HIGHEST_PROTOCOL)
        head = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        return [tensor.to(self._device) for tensor in (torch.tensor([len(text)]), head, *map(_raw, found))]

    def send(self, packed: Mapping[int, list[Tensor]]) -> None:
        """Sends each process that is named what was packed for it; returns when all of them have it."""
        under_way = [dist.isend(tensor, rank, tag=_TAG) for rank, parts in packed.items() for tensor in parts]
        for message in under_way:
            if message is not None:
                message.wait()

    def receive(self, source: int) -> Any:
        """The next object that a process sends to this one; its tensors are on the CPU."""
        size = self._received(torch.empty(1, dtype=torch.int64), source)
        text = self._received(torch.empty(int(size), dtype=torch.uint8), source)
        return self._put_back(pickle.loads(text.numpy().tobytes()), source)  # noqa: S301 - from a process of this job

    def _received(self, blank: Tensor, source: int) -> Tensor:
        here = blank.to(self._device)
        dist.recv(here, source, tag=_TAG)
        return here.cpu()

    def _put_back(self, value: Any, source: int) -> Any:
        if not isinstance(value, _Blank):
            return rebuild(value, lambda item: self._put_back(item, source))
        empty = torch.empty(value.shape, dtype=value.dtype)
        if not empty.numel():
            return empty
        raw = empty.view(-1).view(torch.uint8)
        return self._received(raw, source).view(value.dtype).view(value.shape)


def _taken_out(value: Any, found: list[Tensor]) -> Any:
    """The nesting with its plain tensors, which are added to `found`, replaced by blanks."""
    if not isinstance(value, Tensor):
        return rebuild(value, lambda item: _taken_out(item, found))
    if type(value) is not Tensor or value.layout != torch.strided or value.is_quantized or value.requires_grad:
        return value
    if value.numel():
        found.append(value)
    return _Blank(value.dtype, tuple(value.shape))


def _raw(tensor: Tensor) -> Tensor:
    return tensor.resolve_conj().resolve_neg().contiguous().view(-1).view(torch.uint8)
