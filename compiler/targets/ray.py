"""The target `ray`: nodes of a Ray cluster, through Ray's own jobs.

What is submitted is a driver, which asks Ray for a placement group of one bundle a node, starts the commands of the
launcher in each, forwards what they write, and ends all when one fails. The job's files, the driver and the scripts of
the nodes are one working directory of Ray's.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from ...spec import Finding, ResolvedSpec, finding
from ...spec.hardware import AutoHardware, Gpu, Tpu
from ...spec.targets.ray import Ray
from ..held import held_script
from ..launchers import Launcher
from ..launchers.base import Site
from ..plan import (
    Argv,
    Capture,
    Command,
    Name,
    NodeGroup,
    PackFiles,
    Ref,
    Report,
    RunCommand,
    Standing,
    Step,
    Text,
    WriteFile,
)
from .base import Deployment
from .local import time_limit
from .sent import check_sent, files_of, hashes

LAUNCHERS = frozenset({"python", "torchrun"})
DEPENDS = False

_TEMPLATES = Path(__file__).parent.parent.parent / "templates" / "ray"
_WORK = (Ref("run_dir"), "/ray")
#: What the driver tells the script of a node, in the order of its arguments.
_KNOWN: tuple[Name, ...] = ("node", "head", "port", "python")
#: Keys of Ray's runtime environment that follow from the document, and what says the same there.
_OWN_KEYS = {
    "working_dir": "the job's folder is sent, without what `target.exclude` names",
    "excludes": "use `target.exclude`",
    "env_vars": "use `env` and `secrets`",
}
#: Bytes of a working directory that a cluster keeps (GCS_STORAGE_MAX_SIZE in Ray 2.60).
_PACKAGE = 512 * 2**20
_EVERY = 5.0  # seconds between two questions how a job is doing


def check(spec: ResolvedSpec) -> Iterator[Finding]:
    """What Ray decides itself, devices that it would not give, keys of its environment that jobc writes, files."""
    job, target = spec.job, _target(spec)
    hardware = job.hardware
    if isinstance(hardware, AutoHardware):
        cause = "Ray gives a job the devices that it asks for, and `hardware: auto` asks for none"
        step = "write `hardware: gpu` or `hardware: cpu`"
        place = spec.place("hardware" if "hardware" in spec.places else "target")
        yield finding("J341", cause, place=place, next_step=step)
    if isinstance(hardware, Tpu):
        cause = "the target `ray` asks for CPUs and GPUs, and the job has `hardware: tpu`"
        yield finding("J340", cause, place=spec.place("hardware"), next_step="use another target")
    if isinstance(hardware, Gpu) and hardware.ids is not None:
        cause = "`hardware.ids` has no effect: Ray chooses the GPUs of each node"
        step = f"write `per_node: {len(hardware.ids)}` instead"
        yield finding("J340", cause, place=spec.place("hardware.ids"), next_step=step)
    if isinstance(hardware, Gpu) and spec.origin("hardware.per_node").layer == "detected":
        cause = "`hardware.per_node: all` counts the GPUs of this machine, and the job runs on others"
        yield finding("J310", cause, place=spec.place("hardware.per_node"), next_step="write a number")
    if job.nodes.rendezvous.address is not None:
        cause = "`nodes.rendezvous.address` has no effect: processes meet on the first node that Ray gives"
        yield finding("J340", cause, place=spec.place("nodes.rendezvous.address"), next_step="leave it out")
    for key in target.runtime_env:
        if key in _OWN_KEYS:
            path = f"target.runtime_env.{key}"
            yield finding("J342", f"`{path}` is written by jobc", place=spec.place(path), next_step=_OWN_KEYS[key])
    yield from _options(spec, target)
    yield from check_sent(spec, target.exclude, _PACKAGE)


#: Options of `ray job` that follow from the document.
_OWN_OPTIONS = frozenset({
    "address", "submission-id", "job-id", "working-dir", "runtime-env", "runtime-env-json", "no-wait", "follow",
    "log-style", "log-color", "entrypoint-num-cpus", "entrypoint-num-gpus", "entrypoint-memory", "entrypoint-resources",
})  # fmt: skip


def _options(spec: ResolvedSpec, target: Ray) -> Iterator[Finding]:
    """Options of the user's that the plan sets itself; Ray would take the last of them."""
    for field in ("ray_args", "submit_args"):
        words: tuple[str, ...] = getattr(target, field)
        for index, word in enumerate(words):
            if word.startswith("-") and word.lstrip("-").partition("=")[0].replace("_", "-") in _OWN_OPTIONS:
                cause = f"`target.{field}`: `{word}` is said by the job already, in a field of its own"
                step = "remove it; `jobc plan` shows the whole command"
                yield finding("J311", cause, place=spec.place(f"target.{field}[{index}]"), next_step=step)


def deploy(spec: ResolvedSpec, launcher: Launcher) -> Deployment:
    """Write what the driver needs, pack the job's files, submit; ask, show and stop with `ray job`."""
    target, site = _target(spec), _site(spec)
    files = files_of(spec, target.exclude)
    commands = launcher.node_commands(spec, site)
    group = NodeGroup(
        first=0,
        count=spec.job.nodes.count,
        processes=spec.job.processes_per_node,
        commands=tuple(replace(command, output="elsewhere") for command in commands),
    )
    status = _job(target, "status", log=True)
    logs, follow = _shown(target, "logs"), _shown(target, "logs", "--follow")
    return Deployment(
        nodes=(group,),
        submit=(
            WriteFile(path=(Ref("run_dir"), "/spec.json"), content=(Ref("spec"),), mode=0o600),
            PackFiles(path=(*_WORK, "/files.tar.gz"), files=files),
            WriteFile(path=(*_WORK, "/driver.py"), content=_template("driver.py")),
            WriteFile(path=(*_WORK, "/job.json"), content=_told(spec, commands)),
            *(_script(spec, command, site, index) for index, command in enumerate(commands)),
            WriteFile(path=_RUNTIME_ENV, content=_json(target.runtime_env)),
            *_submitting(spec, target),
        ),
        status=(_report(status),),
        logs=(logs,),
        follow=(follow,),
        wait=(_report(status, _EVERY),),
        stop=(RunCommand(command=_job(target, "stop")),),
        preflight=(RunCommand(command=_job(target, "list", run=False, output="tagged")),),
        inputs=hashes(spec, files),
    )


_RUNTIME_ENV = (Ref("run_dir"), "/runtime_env.json")


def _target(spec: ResolvedSpec) -> Ray:
    target = spec.job.target
    if not isinstance(target, Ray):
        raise TypeError("the target `ray` was chosen for a job that has another")
    return target


def _site(spec: ResolvedSpec) -> Site:
    target, job = _target(spec), spec.job
    return Site(
        node="0" if job.nodes.count == 1 else (Ref("node"),),
        project=f"{target.folder}/{job.name}/files",
        logs=(f"{posixpath.relpath('runs', posixpath.join('files', job.workdir))}/", Ref("run_id")),
        spec=(Ref("packed_spec"),),
        address=(Ref("head"),),
        output="stream",
    )


def _script(spec: ResolvedSpec, command: Command, site: Site, index: int) -> WriteFile:
    """The script of a command, which the driver gives what is known there."""
    head = "".join(f"{name}=${number}\n" for number, name in enumerate(_KNOWN, 1))
    body = held_script(spec, command, site, known_there=frozenset({*_KNOWN, "rank"}), secrets=False)
    lead = f"{head}per_node={spec.job.processes_per_node}\n"
    content: Text = lead + body if isinstance(body, str) else (lead, *body)
    return WriteFile(path=(*_WORK, f"/process_{index}.sh"), content=content)


def _told(spec: ResolvedSpec, commands: tuple[Command, ...]) -> str:
    """What the driver is told."""
    job, target = spec.job, _target(spec)
    threads = job.hardware.threads_per_process or 1
    cpus = float(job.processes_per_node * threads) if target.cpus is None else target.cpus
    gpus = {"GPU": job.processes_per_node} if isinstance(job.hardware, Gpu) else {}
    several = job.processes > 1
    return _json({
        "nodes": job.nodes.count,
        "per_node": job.processes_per_node,
        "bundle": {"CPU": cpus, **gpus, **target.resources},
        "folder": f"{target.folder}/{job.name}/files",
        "commands": [
            {
                "script": f"process_{index}.sh",
                "rank": command.ranks[0] if several and command.output != "tagged" else None,
            }
            for index, command in enumerate(commands)
        ],
        "port": job.nodes.rendezvous.port,
        "seconds": time_limit(spec),
    })  # fmt: skip


def _submitting(spec: ResolvedSpec, target: Ray) -> Iterator[Step]:
    """`ray job submit`; secrets are put into its runtime environment on the way, and stand in no file."""
    said = target.entrypoint
    resources = json.dumps(said.resources, sort_keys=True) if said.resources else None
    amounts = {"num-cpus": said.cpus, "num-gpus": said.gpus, "memory": said.memory, "resources": resources}
    own = tuple(f"--entrypoint-{name}={amount}" for name, amount in amounts.items() if amount is not None)
    secrets = spec.job.secrets
    environment: Argv = () if secrets else (("--runtime-env=", *_RUNTIME_ENV),)
    submit: Argv = (
        *("ray", "job", "submit", *_connection(target), "--log-style=record", "--log-color=false", "--no-wait"),
        ("--submission-id=", Ref("run_word")),
        *environment,
        ("--working-dir=", *_WORK),
        *own,
        *target.submit_args,
        *("--", "python", "driver.py"),
    )
    if secrets:
        script = (Ref("run_dir"), "/submit.py")
        yield WriteFile(path=script, content=_template("submit.py"))
        submit = ((Ref("python"),), script, _RUNTIME_ENV, ",".join(secrets), *submit)
    captured = Capture(name="job_id", pattern=r"Job '([^'\n]+)' submitted successfully")
    command = Command(argv=submit, output="tagged", title="submit", unset=_unset(target))
    yield RunCommand(command=command, captures=(captured,))


def _connection(target: Ray) -> Argv:
    address: Argv = () if target.address is None else (f"--address={target.address}",)
    return (*address, *target.ray_args)


def _unset(target: Ray) -> tuple[str, ...]:
    """Variables from which Ray would take another address than the one that it is told."""
    return () if target.address is None else ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")


def _job(
    target: Ray, verb: str, *options: str, log: bool = False, run: bool = True, output: Any = "inherit"
) -> Command:
    style: Argv = ("--log-style=record", "--log-color=false") if log else ()
    which: Argv = ((Ref("run_word"),),) if run else ()
    argv = ("ray", "job", verb, *_connection(target), *style, *options, *which)
    return Command(argv=argv, output=output, title="ray", unset=_unset(target))


#: What the lines of `ray job` itself begin with: it puts its own words around what a job wrote.
_OWN_LINE = "^[0-9-]+ [0-9:,]+\t[A-Z]+ cli[.]py:[0-9]+ -- "
_ONLY_THE_JOB = """set -o pipefail
own=$1
"${@:2}" | sed -u -E -e "/$own(-+\\$|Job '|Status)/,\\$d" -e "/${own}Job submission/d" -e "s/$own//\""""


def _shown(target: Ray, *words: str) -> RunCommand:
    """What a job wrote, without what `ray job` says around it: when one fails it shows its last lines again."""
    told = _job(target, *words, log=True)
    return RunCommand(command=replace(told, argv=("bash", "-c", _ONLY_THE_JOB, "jobc", _OWN_LINE, *told.argv)))


_STATES: dict[str, Standing] = {
    "PENDING": "pending",
    "RUNNING": "running",
    "succeeded": "succeeded",
    "failed": "failed",
    "stopped": "stopped",
}
_SAID = (
    _OWN_LINE
    + r"(?:Status for job '[^'\n]*': |Job '[^'\n]*' (?:was )?)(?P<word>[A-Za-z]+)$"
    + r"(?:\s[^\n]* -- -+\s[^\n]* failed with exit code (?P<code>[0-9]+))?"
)


def _report(status: Command, every: float | None = None) -> Report:
    return Report(command=status, pattern=_SAID, states=_STATES, every=every)


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


@cache
def _template(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")
