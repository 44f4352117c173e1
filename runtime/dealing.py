"""Map-style data: which indices each process reads, and which of them are real."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass
from itertools import chain, cycle, islice
from typing import Any, NamedTuple

from torch.utils.data import BatchSampler

from .seed import mixed


class Share(NamedTuple):
    """One batch of one process.

    `size` is how many samples it has and `real` how many of them, from the front, are real; both None where an item of
    the sampler is no list of indices, and `real` is 0 where the batch is fill. `rows` and `mean` are those of
    `Position`. `last` says that the process has no batch after it, `closes` that not all processes have one. In the
    order of the data the batch begins at sample `at`, and the batches of all processes at this step end before `upto`.
    `mark` is where a stream is; None for data that is read by index.
    """

    size: int | None
    real: int | None
    rows: float = 1.0
    mean: float = 1.0
    last: bool = False
    closes: bool = False
    at: int = 0
    upto: int = 0
    mark: Any = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """Where an iteration begins: after so many batches of each process, or else after so many samples of all.

    `mark` is where a stream was; it says more than the samples do. With `ended` there is nothing left.
    """

    batches: int = 0
    samples: int = 0
    mark: Any = None
    ended: bool = False


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

    def count(self, batches: int, rank: int | None = None) -> int:
        """How many batches a process (this one, if none is named) gets of so many; the last process has the fewest."""
        if self.split or self.size == 1:
            return batches
        whole, rest = divmod(batches, self.size)
        if rest == 0 or self.drop_last:
            return whole
        return whole + 1 if self.even else whole + ((self.rank if rank is None else rank) < rest)


class Round(NamedTuple):
    """The batches that all processes take at one step, from sample `at` to before `upto` of the order."""

    batches: list[Any]
    full: bool
    at: int
    upto: int


class Rounds:
    """The rounds of one iteration over batches of indices, from a start on. `left` is how many batches these are.

    Whole batches are dealt out in turn: process r gets the batches r, r + size, r + 2 size, ... With `split` each batch
    is cut in equal parts, one for each process.
    """

    def __init__(self, batches: Iterable[Any], deal: Deal, start: Start) -> None:
        self._deal = deal
        self._split = deal.split and deal.size > 1
        self._width = 1 if deal.split else deal.size
        self._first: list[Any] = []
        self.at = 0
        self.left = len(batches) if isinstance(batches, Sized) else None
        exact = type(batches) is BatchSampler and bool(start.samples)
        self._batches = self._rest_of_order(batches, start.samples) if exact else self._rest(iter(batches), start)  # pyright: ignore[reportArgumentType]

    def _rest_of_order(self, sampler: BatchSampler, samples: int) -> Iterator[Any]:
        """The batches of what a sampler names after so many samples."""
        order, size = iter(sampler.sampler), sampler.batch_size
        head = list(islice(order, self._width * size))
        self._first = list(BatchSampler(head, size, drop_last=False))
        skipped = samples - len(head)
        rest = chain(head[samples:], order) if skipped < 0 else islice(order, skipped, None)
        self.at = samples
        if self.left is not None and isinstance(sampler.sampler, Sized):
            number = max(0, len(sampler.sampler) - samples)
            self.left = number // size if sampler.drop_last else -(-number // size)
        return iter(BatchSampler(rest, size, sampler.drop_last))  # pyright: ignore[reportArgumentType]

    def _rest(self, stream: Iterator[Any], start: Start) -> Iterator[Any]:
        """What is left of batches of any kind; one that is begun already is cut."""
        if not (start.batches or start.samples):
            return stream
        self._first = list(islice(stream, self._width))  # the samples that fill the end up
        stream = chain(self._first, stream)
        gone = 0
        for batch in islice(stream, start.batches * self._width):
            self.at += _count(batch)
            gone += 1
        while self.at < start.samples:
            found = list(islice(stream, 1))
            here = _count(found[0]) if found else 0
            if self.at + here > start.samples or not found:
                found = [batch[start.samples - self.at :] for batch in found]
                stream, self.at = chain(found, stream), start.samples
                break
            self.at += here
            gone += 1
        if self.left is not None:
            self.left = max(0, self.left - gone)
        return stream

    def __iter__(self) -> Iterator[Round]:
        deal, at = self._deal, self.at
        while batches := list(islice(self._batches, self._width)):
            self._first = self._first or batches
            upto = at + sum(map(_count, batches))
            full = deal.size == 1 or (len(batches) == self._width and _is_full(batches[-1], deal.batch_size))
            if full or self._split or not deal.drop_last:
                yield Round(batches, full, at, upto)
            at = upto

    def reaches(self, found: Round | None, rank: int) -> bool:
        """Whether a process has a batch in this round."""
        if found is None:
            return False
        if found.full or self._deal.even:
            return True
        return len(found.batches[0]) > self._part * rank if self._split else rank < len(found.batches)

    def part(self, found: Round, rank: int, following: Round | None) -> tuple[Any, Share]:
        """The batch of a process that has one, with its share."""
        last = not self.reaches(following, rank)
        closes = last or not self.reaches(following, self._deal.size - 1)
        if self._split:
            batch, share = self._cut(found, rank)
        elif found.full or not self._deal.even:
            batch, mean = found.batches[rank], (found.upto - found.at) / self._deal.size
            at = found.at + sum(map(_count, found.batches[:rank]))
            size = len(batch) if isinstance(batch, list | tuple) else None
            return batch, Share(size, size, _count(batch), mean, last, closes, at, found.upto)
        else:
            batch, share = self._filled(found, rank)
        return batch, share._replace(last=last, closes=closes, upto=found.upto)

    @property
    def _part(self) -> int:
        return (self._deal.batch_size or 0) // self._deal.size

    def _cut(self, found: Round, rank: int) -> tuple[Any, Share]:
        deal, part, batch = self._deal, self._part, found.batches[0]
        start = part * rank
        mine, mean = list(batch[start : start + part]), len(batch) / deal.size
        real = len(mine)
        if deal.even and not found.full:
            padded = [*batch, *islice(cycle(self._first[0]), part * deal.size - len(batch))]
            mine, mean = padded[start : start + part], part
        return mine, Share(len(mine), real, rows=len(mine), mean=mean, at=found.at + start)

    def _filled(self, found: Round, rank: int) -> tuple[Any, Share]:
        """A batch of the incomplete last round, filled with samples of the first one."""
        deal, group, first = self._deal, found.batches, self._first
        mine = group[rank] if rank < len(group) else None
        pattern = first[rank % len(first)]
        at = found.upto + rank if mine is None else found.at + sum(map(_count, group[:rank]))
        if deal.batch_size is None or not isinstance(pattern, list | tuple):
            # What has no size to be filled to is taken as it is, and a missing batch replaced whole.
            batches = [group[other] if other < len(group) else first[other % len(first)] for other in range(deal.size)]
            rows, mean = _count(batches[rank]), sum(map(_count, batches)) / deal.size
            size = len(batches[rank]) if isinstance(batches[rank], list | tuple) else None
            return batches[rank], Share(size, 0 if mine is None else size, rows, mean, at=at)
        have = [] if mine is None else list(mine)
        # Earlier processes of the round took their fill from the front; go on where they ended.
        taken = deal.batch_size * rank - sum(map(len, group[:rank]))
        missing = max(0, deal.batch_size - len(have))
        fill = islice(cycle(chain.from_iterable(first)), taken, taken + missing)
        rows = len(have) + missing
        return [*have, *fill], Share(rows, len(have), rows=rows, mean=rows, at=at)


class DealtBatches:
    """The batch sampler of one process: its share of the batches of another sampler.

    `begin` is called before each iteration, which records the shares it hands out in a `ledger` of its own, in order. A
    loader with workers asks for indices far ahead of the batches it returns, so the ledger is where the two meet again.
    With a seed each batch comes with a number that only it has, for the worker that reads it.
    """

    def __init__(self, batches: Iterable[Any], deal: Deal) -> None:
        self._batches = batches
        self.deal = deal

    def begin(self, start: Start, seed: int | None = None) -> None:
        """Makes the next iteration begin there."""
        self._seed = seed
        self.ledger: deque[Any] = deque()
        self.rounds = Rounds(self._batches, self.deal, start)

    def __iter__(self) -> Iterator[Any]:
        # Loaders may ask for an iterator twice and use the second one.
        return self._hand_out(self.rounds, self.ledger, self._seed)

    def __len__(self) -> int:
        if not isinstance(self._batches, Sized):
            raise TypeError(f"{type(self._batches).__name__} has no length")
        return self.deal.count(len(self._batches))

    def _hand_out(self, rounds: Rounds, ledger: deque[Any], seed: int | None) -> Iterator[Any]:
        rank, stream = self.deal.rank, iter(rounds)
        found = next(stream, None)
        while found is not None and rounds.reaches(found, rank):
            # One look ahead, at indices only, tells the last batch from the others.
            following = next(stream, None)
            batch, share = rounds.part(found, rank, following)
            ledger.append(share)
            yield batch if seed is None else (mixed(seed, share.at), batch)
            found = following


class BatchesOfAll(DealtBatches):
    """The batch sampler of a process that reads for all: their batches in turn, round by round.

    An entry of the ledger is a whole round: the shares in order of rank, None where a process has no batch.
    """

    def _hand_out(self, rounds: Rounds, ledger: deque[Any], seed: int | None) -> Iterator[Any]:
        stream = iter(rounds)
        found = next(stream, None)
        while found is not None:
            following = next(stream, None)
            ranks = range(self.deal.size)
            parts = [rounds.part(found, rank, following) if rounds.reaches(found, rank) else None for rank in ranks]
            ledger.append([None if part is None else part[1] for part in parts])
            for part in parts:
                if part is not None:
                    yield part[0] if seed is None else (mixed(seed, part[1].at), part[0])
            found = following


def _count(batch: Any) -> int:
    return len(batch) if isinstance(batch, list | tuple) else 1


def _is_full(batch: Any, batch_size: int | None) -> bool:
    return batch_size is None or not isinstance(batch, list | tuple) or len(batch) >= batch_size
