"""Hooks by which inputs go to where a module is, and offloaded weights to where it computes."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from ...spec.findings import FindingsError, finding
from ..nested import tensors
from ..operations import send_to_device
from ..places import caller_place
from .named import put, tensor_of

_SPREAD = "_jobc_spread"
#: Modules of torch that use weights of inner ones without calling these.
_WHOLE = (nn.MultiheadAttention,)


@dataclass
class Spread:
    """How a model is spread: what is kept away from it, by name, and where it computes with that."""

    main: torch.device
    kept: dict[str, Tensor]
    skip: list[str]
    whole: Collection[str]
    handles: list[Any] = field(default_factory=list[Any])

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Values that are kept are never changed, so that copies of a model share them."""
        memo[id(self)] = copied = replace(self, handles=copy.deepcopy(self.handles, memo))
        return copied


def spread(model: nn.Module, how: Spread) -> None:
    """Makes a model whose tensors are where they belong work as one."""
    setattr(model, _SPREAD, how)
    note = how.handles.append
    owned: dict[str, list[str]] = {}
    for name in how.kept:
        owned.setdefault(name.rpartition(".")[0], []).append(name)
    for path, module in model.named_modules():
        start = f"{path}." if path else ""
        names = owned.pop(path, [])
        if type(module).__name__ in how.whole or isinstance(module, _WHOLE):
            inner = [other for other in owned if other.startswith(start)]
            names += [name for other in inner for name in owned.pop(other)]
        if path and (names or any(True for _ in _own(module))):
            note(module.register_forward_pre_hook(_Inputs(how.main if names else None, how.skip), with_kwargs=True))
        if names:
            visit = _Visit(how.main, {name[len(start) :]: how.kept[name] for name in names})
            note(module.register_forward_pre_hook(visit.begin))
            note(module.register_forward_hook(visit.end, always_call=True))
            note(module._register_state_dict_hook(visit.fill))  # noqa: SLF001 - the public one came with torch 2.5
            note(module.register_load_state_dict_pre_hook(visit.refuse))
    outside = _Outside(how.main, how.skip)
    note(model.register_forward_pre_hook(outside.begin, with_kwargs=True, prepend=True))
    note(model.register_forward_hook(outside.end, always_call=True))


def gathered(model: nn.Module) -> nn.Module:
    """The model without hooks, with everything that was kept away from it in memory, or mapped there."""
    how = spread_of(model)
    if how is None:
        return model
    for handle in how.handles:
        handle.remove()
    delattr(model, _SPREAD)
    back: dict[int, Tensor] = {}
    for name, value in how.kept.items():
        empty = tensor_of(model, name)
        fresh = nn.Parameter(value, requires_grad=False) if isinstance(empty, nn.Parameter) else value
        put(model, name, back.setdefault(id(value), fresh))
    return model


def spread_of(model: nn.Module) -> Spread | None:
    """How a model is spread; None for one that is not."""
    return getattr(model, _SPREAD, None)


class _Inputs:
    """Moves a module's inputs to where it computes: a device, or where its own tensors are."""

    def __init__(self, device: torch.device | None, skip: list[str]) -> None:
        self._device = device
        self._skip = skip

    def __call__(self, module: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        device = self._device or next(_own(module)).device
        return (args, kwargs) if device.type == "meta" else _moved(args, kwargs, device, self._skip)


class _Outside:
    """Moves a model's inputs to where it computes, and its outputs to where the inputs were."""

    def __init__(self, device: torch.device, skip: list[str]) -> None:
        self._device = device
        self._skip = skip
        self._from: list[torch.device | None] = []

    def begin(self, _model: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        first = next(tensors([args, kwargs]), None)
        self._from.append(None if first is None else first.device)
        return _moved(args, kwargs, self._device, self._skip)

    def end(self, _model: nn.Module, _args: Any, output: Any) -> Any:
        device = self._from.pop() if self._from else None
        return output if device is None else send_to_device(output, device, skip_keys=self._skip)


class _Visit:
    """Brings kept tensors into a module for the time of its forward pass. `here` has them by their names in it."""

    def __init__(self, device: torch.device, here: dict[str, Tensor]) -> None:
        self._device = device
        self._here = here
        self._empty: dict[str, Tensor] = {}
        self._depth = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> _Visit:
        memo[id(self)] = copied = _Visit(self._device, self._here)
        return copied

    def begin(self, module: nn.Module, _args: Any) -> None:
        self._depth += 1
        if self._depth > 1:
            return  # a module that calls itself
        brought: dict[int, Tensor] = {}
        for name, value in self._here.items():
            empty = self._empty[name] = tensor_of(module, name)
            if id(value) not in brought:
                fresh = value.to(self._device, empty.dtype, non_blocking=True)
                is_parameter = isinstance(empty, nn.Parameter)
                brought[id(value)] = nn.Parameter(fresh, requires_grad=False) if is_parameter else fresh
            put(module, name, brought[id(value)])

    def end(self, module: nn.Module, _args: Any, _output: Any) -> None:
        self._depth = max(0, self._depth - 1)
        if not self._depth:
            for name, empty in self._empty.items():
                put(module, name, empty)
            self._empty = {}

    def fill(self, module: nn.Module, state: dict[str, Any], prefix: str, _metadata: Any) -> None:
        """Puts the values into a state that is being made."""
        for name, value in self._here.items():
            if prefix + name in state:
                state[prefix + name] = value.to(dtype=tensor_of(module, name).dtype)

    def refuse(self, _module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
        """Lets no state be loaded into tensors that are not there, which torch would pass over."""
        found = [prefix + name for name in self._here if prefix + name in state]
        if found:
            raise not_here(found[0])


def not_here(name: str) -> FindingsError:
    """The finding that a model was dispatched before something was loaded into it."""
    cause = f"the values of `{name}` are kept outside of the model, so that none can be loaded into it"
    step = "load first and call `dispatch_model` then, or use `load_checkpoint_and_dispatch`"
    return FindingsError((finding("J504", cause, place=caller_place(), next_step=step),))


def _moved(args: Any, kwargs: Any, device: torch.device, skip: list[str]) -> tuple[Any, Any]:
    return send_to_device(args, device, skip_keys=skip), send_to_device(kwargs, device, skip_keys=skip)


def _own(module: nn.Module) -> Iterator[Tensor]:
    """The tensors that a module holds itself."""
    yield from module.parameters(recurse=False)
    yield from module.buffers(recurse=False)
