"""Where the training stands: the single truth about steps, micro-steps, windows and synchronisation."""

from __future__ import annotations

from typing import Any

from .live import LiveBatches, Position


class Progress:
    """The accumulation window.

    A window is the batches whose gradients make one optimizer step: `steps` of them, fewer at the end of the data.
    `micro` counts the batches of the window so far, `window` is its length, `sync` says whether the batch in hand
    closes it, and `divisor` is what the loss is divided by. Unless it `follows_data`, windows go on over its end.

    With `weighs` a window is the mean over the samples of its batches in all processes: while it is open, batches are
    taken to be as large as those of its first step were on average; the last one sets it right. Else, and where sizes
    are not known, all batches count the same. `inside` says whether a micro-step is under way; `batches` and `windows`
    count those begun, and `outside` the backward passes before the first of them. `divided` says whether a loss of this
    window was divided, as `accelerator.backward` does.

    `tally` counts epochs that are over, optimizer steps, and their samples; it is that of the data's iterations.
    """

    __slots__ = (
        "_follows_data",
        "_live",
        "_planned",
        "_total",
        "batches",
        "divided",
        "divisor",
        "inside",
        "micro",
        "outside",
        "steps",
        "sync",
        "tally",
        "weighs",
        "window",
        "windows",
    )

    def __init__(
        self, steps: int, *, follows_data: bool = True, weighs: bool = True, live: LiveBatches | None = None
    ) -> None:
        self._live = live or LiveBatches()
        self.tally = self._live.tally
        self._follows_data = follows_data
        self.weighs = weighs
        self.steps = steps
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forgets the window and all counts of it: what comes next is another training."""
        self.inside = self.divided = False
        self.batches = self.windows = self.outside = 0
        self._planned = self._total = 0.0
        self.window = self.divisor = self.steps
        self.micro = 0
        self.sync = True

    def set_steps(self, steps: int) -> None:
        """Makes windows that begin from now on be of so many batches."""
        self.steps = steps
        if not self.inside:
            self.divisor = steps

    def advance(self, position: Position | None) -> float:
        """Begins the next micro-step; returns the factor by which gradients of earlier ones have to be multiplied.

        The factor is 1 unless the window turns out to be another one than was planned: the data ended early, or batches
        were not all of one size.
        """
        rows, mean = (position.rows, position.mean) if position is not None and self.weighs else (1.0, 1.0)
        if not self._follows_data:
            position = None
        if self.sync:
            left = None if position is None else position.remaining
            if left is not None and position is not None and left > position.extra:
                left -= position.extra  # a window is one that all processes can fill
            self.micro, self._total, self.divided = 0, 0.0, False
            self.window = self.steps if left is None else max(1, min(self.steps, left))
            self._planned = self.window * mean
            self.windows += 1
        self.inside = True
        self.batches += 1
        self.micro += 1
        self._total += mean
        if position is not None and position.closes and self.micro < self.window:
            self.window = self.micro
        self.sync = self.micro >= self.window
        whole = self._total if self.sync else self._planned
        self.divisor = whole / rows if rows else float("inf")
        return self._planned / whole

    def leave(self) -> None:
        """Ends the micro-step: outside of `accumulate` a loss is divided by the number of steps that was asked for."""
        self.inside = False
        self.divisor = self.steps

    @property
    def epoch(self) -> int:
        """Epochs of training data that are over."""
        return self.tally.epochs

    @property
    def step(self) -> int:
        """Optimizer steps that were taken."""
        return self.tally.steps

    @property
    def samples(self) -> int:
        """Samples of training data that all processes had, those of the batch in hand included."""
        return self._live.samples

    def state_dict(self) -> dict[str, Any]:
        """Everything that is known, as plain data, the same in all processes.

        The samples are those of epochs that are over; loaders know how many they handed out since.
        """
        tally = {"epochs": self.tally.epochs, "steps": self.tally.steps, "samples": self.tally.samples}
        return tally | {"window": {name.removeprefix("_"): getattr(self, name) for name in _WINDOW}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where a state was taken, in the middle of a window too; load it before those of the loaders."""
        for name in ("epochs", "steps", "samples"):
            setattr(self.tally, name, state[name])
        for name in _WINDOW:
            setattr(self, name, state["window"][name.removeprefix("_")])
        self.leave()


#: What is known of the open window, or of the last one if none is open.
_WINDOW = ("batches", "windows", "outside", "micro", "window", "sync", "_planned", "_total")
