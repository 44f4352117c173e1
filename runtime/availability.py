"""Whether something that scripts ask for is there."""

from __future__ import annotations

from importlib.util import find_spec

import torch


def is_cuda_available() -> bool:
    """Whether torch finds a GPU."""
    return torch.cuda.is_available()


def is_xpu_available() -> bool:
    """Whether torch finds an Intel GPU."""
    return hasattr(torch, "xpu") and torch.xpu.is_available()


def is_npu_available() -> bool:
    """Whether torch_npu is installed and finds a device."""
    if find_spec("torch_npu") is None:
        return False
    import torch_npu  # noqa: F401, PLC0415 # pyright: ignore[reportMissingImports] - it adds torch.npu

    return torch.npu.is_available()  # pyright: ignore[reportAttributeAccessIssue]


def is_torch_xla_available() -> bool:
    """Whether torch_xla is installed."""
    return find_spec("torch_xla") is not None


def is_schedulefree_available() -> bool:
    """Whether the package schedulefree is installed."""
    return find_spec("schedulefree") is not None
