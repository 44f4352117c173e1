"""The target `kubernetes`: an object of the cluster carries the run out, and kubectl speaks of it.

Each node is a pod. Its one command is a script of bash that says everything the launcher needs, so that nothing that
a controller puts into the pod's environment changes the run.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

import msgspec

from ...spec import Finding, ResolvedSpec, finding
from ...spec.hardware import AutoHardware, Gpu, Tpu
from ...spec.targets.kubernetes import Kubernetes
from ..launchers import Launcher, launcher_of
from ..launchers.base import joined
from ..plan import Argv, Capture, Command, LaunchPlan, NodeGroup, Ref, Report, RunCommand, Standing, Text, WriteFile
from .base import Deployment
from .manifests import APIS, LABEL, manifest, replaced
from .pods import node_commands, script, slice_selector

LAUNCHERS = frozenset({"python", "torchrun", "deepspeed", "xla"})
DEPENDS = False

_EVERY = 10.0  # seconds between two questions how a run is doing
_ARGUMENT = 131072  # bytes of one argument of a program on Linux, with the byte that ends it
_STATES: dict[str, Standing] = {
    "gone": "stopped",
    "pending": "pending",
    "running": "running",
    "Suspended": "pending",
    "Running": "running",
    "Restarting": "pending",
    "Complete": "succeeded",
    "Completed": "succeeded",
    "Succeeded": "succeeded",
    "Failed": "failed",
}
#: The last word counts; the code is that of the first container that ended badly.
_PATTERN = rf"\A(?=[\s\S]*?^exit (?P<code>[1-9][0-9]*)$|)[\s\S]*^(?P<word>{'|'.join(_STATES)})$"


def check(spec: ResolvedSpec) -> Iterator[Finding]:
    """What a pod needs and is not said, what Kubernetes decides, and what ends with a pod."""
    yield from _lacking(spec)
    yield from _idle(spec)
    yield from _places(spec)
    yield from _slices(spec)
    yield from _hints(spec)
    yield from _twice(spec)
    size = _size(spec)
    if size >= _ARGUMENT:
        cause = f"the script of a node has {size / 1024:.0f} KiB, and a command of a container {_ARGUMENT // 1024} KiB"
        step = "read what is long from a file: shorten `args`, `command`, `env` or `setup`"
        yield finding("J338", cause, place=spec.place("args") or spec.place("target"), next_step=step)


def _twice(spec: ResolvedSpec) -> Iterator[Finding]:
    """What is said in `extra` and by a field; the object is made for it only where there is something to compare."""
    target = _target(spec)
    if not target.extra:
        return
    for path in replaced(spec, target, node_commands(spec, launcher_of(spec))[0]):
        cause = f"`{path}` of `target.extra` is in the object already"
        step = "remove it: a field of the document says it; `jobc plan --files` shows the object"
        place = spec.place(f"target.extra.{path}") or spec.place("target")
        yield finding("J331", cause, place=place, next_step=step)


def _lacking(spec: ResolvedSpec) -> Iterator[Finding]:
    target, place = _target(spec), spec.place("target.api") or spec.place("target")
    if target.image is None and target.api != "trainjob":
        cause = f"`target.api: {target.api}` needs an image: there is no runtime that has one"
        yield finding("J335", cause, place=place, next_step="add `target.image: registry/name:tag`")
    if spec.job.secrets and target.secret is None:
        cause = "the job has `secrets`, and in a cluster a Secret holds their values, which `target.secret` names"
        values = " ".join(f'--from-literal={name}="${name}"' for name in spec.job.secrets)
        step = "write `target.secret: keys`; made once by: kubectl create secret generic keys"
        yield finding("J335", cause, place=spec.place("secrets"), next_step=f"{step} {values}")


def _idle(spec: ResolvedSpec) -> Iterator[Finding]:
    """Settings that have no effect here."""
    job, target = spec.job, _target(spec)
    if target.api != "trainjob" and spec.origin("target.runtime").explicit:
        cause = f"`target.runtime` has no effect: `target.api: {target.api}` builds on none"
        yield finding("J311", cause, place=spec.place("target.runtime"), next_step="remove it")
    if target.secret is not None and not job.secrets:
        cause = "`target.secret` has no effect: `secrets` names no key of it"
        yield finding("J311", cause, place=spec.place("target.secret"), next_step="list the keys in `secrets`")
    if target.gpu_resource is not None and not isinstance(job.hardware, Gpu):
        cause = "`target.gpu_resource` has no effect: the job asks for no GPU"
        yield finding("J311", cause, place=spec.place("target.gpu_resource"), next_step="write `hardware: gpu`")
    if job.launcher == "python" and job.processes_per_node > 1:
        cause = f"`launcher: python` starts one process in a pod, and `hardware.per_node` is {job.processes_per_node}"
        place = spec.place("launcher") or spec.place("hardware.per_node")
        yield finding("J311", cause, place=place, next_step="use `launcher: torchrun`, or more nodes of one process")
    if isinstance(job.hardware, Gpu) and job.hardware.ids is not None:
        cause = "`hardware.ids` has no effect: Kubernetes hands GPUs to a pod, and it sees no others"
        step = f"write `hardware.per_node: {job.processes_per_node}`"
        yield finding("J311", cause, place=spec.place("hardware.ids"), next_step=step)


def _places(spec: ResolvedSpec) -> Iterator[Finding]:
    """Files that no path leads to in a container."""
    job, target = spec.job, _target(spec)
    where = f"`target.folder: {target.folder}`"
    outside = [name for name in ("script", "workdir") if (getattr(job, name) or "").startswith("..")]
    for name in outside:
        cause = f"`{name}: {getattr(job, name)}` is not below the job's folder, which is {where} in the containers"
        step = "put the job file above it, or write its whole path in the containers"
        yield finding("J302", cause, place=spec.place(name), next_step=step)
    if posixpath.isabs(job.workdir) and job.script is not None and not posixpath.isabs(job.script):
        cause = f"`script: {job.script}` starts in `workdir: {job.workdir}`, from where {where} is not known"
        step = "write the script's whole path in the containers too"
        yield finding("J302", cause, place=spec.place("script") or spec.place("workdir"), next_step=step)
    if "/dev/shm" in {posixpath.normpath(path) for path in target.volumes}:  # noqa: S108 - not a file of ours
        cause = "`target.volumes` mounts /dev/shm, which every pod has"
        step = "say how large it is with `target.shared_memory`"
        yield finding("J106", cause, place=spec.place("target.volumes"), next_step=step)


def _slices(spec: ResolvedSpec) -> Iterator[Finding]:
    """TPUs of GKE."""
    hardware, target = spec.job.hardware, _target(spec)
    if not isinstance(hardware, Tpu):
        return
    selector, place = slice_selector(spec), spec.place("hardware.type") or spec.place("hardware.kind")
    if target.api == "pytorchjob":
        cause = "`target.api: pytorchjob` makes pods that GKE gives no place in a slice of TPUs"
        yield finding("J311", cause, place=spec.place("target.api"), next_step="use `trainjob` or `jobset`")
    if hardware.type is None:
        cause = "GKE finds TPUs by their type and topology, and `hardware.type` is not said"
        yield finding("J335", cause, place=place, next_step="write one such as `hardware.type: v6e-16`")
    elif selector and not all(selector.values()):
        cause = f"GKE has no machines of `hardware.type: {hardware.type}` that jobc knows by their labels"
        yield finding("J335", cause, place=place, next_step="use a smaller slice, or another generation")
    for name in sorted(set(selector) & set(target.node_selector)):
        cause = f"`target.node_selector` says `{name}`, which follows from `hardware.type: {hardware.type}`"
        yield finding("J312", cause, place=spec.place("target.node_selector"), next_step="take it out")


def _hints(spec: ResolvedSpec) -> Iterator[Finding]:
    job, target = spec.job, _target(spec)
    if isinstance(job.hardware, AutoHardware):
        cause = "`hardware: auto` asks Kubernetes for no GPU, and a pod that asks for none has none"
        place = spec.place("hardware.kind") if spec.origin("hardware.kind").explicit else spec.place("target")
        yield finding("J336", cause, place=place, next_step="write `hardware: gpu`, or `hardware: cpu`")
    saving = job.training.checkpoint
    if saving.every_steps or saving.every_minutes or saving.on_preemption == "save" or saving.resume == "auto":
        folder = posixpath.normpath(posixpath.join(target.folder, saving.folder))
        kept = [path for path, source in target.volumes.items() if not source.startswith("scratch")]
        if not any(f"{folder}/".startswith(f"{posixpath.normpath(path)}/") for path in kept):
            cause = f"checkpoints go to {folder}, which is on no volume and ends with its container"
            step = "mount one there: `target.volumes: {" + folder + ": claim:NAME}`"
            place = spec.place("training.checkpoint.folder") or spec.place("training.checkpoint")
            yield finding("J337", cause, place=place or spec.place("target"), next_step=step)


def _size(spec: ResolvedSpec) -> int:
    """Bytes of the script that each node runs."""
    written = script(spec, node_commands(spec, launcher_of(spec))[0])
    packed = LaunchPlan(
        name=spec.job.name,
        spec=spec.values(),
        origins=msgspec.to_builtins(spec.origins),
        nodes=(),
        submit=(),
    ).packed_document()
    known = {"packed_spec": packed}
    parts = (written,) if isinstance(written, str) else written
    return sum(len((part if isinstance(part, str) else known.get(part.ref, "x" * 80)).encode()) for part in parts) + 1


def deploy(spec: ResolvedSpec, launcher: Launcher) -> Deployment:
    """Write the object, have it made; every other verb asks the cluster by the name of the run."""
    target, commands = _target(spec), node_commands(spec, launcher)
    text, file = manifest(spec, target, commands[0]), joined((Ref("run_dir"),), "/manifest.yaml")
    group = NodeGroup(first=0, count=spec.job.nodes.count, processes=spec.job.processes_per_node, commands=commands)
    create = _kubectl(spec, "create", "--filename", file, "--output", "name")
    made = Command(argv=create, output="tagged", title="kubectl")
    gate = _kubectl(spec, "create", "--dry-run=server", "--filename", "-", "--output", "name")
    resource = APIS[target.api].resource
    delete = ("delete", resource, (Ref("run_word"),), "--cascade=foreground", "--wait=false", "--ignore-not-found")
    return Deployment(
        nodes=(group,),
        submit=(
            WriteFile(path=file, content=text, mode=0o600),
            RunCommand(command=made, captures=(Capture(name="object", pattern=r"^(\S+/\S+)$"),)),
        ),
        status=(_report(spec, None),),
        wait=(_report(spec, _EVERY),),
        logs=(RunCommand(command=Command(argv=_logs(spec))),),
        follow=(
            RunCommand(
                command=Command(
                    argv=(*_logs(spec), "--follow", f"--max-log-requests={max(spec.job.nodes.count, 5)}"),
                )
            ),
        ),
        stop=(RunCommand(command=Command(argv=_kubectl(spec, *delete))),),
        preflight=(RunCommand(command=Command(argv=gate, stdin=text, output="tagged", title="kubectl")),),
        inputs={},
        secrets=(),
    )


def _report(spec: ResolvedSpec, every: float | None) -> Report:
    """Asks for the object and its pods in one question; neither is there once it was deleted."""
    api = APIS[_target(spec).api]
    running = f'{{range {api.running}}}{{"running\\n"}}{{end}}' if api.running else ""
    question = (
        f'{{"gone\\n"}}{{range .items[?(@.kind=="{api.kind}")]}}{{"pending\\n"}}{running}'
        '{range .status.conditions[?(@.status=="True")]}{.type}{"\\n"}{end}'
        '{range .status.conditions[?(@.reason=="DeadlineExceeded")]}{"exit 124\\n"}{end}{end}'
        '{range .items[*].status.containerStatuses[*].state.terminated}{"exit "}{.exitCode}{"\\n"}{end}'
    )
    asked = (
        "get",
        f"{api.resource},pods",
        "--selector",
        (f"{LABEL}=", Ref("run_word")),
        f"--output=jsonpath={question}",
    )
    return Report(command=Command(argv=_kubectl(spec, *asked)), pattern=_PATTERN, states=_STATES, every=every)


def _logs(spec: ResolvedSpec) -> Argv:
    container = APIS[_target(spec).api].container
    which = ("--selector", (f"{LABEL}=", Ref("run_word")), "--container", container)
    return _kubectl(spec, "logs", *which, "--prefix", "--tail=-1", "--ignore-errors")


def _kubectl(spec: ResolvedSpec, verb: str, *words: Text) -> Argv:
    target = _target(spec)
    where: list[Text] = []
    if target.kubeconfig is not None:
        path = target.kubeconfig
        where += ["--kubeconfig", path if posixpath.isabs(path) else joined((Ref("project_dir"),), f"/{path}")]
    where += [word for name in ("context", "namespace") if (word := _option(name, getattr(target, name)))]
    return ("kubectl", *where, verb, *words)


def _option(name: str, value: str | None) -> str | None:
    return None if value is None else f"--{name}={value}"


def _target(spec: ResolvedSpec) -> Kubernetes:
    target = spec.job.target
    if not isinstance(target, Kubernetes):
        raise TypeError("the target `kubernetes` was chosen for a job that has another")
    return target
