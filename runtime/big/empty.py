"""Models made without memory, or on a device from the start."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.nn.parameter import is_lazy


@contextmanager
def init_empty_weights(include_buffers: bool | None = None) -> Iterator[None]:  # noqa: FBT001 - scripts' signature
    """Within it, modules are made with parameters on the meta device, which have shapes and no memory.

    `load_checkpoint_and_dispatch` and `load_checkpoint_in_model` give them their values.

    Args:
        include_buffers: Buffers are on the meta device too. Those that no checkpoint has cannot be filled then.
    """
    with init_on_device(torch.device("meta"), include_buffers):
        yield


@contextmanager
def init_on_device(
    device: torch.device | str | int,
    include_buffers: bool | None = None,  # noqa: FBT001 - the signature that scripts have
) -> Iterator[None]:
    """Within it, modules are made with parameters on a device.

    Args:
        device: Where parameters go as modules take them.
        include_buffers: Buffers, and every tensor that is made without a device, are there too.
    """
    target = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    here = threading.get_ident()

    def place(_module: nn.Module, _name: str, tensor: Any) -> Any:
        # torch calls it for modules that any thread makes. A tensor that is there stays itself, so that ties hold.
        if tensor is None or threading.get_ident() != here or is_lazy(tensor) or _is_on(tensor, target):
            return None
        if not isinstance(tensor, nn.Parameter):
            return tensor.to(target)
        moved: Any = torch.Tensor._make_subclass(type(tensor), tensor.detach().to(target), tensor.requires_grad)  # noqa: SLF001
        vars(moved).update(vars(tensor))
        return moved

    with ExitStack() as stack:
        stack.callback(register_module_parameter_registration_hook(place).remove)
        if include_buffers:
            stack.callback(register_module_buffer_registration_hook(place).remove)
            stack.enter_context(target)
        yield


def _is_on(tensor: Tensor, device: torch.device) -> bool:
    return tensor.device.type == device.type and device.index in (None, tensor.device.index)
