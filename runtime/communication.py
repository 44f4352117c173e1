"""How DistributedDataParallel sends gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..spec.findings import FindingsError, finding
from ..spec.model import Ddp, Paradigm
from .places import caller_place
from .plugins import DDPCommunicationHookType as Hook
from .plugins import DistributedDataParallelKwargs

_HOOKED = "_jobc_communication"


def sender(options: DistributedDataParallelKwargs, paradigm: Paradigm | None) -> Callable[[nn.Module], None]:
    """What is done to a model that was just wrapped, so that its gradients are sent as the job and the options say.

    It raises a finding, J507, where torch cannot send them so: in bfloat16 without NCCL, or with other arguments.
    """
    asked = options.comm_hook != Hook.NO
    if isinstance(paradigm, Ddp) and paradigm.comm_hook != "none":
        options = replace(options, comm_hook=Hook(paradigm.comm_hook))
    if (options.comm_hook, options.comm_wrapper) == (Hook.NO, Hook.NO):
        return lambda _model: None

    def register(model: nn.Module) -> None:
        if isinstance(model, DistributedDataParallel) and not hasattr(model, _HOOKED):
            try:
                state, hook = _hook(options, asked=asked)
                model.register_comm_hook(state=state, hook=hook)
            except (TypeError, ValueError) as error:
                raise _refused(options, f"torch refuses: {error}", asked=asked) from error
            setattr(model, _HOOKED, True)

    return register


def _hook(options: DistributedDataParallelKwargs, *, asked: bool) -> tuple[Any, Callable[..., Any]]:
    from torch.distributed.algorithms.ddp_comm_hooks import (  # noqa: PLC0415 - few jobs need them
        default_hooks as plain,
    )
    from torch.distributed.algorithms.ddp_comm_hooks import (  # noqa: PLC0415
        powerSGD_hook as power,
    )

    hooks: dict[Hook, Callable[..., Any]] = {
        Hook.NO: plain.allreduce_hook,
        Hook.FP16: plain.fp16_compress_hook,
        Hook.BF16: plain.bf16_compress_hook,
        Hook.POWER_SGD: power.powerSGD_hook,
        Hook.BATCHED_POWER_SGD: power.batched_powerSGD_hook,
    }
    wrappers: dict[Hook, Callable[[Any], Callable[..., Any]]] = {
        Hook.NO: lambda hook: hook,
        Hook.FP16: plain.fp16_compress_wrapper,
        Hook.BF16: plain.bf16_compress_wrapper,
    }
    if options.comm_hook == Hook.BATCHED_POWER_SGD and not _batched_works(power):
        raise _refused(options, "in this version of torch it fails at the first step that it compresses", asked=asked)
    state: Any = None
    if options.comm_hook in (Hook.POWER_SGD, Hook.BATCHED_POWER_SGD):
        state = power.PowerSGDState(process_group=None, **options.comm_state_option)
    return state, wrappers[Hook(options.comm_wrapper)](hooks[Hook(options.comm_hook)])


def _batched_works(power: Any) -> bool:
    """Whether torch's batched hook takes what it makes itself; 2.13's does not, and fails after many steps."""
    try:
        power._orthogonalize(torch.eye(2)[:, :1])  # noqa: SLF001 - the step that fails
    except AssertionError:
        return False
    return True


def _refused(options: DistributedDataParallelKwargs, cause: str, *, asked: bool) -> FindingsError:
    if not asked:
        step = "use `fp16` or `power_sgd`, which every backend can send, or leave it away"
        return FindingsError((finding("J510", f"`paradigm.comm_hook: {options.comm_hook}`: {cause}", next_step=step),))
    given = f"DistributedDataParallelKwargs(comm_hook={str(options.comm_hook)!r}"
    given += f", comm_wrapper={str(options.comm_wrapper)!r})" if options.comm_wrapper != Hook.NO else ")"
    step = "use `fp16` or `power_sgd`, which every backend can send, or leave it away; see `comm_state_option` too"
    place = caller_place()
    return FindingsError((finding("J507", f"kwargs_handlers: `{given}`: {cause}", place=place, next_step=step),))
