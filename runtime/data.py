"""Prepared data loaders: each process reads its own share, on its device, and knows which samples are real."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset

from ..spec.findings import FindingsError, finding
from .dealing import Start
from .dispatching import Dispatched
from .live import Position
from .prefetching import Batches, delivery
from .resuming import check_state, start_of
from .seed import mixed, share_generators
from .sources import LoaderParts, MapSource, Source, StreamSource
from .streaming import Marks
from .world import World

__all__ = ["LoaderParts", "PreparedLoader", "prepared"]


class PreparedLoader(DataLoader[Any]):
    """The user's loader, dealt out to the processes.

    Iterating gives this process's batches on its device. The order of shuffled data is a function of (seed, epoch),
    the same in all processes; the epoch counts the iterations begun so far, or is what `set_epoch` says. Length is the
    number of this process's batches. Every other attribute is that of the user's loader. It is a DataLoader for
    everyone who asks; `DataLoader.__init__` is not called, for there is nothing of its own to set up.

    `state_dict()` says where the data is and `load_state_dict(state)` makes the next iteration go on there, in a world
    of any size.
    """

    def __init__(self, loader: DataLoader[Any], parts: LoaderParts, *, moves: bool) -> None:
        self.loader = loader
        self.epoch = 0
        self._live = parts.live
        self._orders = _Orders(loader, parts)
        self._source = _source(loader, parts, self._orders.workers)
        self._kind = "stream" if isinstance(loader.dataset, IterableDataset) else "map"
        self._begins = _begins(parts)
        self._deliver = _deliver(loader, parts, moves=moves)
        self._full = _full_size(loader, parts)
        self._leads = False
        self._position: Position | None = None  # of the iteration begun last, while it is under way
        self._restored: dict[str, Any] | None = None  # where the next iteration goes on

    def __iter__(self) -> Iterator[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._begin(None)

    def from_batch(self, first: int) -> Iterator[Any]:
        """The next epoch without the batches before `first`. Where data is read by index they are not read at all.

        It begins there also when a state was loaded that says something else.
        """
        return self._begin(first)

    def __len__(self) -> int:
        return len(self._source)

    def dealt(self, *, even: bool) -> AbstractContextManager[object]:
        """Within it new iterations fill the last batches, or do not; a stream ends everywhere together anyway."""
        return self._source.dealt(even=even)

    def set_epoch(self, epoch: int) -> None:
        """Makes the next iteration that of an epoch, counted from 0; it begins at its start unless it was restored."""
        if epoch != self.epoch:
            self._restored = None
        self.epoch = epoch
        for part in (self.loader.dataset, self.loader.sampler, self.loader.batch_sampler):
            if callable(getattr(part, "set_epoch", None)):
                part.set_epoch(epoch)  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]

    def state_dict(self) -> dict[str, Any]:
        """Where the data is: plain data, the same in all processes, so that one of them stores it.

        - `seed`, `epoch`: of the order. While no loop is under way, of the one that comes next.
        - `under_way`: whether a loop is. One that was left by `break` is not.
        - `samples`: how many samples of the order all processes together were handed, the batch in hand included.
        - `last`: whether that was the last batch, after which a restored loop has nothing left.
        - `had`, `trained`: samples for the training's count, and whether an optimizer stepped in the loop.
        - `kind`, `count`: what has to fit: `map` or `stream`, and the samples of the order where that is known.
        - `stream`: of iterable data that is under way, how far the stream of each worker is (`taken`), whose `turn` is
          next, and `states`: for each worker what the dataset's own `state_dict` said, or None. These alone may hold
          what is no plain data. With `dispatch` only the first process has them.
        """
        if self._restored is not None:
            return dict(self._restored)
        position = self._position
        here = Position(epoch=self.epoch) if position is None else position
        return {
            "seed": self._orders.seed,
            "epoch": here.epoch,
            "under_way": position is not None,
            "samples": here.upto,
            "last": here.last,
            "had": here.samples,
            "trained": self._live.trains(here),
            "kind": self._kind,
            "count": self._source.samples(),
            "stream": here.mark.plain() if isinstance(here.mark, Marks) else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Makes the next iteration go on where a state was taken, without the samples handed out before.

        Data that is read by index does not read them. The number of processes may be another one; batches then go on
        being dealt out in the same order. A loop that is under way is left alone.

        Raises:
            FindingsError: J507, the state is of other data.
        """
        check_state(state, self._kind, self._source.samples(), max(1, self.loader.num_workers))
        self._orders.seed = state["seed"]
        self.epoch = state["epoch"]
        self._restored = dict(state) if state["under_way"] else None

    def _begin(self, first: int | None) -> Iterator[Any]:
        epoch, restored, self._restored = self.epoch, self._restored, None
        self.epoch += 1
        if self._begins is not None:
            self._begins()
        number = self._orders.begin(epoch)
        start = Start(batches=first or 0) if first is not None or restored is None else start_of(restored)
        if start.ended:
            batches, position = iter(()), Position(remaining=0, last=True, begun=start.samples, upto=start.samples)
        else:
            batches, position = self._source.begin(start, number)
        position.epoch, position.leads, position.mark, position.full = epoch, self._leads, start.mark, self._full
        if restored is not None:
            position.had, position.trained = restored["had"], restored["trained"]
            position.leads = position.leads or position.trained
        self._position = position
        return self._iterate(batches if self._deliver is None else self._deliver(batches), position)

    def _iterate(self, batches: Batches, position: Position) -> Iterator[Any]:
        live = self._live
        try:
            for batch, share in batches:
                position.size, position.real, position.rows, position.mean = share[:4]
                position.last, position.closes, _, position.upto, position.mark = share[4:]
                live.touch(position)
                yield batch
                if position.remaining is not None:
                    position.remaining -= 1
                if live.between is not None and position.leads:
                    live.between()
        finally:
            self._leads = position.leads
            live.drop(position)
            if self._position is position:
                self._position = None

    def __getattr__(self, name: str) -> Any:
        if name == "loader":  # an object that is being copied or unpickled and has nothing yet
            raise AttributeError(name)
        return getattr(self.loader, name)


class _Order(torch.Generator):
    """What the order is drawn from. `given` is the seed of the generator that the user's loader had, if it had one."""

    given: int | None = None


class _Orders:
    """The generators of a loader: one for the order of the data, one for the seeds of its workers."""

    def __init__(self, loader: DataLoader[Any], parts: LoaderParts) -> None:
        self.workers = torch.Generator()
        self._order = _Order()
        owners = [loader.batch_sampler, loader.sampler, getattr(loader.batch_sampler, "sampler", None)]
        drawing = [owner for owner in owners if hasattr(owner, "generator")]
        own = [getattr(owner, "generator", None) for owner in drawing]
        found = next((generator for generator in own if generator is not None), loader.generator)
        given = found.given if isinstance(found, _Order) else None if found is None else found.initial_seed()
        self._order.given = given
        for owner in drawing:
            owner.generator = self._order  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]
        seed = parts.settings.seed if given is None else given
        if seed is None:
            seed = torch.initial_seed()
        if given is not None or parts.settings.seed is None:
            seed = parts.collectives.broadcast(seed)  # what the first process would draw from, all draw from
        self.seed = seed

    def begin(self, epoch: int) -> int:
        """Sets the generators to the beginning of an epoch; returns a number for everything else that is random."""
        self._order.manual_seed(mixed(self.seed, epoch))
        number = mixed(self.seed, epoch, 1)
        self.workers.manual_seed(number)
        return number


def prepared(loader: DataLoader[Any], parts: LoaderParts, *, moves: bool = True) -> PreparedLoader:
    """The loader dealt out to the processes of the world. With `moves` its batches come on the device of the process.

    Raises:
        FindingsError: J504, the loader deals out data in a way of its own, or its batches cannot be split evenly.
    """
    if isinstance(loader, PreparedLoader):  # prepared by another Accelerator, whose world is not ours
        loader = loader.loader
    _check(loader, parts.world)
    return PreparedLoader(loader, parts, moves=moves)


def _source(loader: DataLoader[Any], parts: LoaderParts, workers: torch.Generator) -> Source:
    kind = StreamSource if isinstance(loader.dataset, IterableDataset) else MapSource
    if parts.settings.dispatch and parts.world.size > 1:
        return Dispatched(kind(loader, parts, workers, for_all=True), parts)
    return kind(loader, parts, workers)


def _begins(parts: LoaderParts) -> Callable[[], None] | None:
    """What is done when an epoch begins; None where that is nothing."""
    kinds = [kind for kind in parts.settings.rng_types if kind != "generator"]
    if not kinds or parts.world.size == 1:
        return None
    return lambda: share_generators(kinds, parts.collectives, parts.world.device)


def _deliver(loader: DataLoader[Any], parts: LoaderParts, *, moves: bool) -> Callable[[Batches], Batches] | None:
    """How batches come to the device; None where they are there, since loaders make them on the CPU."""
    device = parts.world.device
    if not moves or device.type == "cpu":
        return None
    return delivery(device, pins=loader.pin_memory, prefetch=parts.settings.prefetch, workers=loader.num_workers)


def _full_size(loader: DataLoader[Any], parts: LoaderParts) -> int | None:
    """How many samples a process has in a batch that is not short; None where batches have no fixed size."""
    size: Any = getattr(loader.batch_sampler, "batch_size", loader.batch_size)
    return size // parts.world.size if isinstance(size, int) and parts.settings.split_batches else size


def _check(loader: DataLoader[Any], world: World) -> None:
    if type(loader).__iter__ is not DataLoader.__iter__:
        cause = f"a {_name(loader)} iterates in a way of its own, which jobc cannot deal out"
        raise FindingsError((finding("J504", cause, next_step="prepare a torch.utils.data.DataLoader"),))
    if getattr(loader, "in_order", True) is False:
        cause = "the data loader has `in_order=False`; which of its samples are real could not be told"
        raise FindingsError((finding("J504", cause, next_step="remove `in_order=False`"),))
    if world.size > 1 and isinstance(loader.sampler, DistributedSampler):
        cause = "the data loader has a DistributedSampler; its share would be dealt out a second time"
        raise FindingsError((finding("J504", cause, next_step="remove the sampler, or do not prepare the loader"),))


def _name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
