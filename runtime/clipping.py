"""Gradients that the job clips by itself, whenever an optimizer steps."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer

from ..spec.findings import FindingsError, finding
from ..spec.training import GradientClipping
from .places import caller_place
from .precision import LossScale
from .strategies.base import Strategy

_HANDLE = "_jobc_clipping"
_L2 = 2.0


def clip_at_steps(
    optimizer: Optimizer, clipping: GradientClipping, strategy: Strategy, scale: LossScale | None
) -> None:
    """Makes each step of an optimizer clip the gradients of its parameters first, as the job says.

    A step is one that changes parameters: with the last batch of a window, and not where fp16 overflowed.
    """
    former = vars(optimizer).pop(_HANDLE, None)
    if former is not None:  # of another Accelerator
        former.remove()
    if clipping.norm is None and clipping.value is None:
        return

    if scale is not None:
        scale.unscales_first = True

    def clip(stepping: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if any(item is not None for item in (*args[1:], *kwargs.values())):
            raise FindingsError((_closure(),))
        parameters = [parameter for group in stepping.param_groups for parameter in group["params"]]
        if clipping.value is not None:
            strategy.clip_value(parameters, clipping.value)
        if clipping.norm is not None:
            strategy.clip_norm(parameters, clipping.norm, _L2)

    setattr(optimizer, _HANDLE, optimizer.register_step_pre_hook(clip))


def _closure() -> Any:
    cause = "`training.gradient_clipping` clips gradients before a step, and a closure makes them within it"
    step = "clip within the closure with `accelerator.clip_grad_norm_`, and leave the setting out of the job"
    return finding("J507", cause, place=caller_place(), next_step=step)
