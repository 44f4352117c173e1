"""The target `inherit`: something else starts the processes, and each of them runs `jobc run`."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ...spec import Finding, ResolvedSpec
from ...spec.inherited import WORLD
from ..launchers import Launcher
from ..launchers.base import Site
from ..plan import Command, NodeGroup, Ref, RunCommand, Text, WriteFile
from .base import Deployment
from .local import inputs, missing_files, time_limit, verbs

#: Processes are there already; none is to be started.
LAUNCHERS = frozenset({"python"})
DEPENDS = False


def check(spec: ResolvedSpec) -> Iterator[Finding]:
    """Files that are not on this machine."""
    yield from missing_files(spec)


def deploy(spec: ResolvedSpec, launcher: Launcher) -> Deployment:
    """Write the resolved document, run this process's command with the place that it was given."""
    command = _placed(spec, launcher.node_commands(spec, Site())[0])
    status, logs, stop = verbs()
    group = NodeGroup(
        first=0,
        count=spec.job.nodes.count,
        hosts=("localhost",) * spec.job.nodes.count,
        processes=spec.job.processes_per_node,
        commands=(command,),
    )
    return Deployment(
        nodes=(group,),
        submit=(
            WriteFile(path=(Ref("run_dir"), "/spec.json"), content=(Ref("spec"),), mode=0o600),
            RunCommand(command=command, timeout=time_limit(spec)),
        ),
        status=status,
        logs=logs,
        stop=stop,
        inputs=inputs(spec),
    )


def _placed(spec: ResolvedSpec, command: Command) -> Command:
    """The command of one process that keeps its terminal; who it is, and where all meet, is what it was told."""
    said = spec.job.nodes.rendezvous
    world: dict[str, Text] = {name: (Ref("inherited", name=name),) for name in WORLD}
    if said.address is not None:
        world["MASTER_ADDR"] = said.address
    if said.port is not None:
        world["MASTER_PORT"] = str(said.port)
    env = {name: world.get(name, text) for name, text in command.env.items()}
    return msgspec.structs.replace(command, env=env, ranks=(), output="inherit")
