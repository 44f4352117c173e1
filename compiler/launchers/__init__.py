"""Launchers: how the processes of one node are started. The table below is the one place that chooses."""

from __future__ import annotations

from ...spec import ResolvedSpec
from . import python, torchrun
from .base import Launcher

LAUNCHERS: dict[str, Launcher] = {"python": python, "torchrun": torchrun}


def launcher_of(spec: ResolvedSpec) -> Launcher:
    """The launcher of a resolved job."""
    return LAUNCHERS[spec.job.launcher]
