"""Which batch the code is working on right now: the live iterators of prepared loaders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class Position:
    """Where one iteration over a prepared loader is.

    `size` is the number of samples of the batch in hand and `real` how many of them, from the front, belong to it and
    are not fill; None where the loader cannot know the samples of a batch (then all are real). `full` is the size of
    batches that are not short, where the loader has one. `remaining` counts the batches of this process that are left,
    the one in hand included; None where the data does not say. `extra` are those of them that some other process does
    not have. `last` is True for the last batch, `closes` for the last that all processes have and those after it.
    `uniform` says that all processes have batches of one size in every step. `rows` is what the batch counts in a mean
    over samples: its size, fill included, since that is what its loss is the mean over, or 0 where it is only there to
    keep the process in step; `mean` is what batches of this step count on average over the processes. Both are 1 where
    sizes are not known.

    `begun` and `upto` are samples of the data's order, those of all processes: the iteration began after so many, and
    so many are handed out. `epoch` is the number of the iteration, `mark` is where a stream is. `leads` says that this
    is an outermost loop; `steps` is how many optimizer steps had been taken when its first batch was handed out. Of an
    iteration that goes on after it was restored, `had` is how many samples were had before, and `trained` whether an
    optimizer stepped.
    """

    size: int | None = None
    real: int | None = None
    full: int | None = None
    remaining: int | None = None
    extra: int = 0
    last: bool = False
    closes: bool = False
    uniform: bool = True
    rows: float = 1.0
    mean: float = 1.0
    begun: int = 0
    upto: int = 0
    epoch: int = 0
    mark: object = None
    leads: bool = False
    steps: int | None = None
    had: int = 0
    trained: bool = False

    @property
    def samples(self) -> int:
        """Samples that all processes had in this iteration."""
        return self.had + self.upto - self.begun


@dataclass(slots=True)
class Tally:
    """What was done since the training began: epochs of data that are over, optimizer steps, samples of all processes.

    An epoch counts when an optimizer stepped in it, in the outermost loop only. Steps are those that the optimizer
    that was prepared first has taken. The samples of an epoch are added when it is over.
    """

    epochs: int = 0
    steps: int = 0
    samples: int = 0


class LiveBatches:
    """The live iterations, the one that handed out a batch last on top.

    `between` is called by outermost loops, with nothing, after the body of each batch and before the next batch is
    asked for; also after the last one. Positions, states and progress are then those after that batch. None, as it is
    unless someone sets it, costs nothing.
    """

    def __init__(self) -> None:
        self._stack: list[Position] = []
        self.tally = Tally()
        self.between: Callable[[], None] | None = None

    @property
    def innermost(self) -> Position | None:
        """The iteration whose batch is being worked on, or None outside of all loops."""
        return self._stack[-1] if self._stack else None

    @property
    def samples(self) -> int:
        """Samples of training data that all processes have had so far."""
        return self.tally.samples + sum(item.samples for item in self._stack if self.trains(item))

    def trains(self, position: Position) -> bool:
        """Whether an iteration is an outermost loop in which an optimizer stepped."""
        stepped = position.steps is not None and position.steps < self.tally.steps
        return position.leads and (stepped or position.trained)

    def touch(self, position: Position) -> None:
        """Puts an iteration that hands out a batch on top."""
        stack = self._stack
        if stack and stack[-1] is position:
            return
        if position.steps is None:
            position.steps = self.tally.steps
            position.leads = position.leads or not stack
        else:
            stack[:] = [other for other in stack if other is not position]
        stack.append(position)

    def clear(self) -> None:
        """Forgets all iterations and what was counted: what comes next is another training."""
        self._stack.clear()
        self.tally.epochs = self.tally.steps = self.tally.samples = 0

    def drop(self, position: Position) -> None:
        """Forgets an iteration that ended."""
        if self.trains(position):
            self.tally.epochs += 1
            self.tally.samples += position.samples
        self._stack[:] = [other for other in self._stack if other is not position]
