"""Prepared data loaders: each process reads its own share, on its device, and knows which samples are real."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, IterableDataset

from ..spec.findings import FindingsError, finding
from ..spec.resolved import ResolvedSpec
from .collectives import Collectives
from .dealing import Deal, DealtBatches, Share
from .live import LiveBatches, Position
from .nested import move
from .seed import mixed
from .settings import Settings
from .streaming import Counted, CountingCollate, DealtStream, StreamDeal, in_step
from .world import World


class PreparedLoader(DataLoader[Any]):
    """The user's loader, dealt out to the processes.

    Iterating gives this process's batches on its device. The order of shuffled data is a function of (seed, epoch),
    the same in all processes; the epoch counts the iterations begun so far, or is what `set_epoch` says. Length is the
    number of this process's batches. Every other attribute is that of the user's loader. It is a DataLoader for
    everyone who asks; `DataLoader.__init__` is not called, for there is nothing of its own to set up.
    """

    def __init__(
        self, loader: DataLoader[Any], source: MapSource | StreamSource, parts: LoaderParts, *, moves: bool
    ) -> None:
        self.loader = loader
        self.epoch = 0
        self._source = source
        self._live = parts.live
        self._orders = _Orders(loader, parts)
        self._device = parts.world.device
        # Batches come from the loader on the CPU; there is nothing to move where the model is there too.
        self._moves = moves and self._device.type != "cpu"

    def __iter__(self) -> Iterator[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.from_batch(0)

    def from_batch(self, first: int) -> Iterator[Any]:
        """The next epoch without the batches before `first`. Where data is read by index they are not read at all."""
        epoch = self.epoch
        self.epoch += 1
        self._orders.begin(epoch)
        return self._iterate(*self._source.begin(first))

    def __len__(self) -> int:
        return len(self._source)

    def dealt(self, *, even: bool) -> AbstractContextManager[object]:
        """Within it new iterations fill the last batches, or do not; a stream ends everywhere together anyway."""
        return self._source.dealt(even=even)

    def set_epoch(self, epoch: int) -> None:
        """Makes the next iteration that of an epoch, counted from 0."""
        self.epoch = epoch
        for part in (self.loader.dataset, self.loader.sampler, self.loader.batch_sampler):
            if callable(getattr(part, "set_epoch", None)):
                part.set_epoch(epoch)  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]

    def _iterate(self, batches: Iterator[tuple[Any, Share]], position: Position) -> Iterator[Any]:
        live, moves, device, pinned = self._live, self._moves, self._device, self._moves and self.loader.pin_memory
        try:
            for batch, share in batches:
                position.size, position.real, position.last = share.size, share.real, share.last
                position.rows, position.mean = share.rows, share.mean
                live.touch(position)
                yield move(batch, device, non_blocking=pinned) if moves else batch
                if position.remaining is not None:
                    position.remaining -= 1
        finally:
            live.drop(position)

    def __getattr__(self, name: str) -> Any:
        if name == "loader":  # an object that is being copied or unpickled and has nothing yet
            raise AttributeError(name)
        return getattr(self.loader, name)


@dataclass(frozen=True, kw_only=True, slots=True)
class LoaderParts:
    """What prepared loaders need of the runtime."""

    world: World
    settings: Settings
    collectives: Collectives
    live: LiveBatches
    spec: ResolvedSpec | None = None


class MapSource:
    """Batches of data that is read by index."""

    def __init__(self, loader: DataLoader[Any], parts: LoaderParts) -> None:
        # A loader that makes no batches itself has a sampler of items, each of which counts as a batch.
        batched = loader.batch_sampler is not None
        sampler: Any = loader.batch_sampler if batched else loader.sampler
        # Only of torch's own sampler is it known that all batches but the last have the size that it names.
        self._uniform = parts.settings.even_batches and type(sampler) is BatchSampler
        self._batches = DealtBatches(sampler, _deal(sampler, parts))
        options = {"batch_sampler": self._batches} if batched else {"batch_size": None, "sampler": self._batches}
        self.reader = _rebuilt(loader, loader.dataset, loader.collate_fn, **options)

    @contextmanager
    def dealt(self, *, even: bool) -> Iterator[None]:
        deal, uniform = self._batches.deal, self._uniform
        self._batches.deal, self._uniform = replace(deal, even=even), uniform and even
        try:
            yield
        finally:
            self._batches.deal, self._uniform = deal, uniform

    def begin(self, first: int = 0) -> tuple[Iterator[tuple[Any, Share]], Position]:
        self._batches.first = first
        batches = iter(self.reader)
        self._batches.first = 0
        # Each iteration begins a ledger of its own, and a loader begins one as soon as it is asked for an iterator.
        ledger = self._batches.ledger
        try:
            remaining = max(0, len(self) - first)
        except TypeError:
            remaining = None
        shares = ((batch, ledger.popleft()) for batch in batches)
        return shares, Position(remaining=remaining, uniform=self._uniform)

    def __len__(self) -> int:
        return len(self._batches)


class StreamSource:
    """Batches of iterable data."""

    def __init__(self, loader: DataLoader[Any], parts: LoaderParts) -> None:
        settings, self._world, self._collectives = parts.settings, parts.world, parts.collectives
        batched = loader.batch_size is not None
        size = loader.batch_size or 1
        if settings.split_batches and parts.world.size > 1:
            size = _part(size if batched else None, parts.world.size)
        self._loader = loader
        self._drop_last = loader.drop_last
        deal = StreamDeal(
            rank=parts.world.rank,
            size=parts.world.size,
            run=size,
            even=settings.even_batches,
            whole=self._drop_last,
        )
        collate = CountingCollate(loader.collate_fn, batched=batched)
        options = {"batch_size": size, "drop_last": self._drop_last} if batched else {"batch_size": None}
        self.reader = _rebuilt(loader, DealtStream(loader.dataset, deal), collate, **options)
        self._split = settings.split_batches

    def dealt(self, *, even: bool) -> AbstractContextManager[object]:  # noqa: ARG002 - all processes stop together
        return nullcontext()

    def begin(self, first: int = 0) -> tuple[Iterator[tuple[Any, Share]], Position]:
        batches: Iterator[Counted] = iter(self.reader)
        steps = in_step(batches, self._collectives, self._world, until_first_ends=self._drop_last)
        shares = ((item.batch, share) for item, share in islice(steps, first, None))
        # The length that a stream claims is not relied on, and workers may fill batches before the last.
        return shares, Position(uniform=False)

    def __len__(self) -> int:
        batches = len(self._loader)
        if self._split or self._world.size == 1:
            return batches
        return batches // self._world.size if self._drop_last else -(-batches // self._world.size)


class _Orders:
    """The generators of a loader: one for the order of the data, one for the seeds of its workers."""

    def __init__(self, loader: DataLoader[Any], parts: LoaderParts) -> None:
        self._rank = parts.world.rank
        self.workers = torch.Generator()
        self._order = torch.Generator()
        owners = [loader.batch_sampler, loader.sampler, getattr(loader.batch_sampler, "sampler", None)]
        drawing = [owner for owner in owners if hasattr(owner, "generator")]
        own = [getattr(owner, "generator", None) for owner in drawing]
        given = next((generator for generator in own if generator is not None), loader.generator)
        for owner in drawing:
            owner.generator = self._order  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]
        seed = parts.settings.seed if given is None else given.initial_seed()
        if seed is None:
            seed = torch.initial_seed()
        if drawing and (given is not None or parts.settings.seed is None):
            seed = parts.collectives.broadcast(seed)  # what the first process would draw from, all draw from
        self._seed = seed

    def begin(self, epoch: int) -> None:
        self._order.manual_seed(mixed(self._seed, epoch))
        self.workers.manual_seed(mixed(self._seed, epoch, self._rank + 1))


def prepared(loader: DataLoader[Any], parts: LoaderParts, *, moves: bool = True) -> PreparedLoader:
    """The loader dealt out to the processes of the world. With `moves` its batches come on the device of the process.

    Raises:
        FindingsError: J504, the loader deals out data in a way of its own, or its batches cannot be split evenly.
    """
    if isinstance(loader, PreparedLoader):  # prepared by another Accelerator, whose world is not ours
        loader = loader.loader
    _check(loader, parts.world)
    stream = isinstance(loader.dataset, IterableDataset)
    source = StreamSource(loader, parts) if stream else MapSource(loader, parts)
    result = PreparedLoader(loader, source, parts, moves=moves)
    source.reader.generator = result._orders.workers  # noqa: SLF001 - the two halves of one construction
    return result


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


def _deal(sampler: Any, parts: LoaderParts) -> Deal:
    batch_size = getattr(sampler, "batch_size", None)
    split = parts.settings.split_batches
    if split and parts.world.size > 1:
        _part(batch_size, parts.world.size)
    return Deal(
        rank=parts.world.rank,
        size=parts.world.size,
        split=split,
        even=parts.settings.even_batches,
        batch_size=batch_size,
        drop_last=bool(getattr(sampler, "drop_last", False)),
    )


def _part(batch_size: int | None, processes: int) -> int:
    """The part of each process in a batch of all together."""
    if batch_size is not None and batch_size % processes == 0:
        return batch_size // processes
    what = "batches of no fixed size" if batch_size is None else f"a batch size of {batch_size}"
    cause = f"`split_batches` cannot cut {what} in {processes} equal parts"
    step = f"use a batch size that is a multiple of {processes}, or `split_batches: false`"
    raise FindingsError((finding("J504", cause, next_step=step),))


def _rebuilt(loader: DataLoader[Any], dataset: Any, collate: Callable[[Any], Any], **options: Any) -> DataLoader[Any]:
    """A loader like another one, over other batches."""
    if loader.num_workers > 0:
        options |= {
            "prefetch_factor": loader.prefetch_factor,
            "persistent_workers": loader.persistent_workers,
            "multiprocessing_context": loader.multiprocessing_context,
        }
    return DataLoader(
        dataset,
        collate_fn=collate,
        num_workers=loader.num_workers,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        **options,
    )


def _name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
