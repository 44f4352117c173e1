"""The target `ssh`: machines that are reached with ssh, one node each.

jobc here holds the connections. Each node's script comes over its connection, so that secrets stand in no command line,
and ends with it: when the connection is closed, by jobc or by a cut cable, the script ends what it started.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from ...spec import Finding, ResolvedSpec, finding
from ...spec.model import Gpu
from ...spec.targets.ssh import Ssh
from ..held import held_script
from ..launchers import Launcher
from ..launchers.base import Site, joined
from ..plan import Argv, Command, NodeGroup, Ref, RunForNodes, StartNodes, Step, Text, WriteFile
from ..preflight import probing
from ..quoting import script_word
from .base import Deployment
from .local import time_limit, verbs
from .sent import check_sent, files_of, hashes

LAUNCHERS = frozenset({"python", "torchrun", "deepspeed", "xla"})
DEPENDS = False


def check(spec: ResolvedSpec) -> Iterator[Finding]:
    """No machines, other machines than nodes, what only this machine could count, files that are not here."""
    job, target = spec.job, _target(spec)
    hosts = target.hosts or ()
    if not hosts:
        cause = "the target `ssh` needs machines"
        yield finding(
            "J313", cause, place=spec.place("target"), next_step="add `hosts: [node1, node2]`, or `hosts_file`"
        )
    elif job.nodes.count != len(hosts):
        cause = f"`nodes` is {job.nodes.count}, and `target.hosts` names {len(hosts)}"
        place = spec.place("nodes.count") or spec.place("target.hosts")
        yield finding("J313", cause, place=place, next_step="leave `nodes` out: each machine is a node")
    if len(set(hosts)) < len(hosts):
        yield finding("J313", "`target.hosts` names a machine twice", place=spec.place("target.hosts"))
    if isinstance(job.hardware, Gpu) and spec.origin("hardware.per_node").layer == "detected":
        cause = "`hardware.per_node: all` counts the GPUs of this machine, and the job runs on others"
        yield finding("J310", cause, place=spec.place("hardware.per_node"), next_step="write a number")
    yield from check_sent(spec, target.exclude)


def deploy(spec: ResolvedSpec, launcher: Launcher) -> Deployment:
    """Copy the job's files to every machine, start every node's script over ssh, wait."""
    target, hosts = _target(spec), _target(spec).hosts or ()
    files = files_of(spec, target.exclude)
    nodes = NodeGroup(
        first=0,
        count=len(hosts),
        hosts=hosts,
        processes=spec.job.processes_per_node,
        commands=_commands(spec, launcher, target),
    )
    listed = WriteFile(path=(Ref("run_dir"), "/files"), content="".join(f"{name}\0" for name in files))
    steps: tuple[Step, ...] = (
        WriteFile(path=(Ref("run_dir"), "/spec.json"), content=(Ref("spec"),), mode=0o600),
        listed,
        RunForNodes(command=_copy(spec, target)),
        StartNodes(
            restarts=spec.job.nodes.max_restarts if spec.job.nodes.count > 1 else 0,
            least=spec.job.nodes.elastic.min or 0,
            timeout=time_limit(spec),
        ),
    )
    status, logs, stop = verbs()
    return Deployment(
        nodes=(nodes,),
        submit=steps,
        status=status,
        logs=logs,
        stop=stop,
        preflight=(RunForNodes(command=_preflight(spec, target)),),
        inputs=hashes(spec, files),
    )


def _target(spec: ResolvedSpec) -> Ssh:
    target = spec.job.target
    if not isinstance(target, Ssh):
        raise TypeError("the target `ssh` was chosen for a job that has another")
    return target


def _commands(spec: ResolvedSpec, launcher: Launcher, target: Ssh) -> tuple[Command, ...]:
    site = _site(spec, target)
    return tuple(_over_ssh(spec, target, command, site) for command in launcher.node_commands(spec, site))


def _site(spec: ResolvedSpec, target: Ssh) -> Site:
    return Site(
        node="0" if spec.job.nodes.count == 1 else (Ref("node"),),
        python="python3",
        project=f"{target.folder}/{spec.job.name}/files",
        logs=(f"{posixpath.relpath('runs', posixpath.join('files', spec.job.workdir))}/", Ref("run_id")),
        spec=(Ref("packed_spec"),),
        address=spec.job.nodes.rendezvous.address or "127.0.0.1",
        output="stream",
    )


def _preflight(spec: ResolvedSpec, target: Ssh) -> Command:
    """Asks a machine what it is like."""
    return Command(
        argv=(*_ssh(target), (Ref("host"),), "exec bash -s"),
        stdin=probing(spec, _site(spec, target), disk=target.folder, programs=("rsync", "setsid")),
        output="capture",
        host=(Ref("host"),),
        title="ssh",
    )


def _over_ssh(spec: ResolvedSpec, target: Ssh, command: Command, site: Site) -> Command:
    return Command(
        argv=(*_ssh(target), (Ref("host"),), "exec bash -s"),
        stdin=held_script(spec, command, site),
        ranks=command.ranks,
        output="capture" if command.output == "inherit" else command.output,
        host=(Ref("host"),),
        title="ssh",
    )


def _ssh(target: Ssh) -> Argv:
    """The start of every ssh command: it asks no questions, and knows within a minute that a connection is dead.

    ssh takes the first word on a setting, so that `ssh_args` come before ours.
    """
    options: list[Text] = ["ssh", "-T", *target.ssh_args, "-o", "BatchMode=yes"]
    options += [
        "-o",
        f"ConnectTimeout={target.connect_timeout}",
        "-o",
        "ServerAliveInterval=15",
        "-o",
        "ServerAliveCountMax=4",
    ]
    if target.config is not None:
        options += [
            "-F",
            joined((Ref("project_dir"),), f"/{target.config}") if not posixpath.isabs(target.config) else target.config,
        ]
    if target.port is not None:
        options += ["-p", str(target.port)]
    if target.jump is not None:
        options += ["-J", target.jump]
    return tuple(options)


def _copy(spec: ResolvedSpec, target: Ssh) -> Command:
    """Copies exactly the files that the plan lists. What the machine has beside them stays."""
    there = f"{target.folder}/{spec.job.name}"
    remote = joined("ssh", *(part for word in _ssh(target)[1:] for part in (" ", script_word(word))))
    return Command(
        argv=(
            "rsync", "--archive", "--copy-links", "--compress", "--from0", ("--files-from=", Ref("run_dir"), "/files"),
            *target.rsync_args, "--rsync-path", f"mkdir -p {there}/files {there}/runs && rsync",
            "--rsh", remote, (Ref("project_dir"), "/"), (Ref("host"), f":{there}/files/"),
        ),
        output="tagged",
        host=(Ref("host"),),
        title="rsync",
    )  # fmt: skip
