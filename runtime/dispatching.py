"""Data that the first process reads for all: it sends the others their batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, NamedTuple, NoReturn

from torch import Tensor

from .dealing import Share, Start
from .live import Position
from .posting import Post
from .sources import LoaderParts, MapSource, Steps, StreamSource


class Failure(NamedTuple):
    """What went wrong where the data is read, in words."""

    text: str

    def show(self) -> NoReturn:
        """Raises it in a process that waits for the data."""
        raise RuntimeError(f"the first process, which reads the data for all, failed with {self.text}")


class Opening(NamedTuple):
    """What a position knows when an iteration begins, which only the process that reads can say."""

    remaining: int | None
    extra: int
    uniform: bool
    begun: int

    @staticmethod
    def of(position: Position) -> Opening:
        """What to tell the process whose position it is."""
        return Opening(position.remaining, position.extra, position.uniform, position.begun)

    def tell(self, position: Position) -> None:
        """Puts it into the position of this process."""
        position.remaining, position.extra, position.uniform, position.begun = self


class Dispatched:
    """A source whose data is read in the first process only. What goes wrong there ends the iteration everywhere.

    A letter is an opening or None, a batch and its share; or None alone where there is no data at all.
    """

    def __init__(self, source: MapSource | StreamSource, parts: LoaderParts) -> None:
        self._source = source
        self._world = parts.world
        self._post = Post(parts.world)
        self._length, self._samples = parts.collectives.broadcast(_sizes(source) if parts.world.is_main else ("", None))

    def dealt(self, *, even: bool) -> AbstractContextManager[object]:
        """Within it iterations that begin fill the last batches, or do not."""
        return self._source.dealt(even=even)

    def begin(self, start: Start, seed: int) -> tuple[Steps, Position]:
        """The batches of this process, each with its share."""
        position = Position(begun=start.samples, upto=start.samples)
        if self._world.is_main:
            return self._hand_out(start, seed, position), position
        return self._receive(position), position

    def samples(self) -> int | None:
        """How many samples the data has, where it says so; it was asked when the source was made."""
        return self._samples

    def __len__(self) -> int:
        if isinstance(self._length, str):
            raise TypeError(self._length)
        return self._length

    def _hand_out(self, start: Start, seed: int, position: Position) -> Steps:
        letters, waiting = self._letters(start, seed, position), set(range(1, self._world.size))
        while True:
            try:
                mine, others, done = next(letters, (None, {}, set[int]()))
            except Exception as error:
                failure = self._post.pack(Failure(f"{type(error).__name__}: {error}"))
                self._post.send(dict.fromkeys(waiting, failure))
                raise
            self._post.send(others)
            waiting -= done
            if mine is None:
                return
            yield mine

    def _letters(
        self, start: Start, seed: int, position: Position
    ) -> Iterator[tuple[tuple[Any, Share] | None, dict[int, list[Tensor]], set[int]]]:
        """For every step what the first process keeps, what the others get, and which of them get nothing after it."""
        rounds, positions = self._source.begin_all(start, seed)
        others = range(1, self._world.size)
        begun = False
        for parts in rounds:
            if not begun:
                Opening.of(positions[0]).tell(position)
            letters: dict[int, list[Tensor]] = {}
            done: set[int] = set()
            for rank in others:
                part = parts[rank]
                if part is not None:
                    opening = None if begun else Opening.of(positions[rank])
                    letters[rank] = self._post.pack((opening, part[0], _light(part[1])))
                elif not begun:
                    letters[rank] = self._post.pack(None)
                if part is None or part[1].last:
                    done.add(rank)
            begun = True
            yield parts[0], letters, done
        if not begun:
            nothing = self._post.pack(None)
            yield None, dict.fromkeys(others, nothing), set(others)

    def _receive(self, position: Position) -> Steps:
        while True:
            letter = self._post.receive(0)
            if letter is None:
                return
            if isinstance(letter, Failure):
                letter.show()
            opening, batch, share = letter
            if opening is not None:
                opening.tell(position)
            yield batch, share
            if share.last:
                return


def _sizes(source: MapSource | StreamSource) -> tuple[int | str, int | None]:
    """The length of a source, or why it has none, and the samples of its data."""
    try:
        return len(source), source.samples()
    except TypeError as error:
        return str(error), source.samples()


def _light(share: Share) -> Share:
    """The share without what a dataset says of itself, which stays where the dataset is."""
    if share.mark is None:
        return share
    return share._replace(mark=replace(share.mark, states=(None,) * len(share.mark.states)))
