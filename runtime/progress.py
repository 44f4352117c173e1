"""Where accumulation stands: the single truth about micro-steps, windows and synchronisation."""

from __future__ import annotations

from .live import Position


class Progress:
    """The accumulation window.

    A window is the batches whose gradients make one optimizer step: `steps` of them, fewer at the end of the data.
    `micro` counts the batches of the window so far, `window` is its length, `sync` says whether the batch in hand
    closes it, and `divisor` is what the loss is divided by. Unless it `follows_data`, windows go on over its end.
    """

    __slots__ = ("_follows_data", "divisor", "micro", "steps", "sync", "window")

    def __init__(self, steps: int, *, follows_data: bool = True) -> None:
        self._follows_data = follows_data
        self.steps = steps
        self.window = steps
        self.divisor = steps
        self.micro = 0
        self.sync = True

    def advance(self, position: Position | None) -> float:
        """Begins the next micro-step; returns the factor by which gradients of earlier ones have to be multiplied.

        The factor is 1 unless the data ended before its end was known: earlier losses of the window were then divided
        by more batches than there are.
        """
        if not self._follows_data:
            position = None
        if self.sync:
            self.micro = 0
            left = None if position is None else position.remaining
            self.window = self.steps if left is None else max(1, min(self.steps, left))
        self.micro += 1
        factor = 1.0
        if position is not None and position.last and self.micro < self.window:
            factor = self.window / self.micro
            self.window = self.micro
        self.sync = self.micro >= self.window
        self.divisor = self.window
        return factor

    def leave(self) -> None:
        """Ends the micro-step: outside of `accumulate` a loss is divided by the number of steps that was asked for."""
        self.divisor = self.steps
