"""What a launcher is: it says how the processes of one node are started."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import Literal, Protocol

import msgspec

from ...spec import Finding, ResolvedSpec
from ...spec.hardware import Cpu, Gpu, Tpu, cpu_lists
from ..plan import Argv, Command, Ref, Text, WriteFile


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """What a target's nodes have where: a launcher asks here for everything that is not in the job.

    `node` is the node's number, `python` the interpreter, `project` the job's folder, `logs` the folder for logs of
    processes, `spec` what `JOBC_SPEC` is. `files` is the folder of a launcher's own files, where the target writes
    them; without it the command has to bring them along. `address` and `port` are where processes meet. `output` says
    where several processes of a node write: to files of each that are at hand here, or to the one stream of their
    command, with their rank before each line.
    """

    node: Text = "0"
    python: Text = (Ref("python"),)
    project: Text = (Ref("project_dir"),)
    logs: Text = (Ref("run_dir"), "/logs")
    spec: Text = (Ref("run_dir"), "/spec.json")
    files: Text | None = None
    address: Text = "127.0.0.1"
    port: Text = (Ref("port"),)
    output: Literal["files", "stream"] = "files"


class Launcher(Protocol):
    """A pure function from the spec to commands, and what it can do. Implemented by a plain module."""

    @property
    def RESTARTS(self) -> bool:  # noqa: N802 - a constant of the module
        """Whether it can start all processes again after one of them failed."""
        ...

    @property
    def OPTIONS(self) -> frozenset[str] | None:  # noqa: N802 - a constant of the module
        """Its own options that the plan sets, so that `launcher_args` may not; None where it takes no options."""
        ...

    @property
    def HARDWARE(self) -> frozenset[str]:  # noqa: N802 - a constant of the module
        """The kinds of hardware that its processes can use."""
        ...

    @property
    def FUNCTIONS(self) -> bool:  # noqa: N802 - a constant of the module
        """Whether it can call a function of the script or module (`function`)."""
        ...

    def check(self, spec: ResolvedSpec, /) -> Iterator[Finding]:
        """What it cannot honour beside what its constants say."""
        ...

    def reaches_nodes(self, spec: ResolvedSpec, /) -> bool:
        """Whether its one command starts the processes of all nodes from here, so that no target has to reach them."""
        ...

    def files(self, spec: ResolvedSpec, site: Site, /) -> tuple[WriteFile, ...]:
        """The files that its commands need, for a site where the target writes them."""
        ...

    def node_commands(self, spec: ResolvedSpec, site: Site) -> tuple[Command, ...]:
        """The commands that start the processes of any node, in the order of their ranks.

        Args:
            spec: the resolved job.
            site: where things are on the nodes.
        """
        ...


def content(_spec: ResolvedSpec) -> Iterator[Finding]:
    """The check of a launcher whose constants say everything."""
    yield from ()


def starts_one_node(_spec: ResolvedSpec) -> bool:
    """The answer of a launcher whose command starts the processes of its own node."""
    return False


def no_files(_spec: ResolvedSpec, _site: Site) -> tuple[WriteFile, ...]:
    """The files of a launcher that needs none."""
    return ()


def local_ranks(spec: ResolvedSpec) -> tuple[int, ...]:
    """The processes of a node by their place on it."""
    return tuple(range(spec.job.processes_per_node))


def entry(spec: ResolvedSpec) -> tuple[str, ...]:
    """What a process runs, as a Python interpreter takes it: a script or `-m` and a module, then the arguments."""
    job = spec.job
    if job.module is not None:
        return ("-m", job.module, *job.args)
    return (script_argument(spec), *job.args)


def script_argument(spec: ResolvedSpec) -> str:
    """The script as the process sees it from the folder that it starts in."""
    job = spec.job
    script = job.script or ""
    if not posixpath.isabs(script) and job.workdir != ".":
        if posixpath.isabs(job.workdir):
            script = posixpath.join(spec.project_dir, script)
        else:
            script = posixpath.relpath(script, job.workdir)
    return f"./{script}" if script.startswith("-") else script


def interpreter(spec: ResolvedSpec, site: Site) -> Text:
    """The Python interpreter of the processes."""
    return site.python if spec.job.python is None else spec.job.python


def prepared(spec: ResolvedSpec, argv: Argv) -> Argv:
    """A command line with the job's `setup` before it, in one bash that the command then takes the place of."""
    setup = spec.job.setup
    if not setup:
        return argv
    return ("bash", "-c", "\n".join(("set -e", *setup, 'exec "$@"')), "jobc-setup", *argv)


def limited(spec: ResolvedSpec) -> Argv:
    """What stands before a command whose processes may each use so much memory, from util-linux."""
    memory = spec.job.limits.memory_bytes
    return () if memory is None else ("prlimit", f"--data={memory}")


def bound(spec: ResolvedSpec, local_rank: int) -> Argv:
    """What stands before the command of a process that is bound to CPUs, from util-linux."""
    lists = cpu_lists(spec.job.hardware)
    if lists is None or local_rank >= len(lists):  # too few are refused, by who checks the job beside its target
        return ()
    return ("taskset", "--cpu-list", lists[local_rank])


def shared_env(spec: ResolvedSpec, site: Site) -> dict[str, Text]:
    """Variables of every process, whatever starts it: what jobc adds, then the job's own."""
    job = spec.job
    env: dict[str, Text] = {"JOBC_SPEC": site.spec}
    threads = job.hardware.threads_per_process
    if threads is not None:
        env["OMP_NUM_THREADS"] = str(threads)
    if job.training.deterministic and not isinstance(job.hardware, Cpu | Tpu):
        env["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # torch refuses matrix products of CUDA without it
    if isinstance(job.hardware, Gpu) and job.hardware.ids is not None:
        env["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, job.hardware.ids))
    return {**env, **job.env}


def folder(spec: ResolvedSpec, site: Site) -> Text:
    """The folder that processes start in."""
    workdir = spec.job.workdir
    if posixpath.isabs(workdir):
        return workdir
    return site.project if workdir == "." else joined(site.project, f"/{workdir}")


def joined(*texts: Text) -> Text:
    """Several texts as one."""
    parts: list[str | Ref] = []
    for text in texts:
        for part in (text,) if isinstance(text, str) else text:
            if isinstance(part, str) and parts and isinstance(parts[-1], str):
                parts[-1] += part
            else:
                parts.append(part)
    return parts[0] if len(parts) == 1 and isinstance(parts[0], str) else tuple(parts)
