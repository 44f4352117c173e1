"""Nested state taken apart: large tensors by name, and plain data that is read back without running code from it."""

from __future__ import annotations

import sys
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ...spec.findings import FindingsError, finding

_SMALL = 16  # elements; a tensor up to this size stays with the plain data
_TENSOR, _ARRAY, _NUMBER = "jobc.tensor", "jobc.array", "jobc.number"
_PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.Size, torch.dtype, torch.device)


def take_apart(value: Any, name: str, large: dict[str, Tensor] | None) -> Any:
    """Plain data from which `put_together` makes the value again.

    Large tensors, and those that are cut, go into `large` under names that begin with `name`, as they are; others are
    copied. Without `large` all are copied.

    Raises:
        FindingsError: J528, something in it could not be read back without running code from the file.
    """
    if isinstance(value, Tensor):
        return _tensor(value, name, large)
    if type(value) in _PLAIN:
        return value
    if type(value) in (dict, OrderedDict, Counter):
        return type(value)({key: take_apart(item, f"{name}.{key}", large) for key, item in _keyed(value, name)})
    if type(value) in (list, tuple, set, frozenset):
        items = [take_apart(item, f"{name}.{index}", large) for index, item in enumerate(value)]
        return items if type(value) is list else type(value)(items)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray | numpy.generic) and value.dtype.kind in "biufc":
        kind = _ARRAY if isinstance(value, numpy.ndarray) else _NUMBER
        return {kind: torch.from_numpy(numpy.array(value))}
    raise _refused(name, f"a {type(value).__module__}.{type(value).__qualname__}".replace("builtins.", ""))


def put_together(value: Any, large: Callable[[str], Tensor]) -> Any:
    """What `take_apart` took apart; `large` gives tensors by their names."""
    if type(value) is dict and len(value) == 1:
        ((key, item),) = value.items()
        if key == _TENSOR:
            return large(item)
        if key in (_ARRAY, _NUMBER) and isinstance(item, Tensor):
            return item.numpy() if key == _ARRAY else item.numpy()[()]
    if type(value) in (dict, OrderedDict, Counter):
        return type(value)({key: put_together(item, large) for key, item in value.items()})
    if type(value) in (list, tuple, set, frozenset):
        return type(value)([put_together(item, large) for item in value])
    return value


def large_names(value: Any) -> list[str]:
    """The names of the large tensors of something that was taken apart."""
    found: list[str] = []
    put_together(value, lambda name: found.append(name) or torch.empty(0))
    return found


def _tensor(value: Tensor, name: str, large: dict[str, Tensor] | None) -> Any:
    cut = hasattr(value, "device_mesh")
    if value.layout is not torch.strided or value.is_quantized:
        raise _refused(name, f"a tensor of layout {value.layout}")
    if large is None or (not cut and value.numel() <= _SMALL):
        return value.detach().to("cpu", copy=True)
    free, number = name, 1
    while free in large:  # `a.b` may be one key or two
        number += 1
        free = f"{name}~{number}"
    large[free] = value.detach()
    return {_TENSOR: free}


def _keyed(value: Mapping[Any, Any], name: str) -> list[tuple[Any, Any]]:
    for key in value:
        if type(key) not in _PLAIN and not (type(key) is tuple and all(type(item) in _PLAIN for item in key)):
            raise _refused(name, f"a key that is a {type(key).__qualname__}")
    return list(value.items())


def _refused(name: str, what: str) -> FindingsError:
    cause = f"`{name}` is {what}, which could not be read back without running code from the file"
    step = "let its `state_dict` hold tensors, NumPy arrays, numbers, texts, and lists and dictionaries of them"
    return FindingsError((finding("J528", cause, next_step=step),))
