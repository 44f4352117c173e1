"""When the job saves by itself: after so many optimizer steps, after so many minutes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from .keeper import Keeper
from .policy import Policy

_MOST = 1000  # steps from one look at the clock to the next
_AHEAD = 0.5  # of the time that is left; the steps to come may be faster


class Schedule:
    """Looks between two batches whether a checkpoint is due. It is the same in all processes, without talking to them.

    Minutes are the first process's: it looks at its clock at steps that all know, and says when the next such step is.
    """

    def __init__(self, keeper: Keeper, policy: Policy) -> None:
        training = keeper.training
        progress = training.progress
        self._keeper = keeper
        self._live = training.live
        self._due = False
        self._progress = progress
        self._every = policy.every_steps
        self._seconds = None if policy.every_minutes is None else policy.every_minutes * 60
        self._collectives = training.collectives
        self._seen = progress.step
        self._look = self._seen + 1
        self._looked = (self._seen, time.monotonic())
        self._saved = time.monotonic()

    @staticmethod
    def needed(policy: Policy) -> bool:
        """Whether there is anything to look for."""
        return policy.asynchronous or policy.every_steps is not None or policy.every_minutes is not None

    def begin(self) -> None:
        """Counts from here: the training goes on from a checkpoint."""
        self._seen, self._due = self._progress.step, False
        self._look, self._looked = self._seen + 1, (self._seen, time.monotonic())

    def between(self) -> None:
        """Saves if it is time to, and no window of batches is open.

        What is due after the last batch of a loop waits for the code after the loop: a run that goes on from there
        would find no batch before that code. If the epoch before had no better place, there is none.

        Raises:
            FindingsError: J524, a checkpoint could not be written.
        """
        self._keeper.raise_failed()
        waited, seen, now = self._due, self._seen, self._progress.step
        if now != seen:
            self._seen = now
            self._due = self._is_due(seen, now)
        position = self._live.innermost
        if not self._due or not self._progress.sync or position is None:
            return
        # Not in a loop that only evaluates, which would go on in its middle.
        if self._live.trains(position) and (waited or not position.last):
            self._save()

    def flush(self) -> None:
        """Saves what is due and waited for the end of an epoch.

        Raises:
            FindingsError: J524, the checkpoint could not be written.
        """
        if self._due and self._live.innermost is None:
            self._save()

    def _save(self) -> None:
        self._due = False
        self._keeper.save(None)
        self._saved = time.monotonic()

    def _is_due(self, seen: int, now: int) -> bool:
        due = self._due or (self._every is not None and now // self._every > seen // self._every)
        if self._seconds is not None and now >= self._look:
            late, self._look = self._collectives.broadcast(self._clock(now, self._seconds))
            due = due or late
        return due

    def _clock(self, now: int, seconds: float) -> tuple[bool, int]:
        """Whether it is time, and the step to look again, by the clock of this process."""
        steps, moment = self._looked
        here = time.monotonic()
        self._looked = now, here
        pace = (here - moment) / max(1, now - steps)
        left = seconds - (here - self._saved)
        late = left <= 0
        wait = (seconds if late else left) * _AHEAD / pace if pace > 0 else _MOST
        return late, now + max(1, min(_MOST, int(wait)))


class Epochs:
    """The epochs of a training that are left, by number. After each of them `after` is called."""

    def __init__(self, numbers: range, after: Callable[[], None]) -> None:
        self._numbers = numbers
        self._after = after

    def __iter__(self) -> Iterator[int]:
        for number in self._numbers:
            yield number
            self._after()

    def __len__(self) -> int:
        return len(self._numbers)
