"""The table of strategies. Another one is a module beside these and a line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...spec.model import Ddp, NoParadigm, Paradigm
from ..world import World
from . import ddp, single
from .base import Strategy

_BUILDERS: dict[type, Callable[[Any, World], Strategy]] = {
    NoParadigm: single.build,
    Ddp: ddp.build,
}


def choose(paradigm: Paradigm | None, world: World) -> Strategy:
    """The strategy of a paradigm in a world; where no job says one, `ddp` above one process, else `none`.

    Raises:
        FindingsError: J304, the paradigm does not fit the number of processes.
    """
    if paradigm is None:
        paradigm = Ddp() if world.size > 1 else NoParadigm()
    return _BUILDERS[type(paradigm)](paradigm, world)
