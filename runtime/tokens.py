"""The mean over tokens: losses weighed by the tokens that a script counts, over all batches of a window everywhere."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..spec.findings import FindingsError, finding
from .collectives import Collectives
from .places import caller_place
from .progress import Progress
from .world import World

_COUNTS = ("_batch", "_window", "_count", "_total", "_weight", "_unit", "_planned")


class Tokens:
    """The weights of losses, each the mean over a number of tokens, in the mean over the tokens of their window.

    How many tokens a window has is known with its last batch, when the processes add theirs up. Until then it is
    planned to have as many as the one before it, so that gradients keep their usual size; the last batch sets it right.
    """

    def __init__(self, progress: Progress, collectives: Collectives, world: World) -> None:
        self._progress = progress
        self._collectives = collectives
        self._world = world
        self._batch = self._window = self._count = self._total = 0
        self._weight = self._unit = self._planned = 0.0

    def state_dict(self) -> dict[str, Any]:
        """What has been counted so far, as plain data."""
        return {name: getattr(self, name) for name in _COUNTS}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what was counted."""
        for name in _COUNTS:
            setattr(self, name, state[name])

    def weigh(self, tokens: int | Tensor) -> tuple[float, float]:
        """The weight of a loss over so many tokens, and the factor by which gradients so far have to be multiplied.

        Raises:
            FindingsError: J507, two losses of one batch differ in tokens, or a window is not told by `accumulate`.
        """
        count, progress = int(tokens), self._progress
        if not progress.inside:
            if progress.steps > 1:
                raise _refused("the tokens of a window are counted within `accumulate`", "put the batch into it")
            return count / self._mean(count), 1.0
        if progress.batches == self._batch:
            if count != self._count:
                cause = f"{count} after {self._count} for the same batch"
                raise _refused(cause, "give every loss of a batch the same number")
            return self._weight, 1.0
        self._batch, self._count = progress.batches, count
        if progress.windows != self._window:
            self._window, self._total = progress.windows, 0
            self._planned = progress.window * (self._unit or self._mean(count))
        self._total += count
        whole = self._mean(self._total) if progress.sync else self._planned
        if progress.sync:
            self._unit = whole / progress.window
        self._weight = count / whole
        return self._weight, self._planned / whole

    def _mean(self, count: int) -> float:
        """The average over the processes, and 1 where there are no tokens at all."""
        number = torch.tensor(count, dtype=torch.int64, device=self._world.small_talk)
        return int(self._collectives.reduce(number)) / self._world.size or 1.0


def weighed(loss: Tensor, weight: float) -> Tensor:
    """The loss with its weight; one that is the mean over nothing weighs nothing."""
    return loss * weight if weight else loss.nan_to_num() * 0.0


def missing() -> FindingsError:
    """A loss whose number of tokens is not told."""
    return _refused("the mean is over tokens, and this loss does not say how many it has", "add `tokens=`")


def _refused(cause: str, step: str) -> FindingsError:
    found: Any = finding("J507", f"tokens: {cause}", place=caller_place("tokens"), next_step=step)
    return FindingsError((found,))
