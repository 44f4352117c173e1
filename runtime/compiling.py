"""torch.compile as the job asks for it, in place: names, hooks and the module itself stay what they were."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..spec.findings import FindingsError, finding
from ..spec.training import Compile
from .blocks import candidates, repeated

#: What `training.compile.dynamic` is for torch.
_DYNAMIC: dict[object, bool | None] = {"auto": None, True: True, False: False}


def compile_in_place(model: nn.Module, options: Compile) -> None:
    """Compiles a model, or each of its repeated blocks, at its next call.

    Raises:
        FindingsError: J511, regions are to be compiled and the model has no repeated blocks.
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
    for module in _regions(model) if options.regional else [model]:
        module.compile(**chosen)


def _regions(model: nn.Module) -> list[nn.Module]:
    blocks = repeated(model)
    if not blocks:
        cause = f"`training.compile.regional` compiles repeated blocks, and the {type(model).__name__} has none"
        step = f"leave `regional` away; the model has {', '.join(candidates(model))}, no two alike in one list"
        raise FindingsError((finding("J511", cause, next_step=step),))
    return blocks
