"""Targets and launchers of plugins, watched: what goes wrong in them is a finding that names their distribution."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from ..spec import Finding, FindingsError, JobcError, ResolvedSpec, finding
from ..spec.plugins import BrokenPluginError, Plugin, in_a_line, plugin
from .launchers.base import Launcher, Site
from .plan import Command, WriteFile
from .targets.base import Deployment


class ForeignLauncher:
    """The launcher of a plugin."""

    def __init__(self, found: Plugin) -> None:
        self._found = found

    @property
    def RESTARTS(self) -> bool:  # noqa: N802 - a constant of the protocol
        """Whether it can start all processes again after one of them failed."""
        return self._found.given.RESTARTS

    @property
    def OPTIONS(self) -> frozenset[str] | None:  # noqa: N802 - a constant of the protocol
        """Its own options that the plan sets."""
        return self._found.given.OPTIONS

    @property
    def TARGETS(self) -> frozenset[str]:  # noqa: N802 - a constant of the protocol
        """The targets that it starts processes on."""
        return self._found.given.TARGETS

    @property
    def HARDWARE(self) -> frozenset[str]:  # noqa: N802 - a constant of the protocol
        """The kinds of hardware that its processes can use; all, where it does not say."""
        return getattr(self._found.given, "HARDWARE", frozenset({"auto", "cpu", "gpu", "tpu"}))

    @property
    def FUNCTIONS(self) -> bool:  # noqa: N802 - a constant of the protocol
        """Whether it can call a function of the script."""
        return getattr(self._found.given, "FUNCTIONS", False)

    def check(self, spec: ResolvedSpec, /) -> Iterator[Finding]:
        """What it cannot honour; a launcher without a function for that has said everything."""
        own = getattr(self._found.given, "check", None)
        if own is not None:
            yield from _watched(self._found, "check", lambda: tuple(own(spec)), FINDINGS)

    def reaches_nodes(self, _spec: ResolvedSpec, /) -> bool:
        """Its commands start the processes of a node each."""
        return False

    def files(self, _spec: ResolvedSpec, _site: Site, /) -> tuple[WriteFile, ...]:
        """Its commands need no files of the plan."""
        return ()

    def node_commands(self, spec: ResolvedSpec, site: Site) -> tuple[Command, ...]:
        """The commands that start the processes of any node."""
        return _watched(self._found, "node_commands", lambda: self._found.given.node_commands(spec, site), COMMANDS)


class ForeignTarget:
    """The target of a plugin."""

    def __init__(self, found: Plugin) -> None:
        self._found = found

    @property
    def LAUNCHERS(self) -> frozenset[str]:  # noqa: N802 - a constant of the protocol
        """The launchers that it can start the processes of its nodes with."""
        return self._found.given.LAUNCHERS

    @property
    def DEPENDS(self) -> bool:  # noqa: N802 - a constant of the protocol
        """Whether it can hold a run back until earlier ones have succeeded."""
        return self._found.given.DEPENDS

    def check(self, spec: ResolvedSpec) -> Iterator[Finding]:
        """What the target cannot honour."""
        yield from _watched(self._found, "check", lambda: tuple(self._found.given.check(spec)), FINDINGS)

    def deploy(self, spec: ResolvedSpec, launcher: Launcher) -> Deployment:
        """The job on this target."""
        return _watched(self._found, "deploy", lambda: self._found.given.deploy(spec, launcher), Deployment)


COMMANDS: Any = tuple[Command, ...]
FINDINGS: Any = tuple[Finding, ...]


def foreign_launcher(name: str) -> ForeignLauncher:
    """The launcher of a plugin that a job named.

    Raises:
        FindingsError: J360 to J362, it cannot be used.
    """
    return ForeignLauncher(_found("launcher", name))


def foreign_target(kind: str) -> ForeignTarget:
    """The target of a plugin that a job named.

    Raises:
        FindingsError: J360 to J362, it cannot be used.
    """
    return ForeignTarget(_found("target", kind))


def _found(field: str, name: str) -> Plugin:
    try:
        found = plugin(field, name)
    except BrokenPluginError as error:
        raise FindingsError((error.finding(),)) from error
    if found is None:
        cause = f"no installed distribution gives `{field}: {name}`"
        raise FindingsError((finding("J360", cause, next_step="install the one that the job was planned with"),))
    return found


def _watched(found: Plugin, member: str, call: Callable[[], Any], shape: Any) -> Any:
    """What a function of a plugin returns, of the type that it says it returns.

    Raises:
        FindingsError: J361, it fails or returns something else.
    """
    try:
        made = call()
        msgspec.convert(msgspec.to_builtins(made), shape)
    except JobcError:
        raise
    except Exception as error:  # the code of others fails as it likes
        cause = f"`{member}` of `{found.field}: {found.name}` ({found.distribution}) failed: {in_a_line(error)}"
        step = f"tell its authors; update or remove {found.distribution}"
        raise FindingsError((finding("J361", cause, next_step=step),)) from error
    return made
