"""How DistributedDataParallel sends gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from .plugins import DDPCommunicationHookType as Hook
from .plugins import DistributedDataParallelKwargs

_HOOKED = "_jobc_communication"


def sender(options: DistributedDataParallelKwargs) -> Callable[[nn.Module], None]:
    """What is done to a model that was just wrapped, so that its gradients are sent as the options say."""
    if (options.comm_hook, options.comm_wrapper) == (Hook.NO, Hook.NO):
        return lambda _model: None

    def register(model: nn.Module) -> None:
        if isinstance(model, DistributedDataParallel) and not hasattr(model, _HOOKED):
            state, hook = _hook(options)
            model.register_comm_hook(state=state, hook=hook)
            setattr(model, _HOOKED, True)

    return register


def _hook(options: DistributedDataParallelKwargs) -> tuple[Any, Callable[..., Any]]:
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
    state: Any = None
    if options.comm_hook in (Hook.POWER_SGD, Hook.BATCHED_POWER_SGD):
        state = power.PowerSGDState(process_group=None, **options.comm_state_option)
    return state, wrappers[Hook(options.comm_wrapper)](hooks[Hook(options.comm_hook)])
