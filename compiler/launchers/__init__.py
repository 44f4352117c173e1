"""Launchers: how the processes of one node are started. The table below is the one place that chooses."""

from __future__ import annotations

from ...spec import ResolvedSpec
from ..modules import Modules
from .base import Launcher

LAUNCHERS: Modules[str, Launcher] = Modules(
    __name__, {name: name for name in ("python", "torchrun", "deepspeed", "xla")}
)


def launcher_of(spec: ResolvedSpec) -> Launcher:
    """The launcher of a resolved job."""
    found = LAUNCHERS.get(spec.job.launcher)
    if found is None:
        from ..plugins import foreign_launcher

        return foreign_launcher(spec.job.launcher)
    return found


def foreign_targets(name: str) -> frozenset[str]:
    """The targets that the launcher of a plugin starts processes on; a target says itself which of ours it takes."""
    if name in LAUNCHERS:
        return frozenset()
    from ..plugins import foreign_launcher

    return foreign_launcher(name).TARGETS
