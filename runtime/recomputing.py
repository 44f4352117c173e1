"""Blocks whose activations are not kept for the backward pass, which computes them again: less memory, more time."""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..spec.findings import FindingsError, finding
from .blocks import candidates, repeated

_ORIGINAL = "_jobc_kept_forward"


def recompute_blocks(model: nn.Module) -> None:
    """Makes the repeated blocks of a model compute their activations again in the backward pass. Names stay.

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
            block.forward = MethodType(_forward, block)


def _forward(block: nn.Module, *args: Any, **kwargs: Any) -> Any:
    forward = getattr(block, _ORIGINAL)
    if not torch.is_grad_enabled():
        return forward(block, *args, **kwargs)
    return checkpoint(forward, block, *args, use_reentrant=False, **kwargs)
