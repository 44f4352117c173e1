"""Who brought CUDA into this process, as far as that can be known afterwards."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn

#: Libraries that use a GPU as soon as they are imported.
_AT_IMPORT = ("bitsandbytes", "cupy", "tensorflow", "jax")
_WORDS = (".cuda(", "torch.cuda.", '"cuda', "'cuda")


def who_used_cuda(function: Callable[..., Any]) -> str:
    """What is known: cells of the notebook that name CUDA, variables on a GPU, libraries that use one at import.

    One line each; the empty text where nothing is known.
    """
    names: Mapping[str, Any] = getattr(function, "__globals__", {})
    return "\n".join([*_cells(names.get("In", ())), *_variables(names), *_libraries(sys.modules)])


def _cells(cells: Iterable[Any]) -> Iterable[str]:
    for number, text in enumerate(cells):
        for line in str(text).splitlines():
            if any(word in line for word in _WORDS) and not line.lstrip().startswith("#"):
                yield f"In [{number}] says `{line.strip()}`"


def _variables(names: Mapping[str, Any]) -> Iterable[str]:
    for name, value in names.items():
        tensor = next(value.parameters(), None) if isinstance(value, nn.Module) else value
        if isinstance(tensor, Tensor) and tensor.device.type != "cpu":
            yield f"the variable `{name}` is on {tensor.device}"


def _libraries(modules: Iterable[str]) -> Iterable[str]:
    for name in _AT_IMPORT:
        if name in modules:
            yield f"`import {name}` may have used a GPU"
