"""Iterable data: each process reads the stream and keeps its own share of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, cycle, islice
from typing import Any, NamedTuple

import torch
from torch.utils.data import IterableDataset

from .collectives import Collectives
from .dealing import Share
from .world import World


class Fill(NamedTuple):
    """A sample that is there only to make a batch full."""

    sample: Any


class Counted(NamedTuple):
    """A batch with its size and the number of its real samples; both None where the loader makes no batches."""

    batch: Any
    size: int | None
    real: int | None


class CountingCollate:
    """A collate function that also counts what it collates. Samples that are fill are at the end of a batch."""

    def __init__(self, collate: Callable[[Any], Any], *, batched: bool) -> None:
        self._collate = collate
        self._batched = batched

    def __call__(self, samples: Any) -> Counted:
        if not self._batched:
            fill = isinstance(samples, Fill)
            return Counted(self._collate(samples.sample if fill else samples), None, 0 if fill else None)
        plain = [item.sample if isinstance(item, Fill) else item for item in samples]
        real = sum(not isinstance(item, Fill) for item in samples)
        return Counted(self._collate(plain), len(plain), real)


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamDeal:
    """How a stream is dealt out: runs of `run` samples in turn to `size` processes, this one being `rank`.

    `even` fills the last round with samples from the start of the stream; `whole` leaves an incomplete round away.
    """

    rank: int
    size: int
    run: int
    even: bool
    whole: bool


class DealtStream(IterableDataset[Any]):
    """The samples of a stream that belong to one process.

    In a loader with workers each worker deals out the stream that it sees.
    """

    def __init__(self, dataset: Any, deal: StreamDeal) -> None:
        self._dataset = dataset
        self._deal = deal

    def __iter__(self) -> Iterator[Any]:
        deal = self._deal
        if deal.size == 1:
            yield from self._dataset
            return
        stream = iter(self._dataset)
        round_of = deal.run * deal.size
        first: list[Any] = []
        mine = slice(deal.run * deal.rank, deal.run * (deal.rank + 1))
        while found := list(islice(stream, round_of)):
            first = first or found
            if len(found) == round_of or not deal.even:
                # An incomplete last batch stays short; whether it counts is the loader's `drop_last`.
                yield from found[mine]
            elif not deal.whole:
                fill = (Fill(sample) for sample in islice(cycle(first), round_of - len(found)))
                yield from list(chain(found, fill))[mine]


def in_step(
    batches: Iterator[Counted], collectives: Collectives, world: World, *, until_first_ends: bool
) -> Iterator[tuple[Counted, Share]]:
    """The batches of this process, each with its share, for as many steps as all processes take together.

    Streams may end at different steps. Processes stop together with the first that ends, or else with the last: then
    one that runs out repeats its first batch as fill, and one that never had a batch gets that of another process.
    """
    current = next(batches, None)
    have = collectives.objects(current is not None)
    if not (all(have) if until_first_ends else any(have)):
        return
    first = current if all(have) else next(item for item in collectives.objects(current) if item is not None)
    more = True
    while more:
        here = current if current is not None else _as_fill(first)
        rows = 0 if current is None else 1 if here.size is None else here.size
        following = next(batches, None) if current is not None else None
        # A batch has to be known as the last one while it is in hand, so the processes agree one step ahead.
        numbers = torch.tensor([following is not None, rows], dtype=torch.int64, device=world.small_talk)
        going_on, all_rows = collectives.reduce(numbers).tolist()
        more = going_on == world.size if until_first_ends else going_on > 0
        yield here, Share(here.size, here.real, not more, rows, all_rows / world.size)
        current = following


def _as_fill(batch: Counted | None) -> Counted:
    if batch is None:
        raise RuntimeError("a stream that goes on has no batch to go on with")
    return Counted(batch.batch, batch.size, 0)
