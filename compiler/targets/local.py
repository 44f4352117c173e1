"""The target `local`: this machine is the one node."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from ...spec import Finding, Place, ResolvedSpec, finding
from ..launchers import Launcher, launcher_of
from ..launchers.base import Site
from ..plan import Command, NodeGroup, Ref, RunCommand, StartNodes, Text, WriteFile
from ..preflight import probing
from .base import Deployment

LAUNCHERS = frozenset({"python", "torchrun", "deepspeed", "xla"})
DEPENDS = False


def check(spec: ResolvedSpec) -> Iterator[Finding]:
    """More than one node, and files that are not on this machine."""
    job = spec.job
    if job.nodes.count > 1 and not launcher_of(spec).reaches_nodes(spec):
        yield finding(
            "J303",
            f"the target `local` is one machine, and `nodes` asks for {job.nodes.count}",
            place=spec.place("nodes.count"),
            next_step="write `nodes: 1`; `hardware.per_node` is the number of processes on it",
        )
    yield from missing_files(spec)


def missing_files(spec: ResolvedSpec) -> Iterator[Finding]:
    """J302 for what the document names and this machine does not have."""
    job, folder = spec.job, Path(spec.project_dir)
    if not (folder / job.workdir).is_dir():
        yield _missing("workdir", f"the folder `{job.workdir}` does not exist", spec.place("workdir"), folder)
    if job.script is not None and not (folder / job.script).is_file():
        what = "is a folder" if (folder / job.script).is_dir() else "does not exist"
        yield _missing("script", f"the script `{job.script}` {what}", spec.place("script"), folder)


def _missing(field: str, cause: str, place: Place | None, folder: Path) -> Finding:
    return finding("J302", cause, place=place, next_step=f"`{field}` is looked up from {folder}")


def deploy(spec: ResolvedSpec, launcher: Launcher) -> Deployment:
    """Write the resolved document, start the node's commands, wait."""
    together = launcher.reaches_nodes(spec)
    document: Text = (Ref("packed_spec"),) if together else Site().spec
    site = Site(files=(Ref("run_dir"),), spec=document)
    commands = launcher.node_commands(spec, site)
    port = spec.job.nodes.rendezvous.port
    status, logs, stop = verbs()
    ports = (port,) if port is not None and spec.job.processes > 1 and not together else ()
    processes = spec.job.processes if together else spec.job.processes_per_node
    return Deployment(
        nodes=(NodeGroup(first=0, count=1, hosts=("localhost",), processes=processes, commands=commands),),
        submit=(
            WriteFile(path=(Ref("run_dir"), "/spec.json"), content=(Ref("spec"),), mode=0o600),
            *launcher.files(spec, site),
            StartNodes(ports=ports, timeout=time_limit(spec)),
        ),
        status=status,
        logs=logs,
        stop=stop,
        preflight=(_preflight(spec),),
        inputs=inputs(spec),
    )


def _preflight(spec: ResolvedSpec) -> RunCommand:
    """Asks this machine what it is like."""
    script = probing(spec, Site(), disk=(Ref("run_dir"),))
    return RunCommand(command=Command(argv=("bash", "-s"), stdin=script, output="capture"))


def verbs() -> tuple[tuple[RunCommand], tuple[RunCommand], tuple[RunCommand]]:
    """`status`, `logs` and `stop` of a run whose executor is a process of this machine."""
    return (
        (_run("cat", (Ref("run_dir"), "/record.json")),),
        (_run("find", (Ref("run_dir"), "/logs/"), "-name", "*.log", "-exec", "tail", "-n", "+1", "{}", "+"),),
        (_run("kill", "-TERM", (Ref("pid"),)),),
    )


def time_limit(spec: ResolvedSpec) -> float | None:
    """Seconds that the job may take."""
    minutes = spec.job.limits.minutes
    return None if minutes is None else minutes * 60


def _run(*argv: str | tuple[str | Ref, ...]) -> RunCommand:
    return RunCommand(command=Command(argv=argv))


def inputs(spec: ResolvedSpec) -> dict[str, str]:
    """The hash of the script."""
    script = spec.job.script
    if script is None:
        return {}
    return {script: f"sha256:{hashlib.sha256((Path(spec.project_dir) / script).read_bytes()).hexdigest()}"}
