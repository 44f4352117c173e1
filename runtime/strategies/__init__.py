"""The table of strategies. Another one is a module beside these and a line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ...spec.model import Ddp, Fsdp, NoParadigm, Paradigm
from ..comparing import announced
from ..world import World
from . import ddp, single
from .base import Strategy


def _fsdp(kind: Fsdp, world: World, half: torch.dtype | None, reduce: torch.dtype | None) -> Strategy:
    from . import fsdp  # noqa: PLC0415 - torch's parts for it take a second to import

    return fsdp.build(kind, world, half, reduce)


_BUILDERS: dict[type, Callable[[Any, World, torch.dtype | None, torch.dtype | None], Strategy]] = {
    NoParadigm: single.build,
    Ddp: ddp.build,
    Fsdp: _fsdp,
}


def choose(
    paradigm: Paradigm | None, world: World, half: torch.dtype | None = None, reduce: torch.dtype | None = None
) -> Strategy:
    """The strategy of a paradigm in a world; where no job says one, `ddp` above one process, else `none`.

    `half` is the number format that a strategy may bring parameters to for forward and backward passes, `reduce` that
    in which it then adds up gradients; None is float32.

    Raises:
        FindingsError: J304, the paradigm does not fit the number of processes.
    """
    if paradigm is None:
        paradigm = Ddp() if world.size > 1 else NoParadigm()
    return announced(_BUILDERS[type(paradigm)](paradigm, world, half, reduce))
