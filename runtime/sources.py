"""Where a prepared loader's batches come from: this process's share of the user's loader, read by index or as a stream.

A source reads for its own process (`begin`) or for all of them, round by round (`begin_all`). Each batch comes with its
share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Protocol

import torch
from torch.utils.data import BatchSampler, DataLoader

from ..spec.findings import FindingsError, finding
from ..spec.resolved import ResolvedSpec
from .collectives import Collectives
from .dealing import BatchesOfAll, Deal, DealtBatches, Share, Start
from .live import LiveBatches, Position
from .preemption import listening
from .settings import Settings
from .streaming import Counted, CountingCollate, DealtStream, Marks, StreamDeal, as_fill, in_step
from .workers import NumberedReads, WorkerStart
from .world import World

Steps = Iterator[tuple[Any, Share]]
#: What each process gets at one step, in order of rank; None where it has no batch any more.
Parts = Sequence[tuple[Any, Share] | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class LoaderParts:
    """What prepared loaders need of the runtime."""

    world: World
    settings: Settings
    collectives: Collectives
    live: LiveBatches
    spec: ResolvedSpec | None = None


class Source(Protocol):
    """The batches of one process. `seed` is a number for everything random in one iteration."""

    def begin(self, start: Start, seed: int) -> tuple[Steps, Position]: ...

    def dealt(self, *, even: bool) -> AbstractContextManager[object]: ...

    def samples(self) -> int | None: ...

    def __len__(self) -> int: ...


class MapSource:
    """Batches of data that is read by index."""

    def __init__(
        self, loader: DataLoader[Any], parts: LoaderParts, generator: torch.Generator, *, for_all: bool = False
    ) -> None:
        # A loader that makes no batches itself has a sampler of items, each of which counts as a batch.
        batched = loader.batch_sampler is not None
        sampler: Any = loader.batch_sampler if batched else loader.sampler
        # Only of torch's own sampler is it known that all batches but the last have the size that it names.
        self._uniform = parts.settings.even_batches and type(sampler) is BatchSampler
        self._batches = (BatchesOfAll if for_all else DealtBatches)(sampler, _deal(sampler, parts))
        # What names one sample after another, if there is such a thing.
        self._order: Any = sampler.sampler if type(sampler) is BatchSampler else None if batched else sampler
        self._numbered = loader.num_workers > 0
        dataset = NumberedReads(loader.dataset) if self._numbered else loader.dataset
        options = {"batch_sampler": self._batches} if batched else {"batch_size": None, "sampler": self._batches}
        self._reader = _rebuilt(loader, dataset, loader.collate_fn, generator, **options)

    @contextmanager
    def dealt(self, *, even: bool) -> Iterator[None]:
        """Within it iterations that begin fill the last batches, or do not."""
        deal, uniform = self._batches.deal, self._uniform
        self._batches.deal, self._uniform = replace(deal, even=even), uniform and even
        try:
            yield
        finally:
            self._batches.deal, self._uniform = deal, uniform

    def begin(self, start: Start, seed: int) -> tuple[Steps, Position]:
        """The batches of this process, each with its share."""
        batches, position = self._read(start, seed), self._position(self._batches.deal.rank)
        ledger = self._batches.ledger
        return ((batch, ledger.popleft()) for batch in batches), position

    def begin_all(self, start: Start, seed: int) -> tuple[Iterator[Parts], list[Position]]:
        """The batches of all processes, and where each of them begins."""
        batches = self._read(start, seed)
        positions = [self._position(rank) for rank in range(self._batches.deal.size)]
        return _gathered(batches, self._batches.ledger), positions

    def _read(self, start: Start, seed: int) -> Iterator[Any]:
        self._batches.begin(start, seed if self._numbered else None)
        return iter(self._reader)

    def _position(self, rank: int) -> Position:
        deal, begun, left = self._batches.deal, self._batches.rounds.at, self._batches.rounds.left
        if left is None:
            return Position(uniform=self._uniform, begun=begun, upto=begun)
        remaining = deal.count(left, rank)
        extra = remaining - deal.count(left, deal.size - 1)
        return Position(remaining=remaining, extra=extra, uniform=self._uniform, begun=begun, upto=begun)

    def samples(self) -> int | None:
        """How many samples the order has, where that can be asked without reading it."""
        return len(self._order) if isinstance(self._order, Sized) else None

    def __len__(self) -> int:
        return len(self._batches)


def _gathered(batches: Iterator[Any], ledger: Any) -> Iterator[Parts]:
    for batch in batches:  # what the first process has, who has one in every round
        first, *others = ledger.popleft()
        yield [(batch, first), *[None if share is None else (next(batches), share) for share in others]]


class StreamSource:
    """Batches of iterable data."""

    def __init__(
        self, loader: DataLoader[Any], parts: LoaderParts, generator: torch.Generator, *, for_all: bool = False
    ) -> None:
        settings, world = parts.settings, parts.world
        self._world, self._collectives = world, parts.collectives
        self._batched = loader.batch_size is not None
        size = loader.batch_size or 1
        if settings.split_batches and world.size > 1:
            size = _part(size if self._batched else None, world.size)
        self._loader = loader
        self._drop_last = loader.drop_last
        self._split = settings.split_batches
        self._even = settings.even_batches
        self._deal = StreamDeal(
            rank=0 if for_all else world.rank,
            size=1 if for_all else world.size,
            run=size,
            even=self._even and world.size > 1,
            whole=self._drop_last,
        )
        self._generator = generator
        self._seed = torch.zeros(1, dtype=torch.int64)
        if loader.num_workers > 0:
            self._seed.share_memory_()
        self._reader = self._made(None)

    def dealt(self, *, even: bool) -> AbstractContextManager[object]:  # noqa: ARG002 - all processes stop together
        """Nothing: a stream ends everywhere together anyway."""
        return nullcontext()

    def begin(self, start: Start, seed: int) -> tuple[Steps, Position]:
        """The batches of this process, each with its share."""
        batches, marks, position = self._read(start, seed)
        steps = in_step(batches, marks, self._collectives, self._world, until_first_ends=self._drop_last)
        return _after(steps, start.batches, position), position

    def begin_all(self, start: Start, seed: int) -> tuple[Iterator[Parts], list[Position]]:
        """The batches of all processes, and where each of them begins."""
        batches, marks, position = self._read(start, seed)
        positions = [replace(position) for _ in range(self._world.size)]
        return self._rounds(batches, marks, start.batches, positions), positions

    def _read(self, start: Start, seed: int) -> tuple[Iterator[Counted], Marks, Position]:
        self._seed.fill_(seed)
        # Workers that stay know only where they began, so a start that is not the data's has a reader of its own.
        reader = self._reader if start.mark is None else self._made(start.mark)
        batches = (batch for batch in reader if not batch.gone)
        # The length that a stream claims is not relied on, and workers may fill batches before the last.
        return batches, start.mark or Marks(), Position(uniform=False, begun=start.samples, upto=start.samples)

    def _made(self, marks: Marks | None) -> DataLoader[Any]:
        collate = CountingCollate(self._loader.collate_fn, batched=self._batched)
        stream = DealtStream(self._loader.dataset, self._deal, self._seed, marks)
        options = (
            {"batch_size": self._deal.run, "drop_last": self._drop_last} if self._batched else {"batch_size": None}
        )
        return _rebuilt(self._loader, stream, collate, self._generator, **options)

    def samples(self) -> int | None:
        """Nothing that could be relied on."""
        return None

    def _rounds(
        self, batches: Iterator[Counted], marks: Marks, skipped: int, positions: list[Position]
    ) -> Iterator[Parts]:
        size = self._world.size
        group = first = list(islice(batches, size))
        while group and (len(group) == size or not self._drop_last):
            following = list(islice(batches, size))
            last = len(following) < size if self._drop_last else not following
            for item in group:
                marks = marks.moved(item.mark)
            whole = [*group, *[as_fill(first[rank % len(first)]) for rank in range(len(group), size)]]
            rows = [1 if item.size is None else item.size for item in whole]
            if not self._even:  # who has nothing any more is only kept in step
                rows = [count if rank < len(group) else 0 for rank, count in enumerate(rows)]
            mean, upto = sum(rows) / size, sum(marks.taken)
            if skipped:
                skipped -= 1
                for position in positions:
                    position.begun = upto
            else:
                yield [
                    (item.batch, Share(item.size, item.real, count, mean, last, last, 0, upto, marks))
                    for item, count in zip(whole, rows, strict=True)
                ]
            group = following

    def __len__(self) -> int:
        batches = len(self._loader)
        if self._split or self._world.size == 1:
            return batches
        return batches // self._world.size if self._drop_last else -(-batches // self._world.size)


def _after(steps: Steps, skipped: int, position: Position) -> Steps:
    """The steps without the first ones."""
    for batch, share in steps:
        if skipped:
            skipped -= 1
            position.begun = share.upto
        else:
            yield batch, share


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


def _rebuilt(
    loader: DataLoader[Any],
    dataset: Any,
    collate: Callable[[Any], Any],
    generator: torch.Generator,
    **options: Any,
) -> DataLoader[Any]:
    """A loader like another one, over other batches. The generator is for the seeds of its workers."""
    if loader.num_workers > 0:
        options |= {
            "prefetch_factor": loader.prefetch_factor,
            "persistent_workers": loader.persistent_workers,
            "multiprocessing_context": loader.multiprocessing_context,
            "worker_init_fn": WorkerStart(loader.worker_init_fn, spared=listening()),
        }
    return DataLoader(
        dataset,
        collate_fn=collate,
        num_workers=loader.num_workers,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        generator=generator,
        **options,
    )
