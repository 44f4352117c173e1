"""Blocks whose activations are not kept for the backward pass, which computes them again: less memory, more time."""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import save_on_cpu
from torch.utils.checkpoint import checkpoint

from ..spec.findings import FindingsError, finding
from .blocks import candidates, repeated

_ORIGINAL = "_jobc_kept_forward"
_OFFLOADED = "_jobc_offloaded_from"


def recompute_blocks(model: nn.Module, *, offload_from: str | None = None) -> None:
    """Makes the repeated blocks of a model compute their activations again in the backward pass. Names stay.

    Args:
        model: has a list of two or more blocks that are alike.
        offload_from: the type of device, `cuda`, whose memory does not keep what the blocks begin with: it is copied
            to pinned memory and back, for `cpu` to memory. None keeps it there.

    Raises:
        FindingsError: J508, the model has no repeated blocks.
    """
    blocks = repeated(model)
    if not blocks:
        cause = (
            "`training.activation_checkpointing` is about repeated blocks, and the"
            f" {type(model).__name__} has no list of two or more that are alike"
        )
        step = f"leave it away, or put its layers into a ModuleList; the model has {', '.join(candidates(model))}"
        raise FindingsError((finding("J508", cause, next_step=step),))
    for block in blocks:
        if _ORIGINAL not in vars(block):  # or another Accelerator has done it
            setattr(block, _ORIGINAL, getattr(block.forward, "__func__", block.forward))
            setattr(block, _OFFLOADED, "cuda" if offload_from == "cpu" else offload_from)  # torch pins for no processor
            block.forward = MethodType(_forward, block)


def _forward(block: nn.Module, *args: Any, **kwargs: Any) -> Any:
    forward, device = getattr(block, _ORIGINAL), getattr(block, _OFFLOADED)
    if not torch.is_grad_enabled():
        return forward(block, *args, **kwargs)
    if device is None:
        return checkpoint(forward, block, *args, use_reentrant=False, **kwargs)
    # What it keeps is the inputs alone: within it torch saves nothing that these hooks could see.
    with save_on_cpu(pin_memory=True, device_type=device):
        return checkpoint(forward, block, *args, use_reentrant=False, **kwargs)
