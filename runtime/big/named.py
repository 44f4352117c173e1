"""The tensors of a module by their names, and putting others in their places."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

from torch import Tensor, nn


def owner_of(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module that holds a tensor itself, and the tensor's name there."""
    path, _, last = name.rpartition(".")
    return model.get_submodule(path), last


def tensor_of(model: nn.Module, name: str) -> Any:
    """The parameter or buffer of a name; None where there is none."""
    owner, last = owner_of(model, name)
    return getattr(owner, last, None)


def put(model: nn.Module, name: str, value: Tensor | None) -> None:
    """Gives a name another tensor."""
    owner, last = owner_of(model, name)
    setattr(owner, last, value)  # through the module, since some kinds keep lists of their own parameters


def all_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every name of a parameter or buffer, also those that share one tensor."""
    return chain(model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False))


def stored_names(model: nn.Module) -> set[str]:
    """The names that are in the model's state; buffers may be left out of it."""
    left_out = {
        f"{path}.{name}" if path else name
        for path, module in model.named_modules(remove_duplicate=False)
        for name in module._non_persistent_buffers_set  # noqa: SLF001 - torch has no public way to it
    }
    return {name for name, _ in all_tensors(model)} - left_out
