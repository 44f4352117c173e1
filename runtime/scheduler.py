"""Prepared learning-rate schedulers: they keep pace with the optimizer steps that take place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from ..spec.findings import finding
from .optimizer import PreparedOptimizer, ScaledOptimizer
from .progress import Progress


class PreparedScheduler:
    """The user's scheduler behind a face that decides how often it steps.

    A call moves the schedule `stride` times, unless the batch in hand did not close an accumulation window or an
    optimizer of the schedule skipped its step. A schedule that reacts to a metric moves once for each metric.
    """

    def __init__(
        self, scheduler: LRScheduler, optimizers: Sequence[PreparedOptimizer], progress: Progress, stride: int
    ) -> None:
        self.scheduler = scheduler
        self._optimizers = tuple(item for item in optimizers if isinstance(item, ScaledOptimizer))
        self._progress = progress
        self.stride = 1 if isinstance(scheduler, ReduceLROnPlateau) else stride
        if self.stride == 1 and progress.steps == 1 and not self._optimizers:
            self.step = scheduler.step  # nothing to decide

    def step(self, *args: Any, **kwargs: Any) -> None:
        if not self._progress.sync or (self._optimizers and any(item.step_was_skipped for item in self._optimizers)):
            return
        inner = self.scheduler
        # Where one call moves several steps, a schedule of known length may end between calls. It stays at its last
        # value then; torch would refuse to go on.
        length = getattr(inner, "total_steps", None) if self.stride > 1 else None
        for _ in range(self.stride):
            if length is None or inner.last_epoch + 1 < length:
                inner.step(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name == "scheduler":  # an object that is being copied or unpickled and has nothing yet
            raise AttributeError(name)
        return getattr(self.scheduler, name)

    def __repr__(self) -> str:
        return f"PreparedScheduler({self.scheduler!r})"


class FreeScheduler(PreparedScheduler):
    """A scheduler that steps with every call, for code that keeps the pace itself."""

    def __init__(self, scheduler: LRScheduler) -> None:
        self.scheduler = scheduler
        self.step = scheduler.step


def hint_of_pace(processes: int) -> str:
    """What a person should know whose schedule moves once for every process, as text."""
    cause = f"prepared schedulers move {processes} steps with each optimizer step, one for every process"
    step = (
        "set `training.scheduler.step: optimizer_step` for one step with each optimizer step,"
        " or `per_process` to keep this and hide the hint"
    )
    return finding("J307", cause, next_step=step).render()
