"""Map-style data: which indices each process reads, and which of them are real."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass, replace
from itertools import chain, cycle, islice
from typing import Any


@dataclass(frozen=True, slots=True)
class Share:
    """One batch of one process: its size, how many samples of it from the front are real, and whether it is the last.

    `size` and `real` are None where an item of the sampler is no list of indices; `real` is 0 where it is fill. `rows`
    and `mean` are those of `Position`.
    """

    size: int | None
    real: int | None
    last: bool = False
    rows: float = 1.0
    mean: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Deal:
    """How batches are dealt out: to `rank` of `size` processes.

    `split` reads a batch as that of all processes together. `even` fills the last group of batches with samples from
    the start, so that all processes have equally many batches of equal size. `batch_size` is None where batches have
    no size of their own, `drop_last` leaves an incomplete end away.
    """

    rank: int
    size: int
    split: bool
    even: bool
    batch_size: int | None
    drop_last: bool

    def count(self, batches: int) -> int:
        """How many batches this process gets of so many."""
        if self.split or self.size == 1:
            return batches
        whole, rest = divmod(batches, self.size)
        if rest == 0 or self.drop_last:
            return whole
        return whole + 1 if self.even else whole + (self.rank < rest)


class DealtBatches:
    """The batch sampler of one process: its share of the batches of another sampler.

    Each iteration records the shares it hands out in a `ledger` of its own, in order. A loader with workers asks for
    indices far ahead of the batches it returns, so the ledger is where the two meet again.
    """

    def __init__(self, batches: Iterable[Any], deal: Deal) -> None:
        self._batches = batches
        self.deal = deal
        self.ledger: deque[Share] = deque()
        # The number of batches that the next iteration leaves out at its start.
        self.first = 0

    def __iter__(self) -> Iterator[Any]:
        self.ledger = deque()
        return self._hand_out(self.ledger, self.first)

    def __len__(self) -> int:
        if not isinstance(self._batches, Sized):
            raise TypeError(f"{type(self._batches).__name__} has no length")
        return self.deal.count(len(self._batches))

    def _hand_out(self, ledger: deque[Share], first: int) -> Iterator[Any]:
        deal = self.deal
        shares = _split(self._batches, deal) if deal.split and deal.size > 1 else _turns(self._batches, deal)
        shares = islice(shares, first, None)
        # One look ahead, at indices only, tells the last batch from the others.
        batch, share = next(shares, (None, None))
        while share is not None:
            following, its_share = next(shares, (None, None))
            ledger.append(share if its_share is not None else replace(share, last=True))
            yield batch
            batch, share = following, its_share


def _turns(batches: Iterable[Any], deal: Deal) -> Iterator[tuple[Any, Share]]:
    """Whole batches in turn: process r gets batches r, r + size, r + 2 size, ..."""
    if deal.size == 1:
        for batch in batches:
            yield batch, _all_real(batch, _rows(batch))
        return
    stream = iter(batches)
    first: list[Any] = []
    while group := list(islice(stream, deal.size)):
        first = first or group
        complete = len(group) == deal.size and _is_full(group[-1], deal.batch_size)
        if complete or not deal.even:
            if deal.rank < len(group) and (complete or not deal.drop_last):
                yield group[deal.rank], _all_real(group[deal.rank], sum(map(_rows, group)) / deal.size)
        elif not deal.drop_last:
            yield _filled(group, first, deal)


def _filled(group: list[Any], first: list[Any], deal: Deal) -> tuple[Any, Share]:
    """This process's batch of the incomplete last group, filled with samples of the first group."""
    mine = group[deal.rank] if deal.rank < len(group) else None
    pattern = first[deal.rank % len(first)]
    if not isinstance(pattern, list | tuple):  # items without a size: a missing one is replaced whole
        return (mine, _all_real(mine, 1.0)) if mine is not None else (pattern, Share(None, 0))
    if deal.batch_size is None:
        all_rows = [_rows(group[rank] if rank < len(group) else first[rank % len(first)]) for rank in range(deal.size)]
        mean = sum(all_rows) / deal.size
        if mine is not None:
            return mine, _all_real(mine, mean)
        return pattern, Share(len(pattern), 0, rows=len(pattern), mean=mean)
    have = [] if mine is None else list(mine)
    # Earlier processes of the group took their fill from the front; go on where they ended.
    taken = sum(
        deal.batch_size - len(group[rank]) if rank < len(group) else deal.batch_size for rank in range(deal.rank)
    )
    missing = max(0, deal.batch_size - len(have))
    fill = islice(cycle(chain.from_iterable(first)), taken, taken + missing)
    rows = len(have) + missing
    return [*have, *fill], Share(rows, len(have), rows=rows, mean=rows)


def _split(batches: Iterable[Any], deal: Deal) -> Iterator[tuple[Any, Share]]:
    """Each batch cut in equal parts, one for each process; `batch_size` is that of all together."""
    whole = deal.batch_size or 0
    part = whole // deal.size
    first: list[Any] = []
    for batch in batches:
        first = first or list(batch)
        start = part * deal.rank
        mine = list(batch[start : start + part])
        real, mean = len(mine), len(batch) / deal.size
        if deal.even and len(batch) < whole:
            padded = [*batch, *islice(cycle(first), whole - len(batch))]
            mine, mean = padded[start : start + part], part
        if mine:
            yield mine, Share(len(mine), real, rows=len(mine), mean=mean)


def _all_real(batch: Any, mean: float) -> Share:
    size = len(batch) if isinstance(batch, list | tuple) else None
    return Share(size, size, rows=_rows(batch), mean=mean)


def _rows(batch: Any) -> float:
    return float(len(batch)) if isinstance(batch, list | tuple) else 1.0


def _is_full(batch: Any, batch_size: int | None) -> bool:
    return batch_size is None or not isinstance(batch, list | tuple) or len(batch) >= batch_size
