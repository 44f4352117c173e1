"""Values inside any nesting of lists, tuples, named tuples, mappings and dataclasses."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor


def rebuild(value: Any, change: Callable[[Any], Any]) -> Any:
    """The same container with `change` applied to each of its items; a value that is no container is itself."""
    if isinstance(value, str | bytes | Tensor):
        return value
    if is_named_tuple(value):
        return type(value)(*[change(item) for item in value])
    if isinstance(value, list | tuple):
        return type(value)([change(item) for item in value])
    if isinstance(value, MutableMapping):
        # A copy keeps what a subclass knows beside its items (a default factory, an encoding).
        copied = copy.copy(value)
        for key, item in value.items():
            copied[key] = change(item)
        return copied
    if isinstance(value, Mapping):
        return type(value)({key: change(item) for key, item in value.items()})  # pyright: ignore[reportCallIssue]
    if is_dataclass(value) and not isinstance(value, type):
        copied = copy.copy(value)
        for field in fields(value):
            object.__setattr__(copied, field.name, change(getattr(value, field.name)))
        return copied
    return value


def is_named_tuple(value: object) -> bool:
    """Whether it is a tuple whose items have names; it is made anew with one argument an item."""
    return isinstance(value, tuple) and hasattr(value, "_fields")


def is_container(value: object) -> bool:
    """Whether it has items in which tensors may be."""
    if isinstance(value, list | tuple | Mapping):
        return True
    return is_dataclass(value) and not isinstance(value, type)


def map_tensors(change: Callable[[Tensor], Any], value: Any) -> Any:
    """The same nesting with every tensor replaced; everything else stays."""
    if isinstance(value, Tensor):
        return change(value)
    return rebuild(value, lambda item: map_tensors(change, item))


def tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor of a nesting, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors(item)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from tensors(getattr(value, field.name))


def move(value: Any, device: torch.device, *, non_blocking: bool) -> Any:
    """The same nesting on a device. What is no tensor but has a method `to` moves itself."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=non_blocking)
    if callable(getattr(value, "to", None)):
        return value.to(device)
    return rebuild(value, lambda item: move(item, device, non_blocking=non_blocking))
