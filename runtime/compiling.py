"""torch.compile as the job asks for it, in place: names, hooks and the module itself stay what they were."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..spec.findings import FindingsError, did_you_mean, finding
from ..spec.training import Compile
from .blocks import candidates, repeated
from .places import caller_place

_TORCH = Path(torch.__file__).parent
#: What `training.compile.dynamic` is for torch.
_DYNAMIC: dict[object, bool | None] = {"auto": None, True: True, False: False}


def compile_in_place(model: nn.Module, options: Compile) -> None:
    """Compiles a model, or each of its repeated blocks, at its next call.

    Raises:
        FindingsError: J511, there is no such compiler, or regions are to be compiled and the model has no repeated
            blocks.
    """
    if options.backend == "none":
        return
    chosen: dict[str, Any] = {
        "backend": options.backend,
        "fullgraph": options.fullgraph,
        "dynamic": _DYNAMIC[options.dynamic],
    }
    if options.mode != "default":
        chosen["mode"] = options.mode
    modules = _regions(model) if options.regional else [model]
    from torch._dynamo.exc import InvalidBackend  # noqa: PLC0415 - only who compiles pays for it

    try:
        _compile(modules, chosen)
    except InvalidBackend as error:
        raise _unknown(options.backend) from error


def _compile(modules: list[nn.Module], chosen: dict[str, Any]) -> None:
    for module in modules:
        if _is_torchs(module):
            module._compiled_call_impl = torch.compile(_through(module._call_impl), **chosen)  # noqa: SLF001
        else:
            module.compile(**chosen)


def _unknown(backend: str) -> FindingsError:
    from torch import _dynamo  # noqa: PLC0415 - the same

    known = _dynamo.list_backends(exclude_tags=())
    step = did_you_mean(backend, known) or f"use one of {', '.join(known)}"
    cause = f"training.compile.backend: torch knows no compiler `{backend}`"
    return FindingsError((finding("J511", cause, place=caller_place(), next_step=step),))


def _is_torchs(module: nn.Module) -> bool:
    """Whether the module's forward pass is torch's own, as a Linear's or a Sequential's is.

    torch compiles no function of its own that is not called by another, so that compiling such a module in place, with
    its method `compile`, would do nothing.
    """
    code = getattr(getattr(module.forward, "__func__", None), "__code__", None)
    return code is not None and Path(code.co_filename).is_relative_to(_TORCH)


def _through(call: Callable[..., Any]) -> Callable[..., Any]:
    """A function that calls another, which torch compiles together with it."""

    def forward(*args: Any, **kwargs: Any) -> Any:
        return call(*args, **kwargs)

    return forward


def _regions(model: nn.Module) -> list[nn.Module]:
    blocks = repeated(model)
    if not blocks:
        cause = f"`training.compile.regional` compiles repeated blocks, and the {type(model).__name__} has none"
        step = f"leave `regional` away; the model has {', '.join(candidates(model))}, no two alike in one list"
        raise FindingsError((finding("J511", cause, next_step=step),))
    return blocks
