"""Iterable data: each process reads the stream and keeps its own share of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, cycle, islice, repeat
from typing import Any, NamedTuple

import torch
from torch.utils.data import IterableDataset, get_worker_info

from .collectives import Collectives
from .dealing import Share
from .seed import mixed, reseed
from .world import World


class Mark(NamedTuple):
    """How far the stream of one worker is: so many samples are read, and `state` is what the dataset says of itself."""

    worker: int
    workers: int
    taken: int
    state: Any = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Marks:
    """How far the streams of all workers are, in order, and whose turn is next."""

    taken: tuple[int, ...] = (0,)
    turn: int = 0
    states: tuple[Any, ...] = (None,)

    def plain(self) -> dict[str, Any]:
        """The same as plain data, but for what datasets say of themselves."""
        return {"taken": list(self.taken), "turn": self.turn, "states": list(self.states)}

    @staticmethod
    def of(plain: dict[str, Any]) -> Marks:
        """The marks that plain data says."""
        return Marks(taken=tuple(plain["taken"]), turn=plain["turn"], states=tuple(plain["states"]))

    def moved(self, mark: Mark | None) -> Marks:
        """The marks after a batch of one worker."""
        if mark is None:
            return self
        count, worker = mark.workers, mark.worker
        taken = self.taken if len(self.taken) == count else (0,) * count
        states = self.states if len(self.states) == count else (None,) * count
        return Marks(
            taken=(*taken[:worker], mark.taken, *taken[worker + 1 :]),
            turn=(worker + 1) % count,
            states=(*states[:worker], mark.state, *states[worker + 1 :]),
        )


class Item(NamedTuple):
    """A sample of which something is to be said.

    `fill` is there only to make a batch full, `gone` to pass on a turn. The first of a batch carries the mark.
    """

    sample: Any
    fill: bool = False
    gone: bool = False
    mark: Mark | None = None


class Counted(NamedTuple):
    """A batch with its size and the number of its real samples; both None where the loader makes no batches."""

    batch: Any
    size: int | None
    real: int | None
    mark: Mark | None = None
    gone: bool = False


class CountingCollate:
    """A collate function that also counts what it collates. Samples that are fill are at the end of a batch."""

    def __init__(self, collate: Callable[[Any], Any], *, batched: bool) -> None:
        self._collate = collate
        self._batched = batched

    def __call__(self, samples: Any) -> Counted:
        first = samples[0] if self._batched else samples
        mark, gone = (first.mark, first.gone) if isinstance(first, Item) else (None, False)
        if gone:
            return Counted(None, None, None, gone=True)
        if not self._batched:
            sample, real = (first.sample, 0 if first.fill else None) if isinstance(first, Item) else (first, None)
            return Counted(self._collate(sample), None, real, mark)
        plain = [item.sample if isinstance(item, Item) else item for item in samples]
        real = sum(not (isinstance(item, Item) and item.fill) for item in samples)
        return Counted(self._collate(plain), len(plain), real, mark)


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
    """The samples of a stream that belong to one process, from where `marks` say.

    In a loader with workers each worker deals out the stream that it sees, and reseeds itself before each run with a
    number that only this run has. What was handed out before is read again and left out, unless the dataset can say
    and restore by itself where it is (`state_dict` and `load_state_dict`).
    """

    def __init__(self, dataset: Any, deal: StreamDeal, seed: torch.Tensor, marks: Marks | None = None) -> None:
        self.dataset = dataset
        self._deal = deal
        # A tensor, because workers that stay over the epochs see a change only in memory that they share.
        self._seed = seed
        self._marks = marks
        self._stateful = all(callable(getattr(dataset, name, None)) for name in ("state_dict", "load_state_dict"))

    def __iter__(self) -> Iterator[Any]:
        deal, marks, info = self._deal, self._marks, get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        runs = _Runs(self.dataset, deal.run, None if info is None else mixed(int(self._seed), worker))
        first: list[Any] = []
        if marks is not None:
            # The loader asks its workers in turn, the first one first.
            yield from repeat(Item(None, gone=True), deal.run if worker < marks.turn else 0)
            if self._stateful and marks.states[worker] is not None:
                self.dataset.load_state_dict(marks.states[worker])
                runs.taken = marks.taken[worker]
            else:
                first = runs.until(marks.taken[worker], deal.run * deal.size)
        runs.begin()
        mine = slice(deal.run * deal.rank, deal.run * (deal.rank + 1))
        while found := list(chain.from_iterable(islice(runs, deal.size))):
            first = first or found
            missing = deal.run * deal.size - len(found)
            if missing and deal.even:
                if deal.whole:
                    return
                found += [Item(sample, fill=True) for sample in islice(cycle(first), missing)]
            # An incomplete last batch stays short without fill; whether it counts is the loader's `drop_last`.
            part = found[mine]
            if part:
                mark = Mark(worker, workers, runs.taken, self.dataset.state_dict() if self._stateful else None)
                head = part[0]
                yield head._replace(mark=mark) if isinstance(head, Item) and head.fill else Item(head, mark=mark)
                yield from part[1:]


class _Runs:
    """The samples of a dataset in runs of one size; the last may be short. `taken` counts the samples read."""

    def __init__(self, dataset: Iterable[Any], size: int, seed: int | None) -> None:
        self._dataset = dataset
        self._size = size
        self._seed = seed
        self._stream: Iterator[Any] | None = None
        self.taken = 0

    def begin(self) -> None:
        if self._stream is None:
            self._reseed()
            self._stream = iter(self._dataset)

    def until(self, count: int, head: int) -> list[Any]:
        """Reads on until so many samples are taken; returns the first `head` of them."""
        self.begin()
        kept: list[Any] = []
        while self.taken < count and (found := self._read(min(self._size, count - self.taken))):
            kept += found[: max(0, head - len(kept))]
        return kept

    def __iter__(self) -> Iterator[list[Any]]:
        while found := self._read(self._size):
            yield found

    def _read(self, count: int) -> list[Any]:
        self._reseed()
        found = list(islice(self._stream, count))  # pyright: ignore[reportArgumentType]
        self.taken += len(found)
        return found

    def _reseed(self) -> None:
        if self._seed is not None:
            reseed(mixed(self._seed, self.taken))


def in_step(
    batches: Iterator[Counted], marks: Marks, collectives: Collectives, world: World, *, until_first_ends: bool
) -> Iterator[tuple[Any, Share]]:
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
        here = current if current is not None else as_fill(first)
        rows = 0 if current is None else 1 if here.size is None else here.size
        following = next(batches, None) if current is not None else None
        # A batch has to be known as the last one while it is in hand, so the processes agree one step ahead.
        numbers = torch.tensor([following is not None, rows], dtype=torch.int64, device=world.small_talk)
        going_on, all_rows = collectives.reduce(numbers).tolist()
        more = going_on == world.size if until_first_ends else going_on > 0
        marks = marks.moved(here.mark)
        mean = all_rows / world.size
        yield here.batch, Share(here.size, here.real, rows, mean, not more, not more, 0, sum(marks.taken), marks)
        current = following


def as_fill(batch: Counted | None) -> Counted:
    """A batch that is there only to keep a process in step."""
    if batch is None:
        raise RuntimeError("a stream that goes on has no batch to go on with")
    return Counted(batch.batch, batch.size, 0)
