"""Prepared optimizers: they step when a window of batches is complete and, in fp16, when its gradients are finite."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer

from ..spec.findings import finding
from .live import Tally
from .places import caller_place
from .precision import LossScale
from .progress import Progress


class WindowHints:
    """Says once that the job accumulates gradients while the script does not, or does one half of it.

    It is called before steps that no batch of a window, or no divided loss, came before. A script that counts batches
    itself is left alone.
    """

    def __init__(self, progress: Progress, *, aloud: bool) -> None:
        self._progress = progress
        self._aloud = aloud

    def __call__(self, optimizer: Optimizer) -> None:
        if self._progress.batches:
            self._undivided(optimizer)
        else:
            self._unused()
            self._aloud = False

    def _unused(self) -> None:
        steps, passes = self._progress.steps, self._progress.outside
        if self._aloud and passes < steps > 1:
            cause = (
                f"gradients are to be accumulated over {steps} batches, and the optimizer steps after {passes} without"
                " `accumulate`, each of which counts as one of the batches"
            )
            step = (
                "put the batch into `with accelerator.accumulate(model):`, or set `training.gradient_accumulation: 1`"
            )
            print(finding("J512", cause, next_step=step).render(), file=sys.stderr)

    def _undivided(self, optimizer: Optimizer) -> None:
        parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
        if self._aloud and self._progress.window > 1 and any(item.grad is not None for item in parameters):
            self._aloud = False
            cause = (
                f"the gradients of {self._progress.window} batches are added up and not averaged:"
                " `accelerator.backward` was called for none of them"
            )
            step = "write `accelerator.backward(loss)` in place of `loss.backward()`; it divides the loss"
            print(finding("J518", cause, place=caller_place(), next_step=step).render(), file=sys.stderr)


class PreparedOptimizer(Optimizer):
    """The user's optimizer behind a face that decides when it steps.

    It is an Optimizer for everyone who asks, so that torch's schedulers can be made from it. All state is the inner
    optimizer's; `Optimizer.__init__` is not called, for there is nothing of its own to set up. Each step that is taken
    is counted in `tally`. `waits` says whether it steps only where a window of batches closes.
    """

    waits = False
    step_was_skipped = False

    def __init__(self, optimizer: Optimizer, tally: Tally) -> None:
        self.optimizer = optimizer
        self._tally = tally

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        loss = self.optimizer.step(closure) if closure is not None else self.optimizer.step()
        self._tally.steps += 1
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:  # noqa: FBT001, FBT002 - torch's signature
        self.optimizer.zero_grad(set_to_none)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self.optimizer.param_groups

    @param_groups.setter
    def param_groups(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, groups: list[dict[str, Any]]
    ) -> None:
        self.optimizer.param_groups = groups

    @property
    def state(self) -> Any:
        return self.optimizer.state

    @state.setter
    def state(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, state: Any
    ) -> None:
        self.optimizer.state = state

    def state_dict(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state_dict)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        self.optimizer.add_param_group(param_group)

    def __getattr__(self, name: str) -> Any:
        if name == "optimizer":  # an object that is being copied or unpickled and has nothing yet
            raise AttributeError(name)
        return getattr(self.optimizer, name)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def __repr__(self) -> str:
        return repr(self.optimizer)


class WindowedOptimizer(PreparedOptimizer):
    """Steps and clears gradients only with the batch that closes an accumulation window."""

    waits = True

    def __init__(self, optimizer: Optimizer, tally: Tally, progress: Progress, hints: WindowHints) -> None:
        super().__init__(optimizer, tally)
        self._progress = progress
        self._hints = hints

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        if self._progress.sync:
            if not (self._progress.divided and self._progress.batches):
                self._hints(self.optimizer)
            loss = self.optimizer.step(closure) if closure is not None else self.optimizer.step()
            self._tally.steps += 1
            return loss
        return None

    def zero_grad(self, set_to_none: bool = True) -> None:  # noqa: FBT001, FBT002 - torch's signature
        if self._progress.sync:
            self.optimizer.zero_grad(set_to_none)


class ScaledOptimizer(WindowedOptimizer):
    """Also skips the step when gradients of a scaled loss overflowed; `step_was_skipped` says so."""

    def __init__(
        self, optimizer: Optimizer, tally: Tally, progress: Progress, hints: WindowHints, scale: LossScale
    ) -> None:
        super().__init__(optimizer, tally, progress, hints)
        self._scale = scale
        scale.watch(optimizer)

    def step(self, closure: Callable[[], Any] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        if self._progress.sync:
            if not self._progress.batches:
                self._hints(self.optimizer)
            options = {} if closure is None else {"closure": closure}
            self.step_was_skipped = not self._scale.step(self.optimizer, **options)
            self._tally.steps += not self.step_was_skipped


def prepared(
    optimizer: Optimizer, progress: Progress, scale: LossScale | None, hints: WindowHints, *, counts: bool
) -> PreparedOptimizer:
    """The face that this job needs, and no more: without windows and without a loss scale a step is only passed on.

    `hints` are asked at steps that no `accumulate` came before. With `counts` its steps are those of the training.
    """
    if isinstance(optimizer, PreparedOptimizer):  # prepared by another Accelerator, whose windows are not ours
        optimizer = optimizer.optimizer
    tally = progress.tally if counts else Tally()
    if scale is not None:
        return ScaledOptimizer(optimizer, tally, progress, hints, scale)
    if progress.steps > 1:
        return WindowedOptimizer(optimizer, tally, progress, hints)
    return PreparedOptimizer(optimizer, tally)
