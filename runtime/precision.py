"""Number formats: autocast around forward passes, and the scaled loss of fp16."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..spec.model import Bf16, Fp16, FullPrecision
from ..spec.model import Precision as Kind
from .nested import map_tensors
from .plugins import AutocastKwargs

_TYPES: dict[type, torch.dtype | None] = {FullPrecision: None, Bf16: torch.bfloat16, Fp16: torch.float16}
_HALVES = (torch.float16, torch.bfloat16)
_ORIGINAL = "_jobc_original_forward"
_REPLACED = "_jobc_replaced_function"


class Precision:
    """The precision of one job. `scale` is the loss scale where the format needs one, `half` its type if it has one."""

    def __init__(self, kind: Kind, device: torch.device, autocast: AutocastKwargs | None = None) -> None:
        self.half = self._type = _TYPES[type(kind)]
        #: The format in which a strategy that computes in `half` adds up gradients.
        self.reduce = self.half if getattr(kind, "reduce", "fp32") != "fp32" else torch.float32
        self._device = device
        self._autocast = autocast or AutocastKwargs()
        self.scale = LossScale(kind, device) if isinstance(kind, Fp16) else None

    def autocast(self, options: AutocastKwargs | None = None) -> AbstractContextManager[object]:
        """The context in which operations run in the job's number format."""
        if self._type is None:
            return nullcontext()
        chosen = options or self._autocast
        return torch.autocast(self._device.type, self._type, enabled=chosen.enabled, cache_enabled=chosen.cache_enabled)

    def wrap_forward(self, model: nn.Module) -> None:
        """Makes the model's forward pass run under autocast and give float32 where it would give half precision.

        The module stays itself, its parameters and attributes where they were. Preparing it once more, here or by
        another Accelerator, starts from its own forward.
        """
        unwrap_forward(model)
        if self._type is None:
            return
        forward = model.forward
        # A plain function in the place of the method is what torch.compile puts there.
        function = getattr(forward, "__func__", None) or _as_method(forward)
        # A bound method, not a closure over the module: a deep copy then runs its own parameters, not the original's.
        model.forward = MethodType(self._wrapped(function), model)

    def _wrapped(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        autocast = self.autocast

        @wraps(forward)
        def forward_in_precision(*args: Any, **kwargs: Any) -> Any:
            with autocast():
                output = forward(*args, **kwargs)
            return map_tensors(_single, output)

        setattr(forward_in_precision, _ORIGINAL, forward)
        return forward_in_precision


class LossScale:
    """The scaled loss of fp16: gradients that overflow skip the step and shrink the scale.

    Gradients are averaged over the processes before anyone looks at them, so an overflow in one process is seen, and
    the step skipped, in all. The scale is adjusted before the next backward pass rather than after a step: where
    several optimizers step on gradients of one pass, all of them are unscaled by the number that scaled the pass.
    """

    def __init__(self, kind: Fp16, device: torch.device) -> None:
        self._scaler = torch.amp.GradScaler(
            device.type,
            init_scale=kind.initial_scale,
            growth_factor=kind.growth_factor,
            backoff_factor=kind.backoff_factor,
            growth_interval=kind.growth_interval,
        )
        #: Whether gradients have their true size when the optimizer itself is called, which a fused one can do without.
        self.unscales_first = False
        self._unscaled: set[int] = set()
        self._stepped: set[int] = set()
        self._completed = False
        self._watched = 0

    def watch(self, optimizer: Optimizer) -> None:
        """Learns from now on whether a step of the optimizer took place."""
        optimizer.register_step_post_hook(self._note)
        self._watched += 1

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss to compute gradients of."""
        if self._stepped:
            self._adjust()
        return self._scaler.scale(loss)

    def unscale(self, optimizer: Optimizer) -> None:
        """Brings the optimizer's gradients back to their true size, once before each step."""
        if id(optimizer) in self._stepped:
            self._adjust()
        if id(optimizer) not in self._unscaled:
            self._check()
            self._scaler.unscale_(optimizer)
            self._unscaled.add(id(optimizer))

    def step(self, optimizer: Optimizer, **kwargs: Any) -> bool:
        """Steps the optimizer unless its gradients overflowed; whether it did."""
        if id(optimizer) in self._stepped:
            self._adjust()
        self._completed = False
        self._check()
        if self.unscales_first:
            self.unscale(optimizer)
        self._scaler.step(optimizer, **kwargs)
        self._stepped.add(id(optimizer))
        return self._completed

    def state_dict(self) -> dict[str, Any]:
        """The scale after everything that was seen so far."""
        # Not while another optimizer is still to step on gradients of the last pass.
        if self._stepped and len(self._stepped) == self._watched:
            self._adjust()
        return self._scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a state."""
        self._scaler.load_state_dict(state)

    def _check(self) -> None:
        if self._scaler._scale is None:  # noqa: SLF001 - torch's own assertion speaks of its scaler
            raise RuntimeError(
                "gradients are to be used in fp16, and no loss was given to `accelerator.backward` before; write"
                " `accelerator.backward(loss)` in place of `loss.backward()`"
            )

    def _adjust(self) -> None:
        self._scaler.update()
        self._unscaled.clear()
        self._stepped.clear()

    def _note(self, optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
        # A fused optimizer is always called and looks at the overflow itself.
        overflow = getattr(optimizer, "found_inf", None)
        self._completed = overflow is None or not bool(overflow)


def _single(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in _HALVES else tensor


def unwrap_forward(model: nn.Module) -> None:
    """Gives a module its own forward pass back, without autocast."""
    original = getattr(getattr(model.forward, "__func__", None), _ORIGINAL, None)
    if original is None:
        return
    del model.forward
    replaced = getattr(original, _REPLACED, None)
    if replaced is not None:
        model.forward = replaced


def _as_method(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def method(_self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    setattr(method, _REPLACED, function)
    return method
