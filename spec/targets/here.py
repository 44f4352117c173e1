"""Targets that need no machine but this one."""

from __future__ import annotations

from ..parts import Kind


class Local(Kind, frozen=True, tag="local"):
    """This machine."""


class Inherit(Kind, frozen=True, tag="inherit"):
    """Processes that something else starts, of which each runs `jobc run`: srun, mpirun, torchrun, an operator."""
