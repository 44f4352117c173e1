"""Which batch the code is working on right now: the live iterators of prepared loaders."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Position:
    """Where one iteration over a prepared loader is.

    `size` is the number of samples of the batch in hand and `real` how many of them, from the front, belong to it and
    are not fill; None where the loader cannot know the samples of a batch (then all are real). `remaining` counts the
    batches of this process that are left, the one in hand included; None where the data does not say. `last` is True
    for the last batch. `uniform` says that all processes have batches of one size in every step. `rows` is what the
    batch counts in a mean over samples: its size, fill included, since that is what its loss is the mean over, or 0
    where it is only there to keep the process in step; `mean` is what batches of this step count on average over the
    processes. Both are 1 where sizes are not known.
    """

    size: int | None = None
    real: int | None = None
    remaining: int | None = None
    last: bool = False
    uniform: bool = True
    rows: float = 1.0
    mean: float = 1.0


class LiveBatches:
    """The live iterations, the one that handed out a batch last on top."""

    def __init__(self) -> None:
        self._stack: list[Position] = []

    @property
    def innermost(self) -> Position | None:
        """The iteration whose batch is being worked on, or None outside of all loops."""
        return self._stack[-1] if self._stack else None

    def touch(self, position: Position) -> None:
        """Puts an iteration that hands out a batch on top."""
        stack = self._stack
        if stack and stack[-1] is position:
            return
        self.drop(position)
        stack.append(position)

    def drop(self, position: Position) -> None:
        """Forgets an iteration that ended."""
        self._stack[:] = [other for other in self._stack if other is not position]
