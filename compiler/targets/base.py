"""What a target is: it says where nodes come from and how a node's command reaches them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import msgspec

from ...spec import Finding, ResolvedSpec
from ..launchers import Launcher
from ..plan import Array, LaunchPlan, NodeGroup, Step


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """What a target makes of a job: its nodes and the steps of every verb.

    `secrets` are those whose values this machine has to have, all of the job's unless the target says otherwise.
    """

    nodes: tuple[NodeGroup, ...]
    submit: tuple[Step, ...]
    status: tuple[Step, ...]
    logs: tuple[Step, ...]
    stop: tuple[Step, ...]
    inputs: dict[str, str]
    follow: tuple[Step, ...] = ()
    wait: tuple[Step, ...] = ()
    preflight: tuple[Step, ...] = ()
    secrets: tuple[str, ...] | None = None


class Target(Protocol):
    """Pure functions from the spec to steps, and what it can do. Implemented by a plain module."""

    @property
    def LAUNCHERS(self) -> frozenset[str]:  # noqa: N802 - a constant of the module
        """The launchers that it can start the processes of its nodes with."""
        ...

    @property
    def DEPENDS(self) -> bool:  # noqa: N802 - a constant of the module
        """Whether it can hold a run back until earlier ones have succeeded (`depends_on`)."""
        ...

    def check(self, spec: ResolvedSpec) -> Iterator[Finding]:
        """What the target cannot honour."""
        ...

    def deploy(self, spec: ResolvedSpec, launcher: Launcher) -> Deployment:
        """The job on this target."""
        ...


@runtime_checkable
class TakesSeveral(Protocol):
    """A target that can be given several runs in one piece, too."""

    def together(self, sweep: Sequence[tuple[ResolvedSpec, LaunchPlan]], at_once: int | None) -> tuple[Array, ...]:
        """Which runs of a sweep are submitted together; the others are submitted one by one.

        Args:
            sweep: the jobs of this target, and their plans.
            at_once: how many of them may run at a time, in each piece.
        """
        ...
