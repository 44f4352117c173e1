"""Values of all processes together: gather, reduce, broadcast, pad, in any nesting. Alone, each is the identity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist
from torch.nn.functional import pad

from ..spec.findings import FindingsError, finding
from .comparing import compared
from .exchange import Exchange
from .live import Position
from .nested import is_container, is_named_tuple, map_tensors, rebuild, tensors
from .places import caller_place
from .world import World

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Blank:
    """The place of a tensor that is still to come."""

    dtype: torch.dtype
    shape: tuple[int, ...]


class Collectives:
    """The collectives of a world. Every process of it has to call them, in the same order."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._exchange = Exchange(world)

    @compared()
    def barrier(self) -> None:
        """Waits until every process is here."""
        if self._world.size > 1:
            cuda = self._world.device.type == "cuda"
            dist.barrier(device_ids=[self._world.device.index] if cuda else None)

    @compared(shapes=True)
    def gather(self, value: Any) -> Any:
        """Each tensor becomes the tensors of all processes, one after another in dimension 0, in order of rank.

        Shapes have to agree between the processes (`pad` makes them). A 0-d tensor becomes one number a process. What
        is no tensor becomes the list of all processes' objects; a list of objects becomes one long list.

        Raises:
            FindingsError: J519, they do not agree.
        """
        if self._world.size == 1:
            return value
        return self._concatenated(value)

    @compared()
    def gather_samples(self, value: Any, position: Position | None, *, as_objects: bool = False) -> Any:
        """`gather` for values that have one entry a sample of the batch in hand: each real sample once, in data order.

        Tensors have the batch's size in dimension 0, lists and tuples of objects its length; `as_objects` takes the
        outermost list as one of objects, whatever they are. Without a batch in hand it is `gather`.

        Raises:
            FindingsError: J506, a size is not that of the batch; J519, other sizes differ between the processes.
        """
        if position is None:
            return self._joined(value) if as_objects and self._world.size > 1 else self.gather(value)
        objects = lambda item: self._real_objects(item, position)  # noqa: E731 - one expression, named for the reader
        if as_objects:
            return objects(value)
        if position.uniform and position.last is False and self._world.size > 1:
            rows = [_rows(item, position)[0].detach() for item in tensors(value)]
            stacked = iter(self._exchange.compared(rows))
            return _each(value, lambda _item: next(stacked).flatten(0, 1), objects)
        return _each(value, lambda item: self._real_rows(item, position), objects)

    @compared(shapes=True)
    def reduce(self, value: Any, reduction: str = "sum", scale: float = 1.0) -> Any:
        """Each tensor becomes the sum or the mean over the processes, times `scale`; those given stay as they are.

        Raises:
            FindingsError: J507, the reduction is neither `sum` nor `mean`; J519, types or shapes of the tensors differ
                between the processes.
        """
        finish = _REDUCTIONS.get(reduction)
        if finish is None:
            cause = f"reduction: `{reduction}` is not a reduction"
            raise FindingsError((finding("J507", cause, place=caller_place(), next_step="use `sum` or `mean`"),))
        if self._world.size == 1:
            return value if scale == 1 else map_tensors(lambda item: item * scale, value)
        given = [item.detach() for item in tensors(value)]
        stacked = self._exchange.together(given)
        if stacked is None:
            sums = iter([_summed(item) for item in given])
        else:
            sums = (item.sum(0, dtype=item.dtype) for item in stacked)
        total = map_tensors(lambda _item: finish(next(sums), self._world.size), value)
        return total if scale == 1 else map_tensors(lambda item: item * scale, total)

    @compared()
    def broadcast(self, value: T, source: int = 0) -> T:
        """The object that the process `source` has, in every process; it is pickled."""
        if self._world.size == 1:
            return value
        box = [value if self._world.rank == source else None]
        dist.broadcast_object_list(box, src=source, device=self._world.small_talk)
        return box[0]  # pyright: ignore[reportReturnType]

    @compared()
    def broadcast_tensors(self, value: Any, source: int = 0) -> Any:
        """The nesting that the process `source` has, its tensors on each process's own device.

        Shapes need not be known to the others, who may give None.
        """
        if self._world.size == 1:
            return value
        mine = list(tensors(value)) if self._world.rank == source else []
        blanks = map_tensors(lambda item: _Blank(item.dtype, tuple(item.shape)), value) if mine else value
        plan = self.broadcast(blanks, source)
        queue = iter(mine)

        def filled(item: Any) -> Any:
            if not isinstance(item, _Blank):
                return rebuild(item, filled)
            tensor = next(queue).detach().to(self._world.device, copy=True) if mine else None
            if tensor is None:
                tensor = torch.empty(item.shape, dtype=item.dtype, device=self._world.device)
            raw = tensor.contiguous()
            dist.broadcast(raw.reshape(-1).view(torch.uint8), src=source)
            return raw

        return filled(plan)

    @compared()
    def pad(self, value: Any, dim: int = 0, pad_index: float = 0, *, pad_first: bool = False) -> Any:
        """Each tensor, filled with `pad_index` at the end (or the front) of a dimension to its largest size anywhere.

        A tensor that does not have the dimension stays as it is.
        """
        if self._world.size == 1:
            return value
        return map_tensors(lambda item: self._padded(item, dim, pad_index, pad_first=pad_first), value)

    @compared()
    def objects(self, value: T) -> list[T]:
        """The objects of all processes, in order of rank; they are pickled."""
        if self._world.size == 1:
            return [value]
        found: list[Any] = [None] * self._world.size
        dist.all_gather_object(found, value)
        return found

    @compared()
    def any(self, fact: bool) -> bool:  # noqa: FBT001 - a plain fact
        """Whether it holds in some process."""
        return self._agreed(fact, dist.ReduceOp.MAX)

    @compared()
    def all(self, fact: bool) -> bool:  # noqa: FBT001 - a plain fact
        """Whether it holds in every process."""
        return self._agreed(fact, dist.ReduceOp.MIN)

    def _agreed(self, fact: bool, operation: Any) -> bool:  # noqa: FBT001 - a plain fact
        if self._world.size == 1:
            return fact
        flag = torch.tensor([int(fact)], device=self._world.small_talk)
        dist.all_reduce(flag, op=operation)
        return bool(flag)

    def _joined(self, value: Any) -> Any:
        found = self.objects(value)
        if isinstance(value, list | tuple) and not is_named_tuple(value):
            return type(value)([item for part in found for item in part])
        return found

    def _concatenated(self, value: Any) -> Any:
        if isinstance(value, Tensor) and value.ndim:
            return self._exchange.compared([value.detach()])[0].flatten(0, 1)
        found = [item.detach() for item in tensors(value)]
        stacked = iter(self._exchange.compared([item.reshape(1) if item.ndim == 0 else item for item in found]))
        return _each(value, lambda _item: next(stacked).flatten(0, 1), self._joined)

    def _real_rows(self, tensor: Tensor, position: Position) -> Tensor:
        tensor, rows, real = _rows(tensor, position)
        if self._world.size == 1:
            return tensor if real == rows else tensor[:real]
        tensor = tensor.detach()
        counts = self._exchange.plain(torch.tensor([rows, real], device=self._world.small_talk))
        longest = int(counts[:, 0].max())
        if rows < longest:
            tensor = torch.cat([tensor, tensor.new_zeros((longest - rows, *tensor.shape[1:]))])
        (stacked,) = self._exchange.compared([tensor])
        return torch.cat([part[:real] for part, real in zip(stacked.unbind(0), counts[:, 1].tolist(), strict=True)])

    def _real_objects(self, value: Any, position: Position) -> Any:
        if not isinstance(value, list | tuple) or is_named_tuple(value):
            return self.objects(value)
        if position.size not in (None, len(value)):
            raise _wrong_size(f"a {type(value).__name__} of length {len(value)}", position)
        kept = value if position.real is None else value[: position.real]
        return type(value)([item for part in self.objects(kept) for item in part])

    def _padded(self, tensor: Tensor, dim: int, fill: float, *, pad_first: bool) -> Tensor:
        if not -tensor.ndim <= dim < tensor.ndim:
            return tensor
        dim %= tensor.ndim
        longest = torch.tensor([tensor.shape[dim]], device=self._world.small_talk)
        dist.all_reduce(longest, op=dist.ReduceOp.MAX)
        missing = int(longest) - tensor.shape[dim]
        if missing == 0:
            return tensor
        widths = [0, 0] * (tensor.ndim - dim - 1) + ([missing, 0] if pad_first else [0, missing])
        return pad(tensor, widths, value=fill)


_REDUCTIONS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "sum": lambda total, _size: total,
    "mean": lambda total, size: total / size,
}


def _summed(tensor: Tensor) -> Tensor:
    total = tensor.clone()
    dist.all_reduce(total)
    return total


def _each(value: Any, on_tensor: Callable[[Tensor], Any], on_objects: Callable[[Any], Any]) -> Any:
    """The nesting with its tensors and its runs of objects replaced; None stays None.

    A list without any tensor in it is a run of objects, one a sample; so is a tuple whose items are no containers.
    """
    if value is None:
        return None
    if isinstance(value, Tensor):
        return on_tensor(value)
    if not is_container(value) or _is_run(value):
        return on_objects(value)
    return rebuild(value, lambda item: _each(item, on_tensor, on_objects))


def _is_run(value: Any) -> bool:
    if is_named_tuple(value) or not isinstance(value, list | tuple) or any(True for _ in tensors(value)):
        return False
    return isinstance(value, list) or not any(is_container(item) for item in value)


def _rows(tensor: Tensor, position: Position) -> tuple[Tensor, int, int]:
    """The tensor of a batch, with how many rows it has and how many of them are real.

    Raises:
        FindingsError: J506, it has not as many as the batch.
    """
    rows = tensor.shape[0] if tensor.ndim else None
    if rows is not None and position.size is not None and position.size < rows == position.full:
        # A loss that was repeated as often as other batches are long.
        tensor, rows = tensor[: position.size], position.size
    if rows is None or position.size not in (None, rows):
        raise _wrong_size(f"a tensor of shape {tuple(tensor.shape)}", position)
    return tensor, rows, rows if position.real is None else position.real


def _wrong_size(what: str, position: Position) -> FindingsError:
    size = "its own size" if position.size is None else f"{position.size} samples"
    return FindingsError(
        (
            finding(
                "J506",
                f"gather_for_metrics was given {what}, but the batch in hand has {size}",
                place=caller_place(),
                next_step="give it one entry for each sample of the batch, as the model returns them; use `gather` for"
                " values that are not one a sample, or `use_gather_object=True` for a list of objects",
            ),
        )
    )
