"""The target `slurm`: a batch script that sbatch queues, and in it one srun that starts a task for each launcher.

Nodes share this machine's disks: the tasks read their script from the run's folder and write their output there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

import msgspec

from ...spec import Finding, ResolvedSpec, finding
from ...spec.hardware import Gpu, Tpu, cpu_lists
from ...spec.targets.slurm import Slurm
from ..launchers import Launcher
from ..launchers.base import Site, joined
from ..plan import (
    Argv,
    Array,
    Capture,
    Command,
    LaunchPlan,
    NodeGroup,
    Ref,
    Report,
    RunCommand,
    Standing,
    WriteFile,
)
from .base import Deployment
from .local import inputs, missing_files, time_limit
from .slurm_scripts import STATUS, STOP, array_script, batch_script, task_script

LAUNCHERS = frozenset({"python", "torchrun", "deepspeed"})
DEPENDS = True

_JOB = Ref("captured", name="job_id")
_EVERY = 3.0  # seconds between two questions to slurmctld
_ARRAY = "array.sbatch"
#: Slurm's states, from the manual of squeue.
_STATES: dict[str, Standing] = {
    **dict.fromkeys(("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT"), "pending"),
    **dict.fromkeys(("RUNNING", "COMPLETING", "SIGNALING", "STAGE_OUT", "STOPPED", "SUSPENDED", "RESIZING"), "running"),
    "COMPLETED": "succeeded",
    **dict.fromkeys(("CANCELLED", "REVOKED"), "stopped"),
    **dict.fromkeys(
        ("FAILED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "BOOT_FAIL", "PREEMPTED", "DEADLINE", "LAUNCH_FAILED"),
        "failed",
    ),
}


def check(spec: ResolvedSpec) -> Iterator[Finding]:
    """What Slurm decides, settings without effect, files that are not here."""
    job, target = spec.job, _target(spec)
    yield from missing_files(spec)
    yield from _devices(spec, target)
    for path in ("gpus", "gpu_type"):
        if getattr(target, path) != getattr(_USUAL, path) and not isinstance(job.hardware, Gpu):
            cause = f"`target.{path}` has no effect: the job asks for no GPUs"
            yield finding("J311", cause, place=spec.place(f"target.{path}"), next_step="add `hardware: gpu`")
    for path in ("container_runtime", "container_mounts"):
        if getattr(target, path) != getattr(_USUAL, path) and target.container_image is None:
            cause = f"`target.{path}` has no effect: the processes run on the node itself"
            yield finding("J311", cause, place=spec.place(f"target.{path}"), next_step="add `container_image`")
    seconds, before = time_limit(spec), target.signal_before
    if before is not None and seconds is not None and before >= seconds:
        cause = f"`target.signal_before` is {before} s, and the job may take {seconds:g} s"
        step = "make it shorter than `limits.minutes`"
        yield finding("J106", cause, place=spec.place("target.signal_before"), next_step=step)
    yield from _options(spec, target)
    saved = job.training.checkpoint
    if target.requeue and (saved.resume == "never" or saved.on_preemption == "ignore"):
        cause = "a job that is queued again begins anew, unless its script goes on from a checkpoint by itself"
        step = "add `training: {checkpoint: {resume: auto, on_preemption: save}}`"
        yield finding("J332", cause, place=spec.place("target.requeue"), next_step=step)


def _devices(spec: ResolvedSpec, target: Slurm) -> Iterator[Finding]:
    hardware = spec.job.hardware
    if isinstance(hardware, Tpu):
        cause = "`hardware: tpu` asks for devices that no Slurm hands out"
        yield finding("J330", cause, place=spec.place("hardware.kind"), next_step="use `hardware: gpu` or `cpu`")
    if isinstance(hardware, Gpu) and hardware.ids is not None:
        cause = "`hardware.ids` chooses GPUs, and Slurm gives a job those that are free"
        step = "write `hardware.per_node`; `target.gpu_type` says of which type"
        yield finding("J330", cause, place=spec.place("hardware.ids"), next_step=step)
    if isinstance(hardware, Gpu) and spec.origin("hardware.per_node").layer == "detected":
        cause = "`hardware.per_node: all` counts the GPUs of this machine, and the job runs on others"
        yield finding("J310", cause, place=spec.place("hardware.per_node"), next_step="write a number")
    if cpu_lists(hardware) is not None and not target.exclusive:
        cause = "`hardware.cpu_affinity` chooses CPUs, and Slurm gives a job those that are free"
        step = "add `target.exclusive: true`, which gives it all"
        yield finding("J330", cause, place=spec.place("hardware.cpu_affinity"), next_step=step)


def _options(spec: ResolvedSpec, target: Slurm) -> Iterator[Finding]:
    """Options of sbatch that the plan sets already, or that would change what its scripts rely on."""
    for index, option in enumerate(target.extra):
        found = re.match(r"--?([A-Za-z-]+)", option)
        name = found[1] if found is not None else ""
        name = _SHORT.get(name[:1], name) if not option.startswith("--") else name
        if name in _SET:
            cause = f"`target.extra`: `{option}` is an option that the plan sets"
            step = f"use `{_SET[name]}`" if _SET[name] else "remove it; `jobc plan --files` shows the script"
            yield finding("J331", cause, place=spec.place(f"target.extra[{index}]"), next_step=step)


_USUAL = Slurm()
#: Options of sbatch that follow from the document, with the field that says the same.
_SET = {
    "job-name": "name", "nodes": "nodes", "ntasks-per-node": "hardware.per_node", "ntasks": "hardware.per_node",
    "cpus-per-task": "target.cpus_per_task", "time": "limits.minutes", "partition": "target.partition",
    "account": "target.account", "qos": "target.qos", "reservation": "target.reservation",
    "constraint": "target.constraint", "nodelist": "target.nodelist", "exclude": "target.exclude",
    "exclusive": "target.exclusive", "gpus-per-node": "hardware.per_node", "gpus": "hardware.per_node",
    "gres": "target.gpus", "mem": "target.memory", "requeue": "target.requeue", "no-requeue": "target.requeue",
    "signal": "target.signal_before", "dependency": "depends_on", "export": "target.export", "array": "", "output": "",
    "error": "", "chdir": "", "parsable": "", "wrap": "", "test-only": "", "open-mode": "", "wait": "",
}  # fmt: skip
_SHORT = {
    "J": "job-name", "N": "nodes", "n": "ntasks", "c": "cpus-per-task", "t": "time", "p": "partition", "A": "account",
    "q": "qos", "C": "constraint", "w": "nodelist", "x": "exclude", "G": "gpus", "d": "dependency", "a": "array",
    "o": "output", "e": "error", "D": "chdir", "W": "wait",
}  # fmt: skip


def deploy(spec: ResolvedSpec, launcher: Launcher) -> Deployment:
    """Write the scripts, queue the job, ask how it is."""
    target = _target(spec)
    commands = tuple(_in_files(command) for command in launcher.node_commands(spec, _site(spec, target)))
    options = options_of(spec, target, tasks=len(commands))
    batch = batch_script(spec, target, options, commands)
    gate = Command(argv=("sbatch", "--test-only"), stdin=batch, output="tagged", title="sbatch", unset=("SBATCH_",))
    return Deployment(
        nodes=(
            NodeGroup(first=0, count=spec.job.nodes.count, processes=spec.job.processes_per_node, commands=commands),
        ),
        submit=(
            WriteFile(path=(Ref("run_dir"), "/spec.json"), content=(Ref("spec"),), mode=0o600),
            WriteFile(path=(Ref("run_dir"), "/task.sh"), content=task_script(spec, commands), mode=0o700),
            WriteFile(path=(Ref("run_dir"), "/job.sbatch"), content=batch, mode=0o700),
            WriteFile(path=(Ref("run_dir"), "/status.sh"), content=STATUS, mode=0o700),
            WriteFile(path=(Ref("run_dir"), "/stop.sh"), content=STOP, mode=0o700),
            _submission(spec, target, "job.sbatch"),
        ),
        status=(_report(None),),
        wait=(_report(_EVERY),),
        logs=(_shown(),),
        stop=(RunCommand(command=Command(argv=("bash", (Ref("run_dir"), "/stop.sh"), (_JOB,)))),),
        preflight=(RunCommand(command=gate),),
        inputs=inputs(spec),
    )


def _target(spec: ResolvedSpec) -> Slurm:
    target = spec.job.target
    if not isinstance(target, Slurm):
        raise TypeError("the target `slurm` was chosen for a job that has another")
    return target


def _site(spec: ResolvedSpec, target: Slurm) -> Site:
    several = spec.job.nodes.count > 1
    address = spec.job.nodes.rendezvous.address
    return Site(
        node=(Ref("node"),) if several else "0",
        python=(Ref("python"),) if target.container_image is None else "python3",
        logs=(Ref("run_dir"), "/logs/torchrun"),
        address=address or ((Ref("head"),) if several else "127.0.0.1"),
        output="stream",
    )


def _in_files(command: Command) -> Command:
    """What the task script does with a command's output: a file of its rank, or of its node where lines are tagged."""
    return msgspec.structs.replace(command, output="tagged" if command.output == "tagged" else "capture")


def options_of(spec: ResolvedSpec, target: Slurm, tasks: int) -> tuple[str, ...]:
    """The options of sbatch that the script holds, one a line."""
    job, hardware, minutes = spec.job, spec.job.hardware, spec.job.limits.minutes
    cpus = target.cpus_per_task
    if cpus is None and not target.exclusive:
        cpus = (hardware.threads_per_process or 1) * job.processes_per_node // tasks
    kind = "" if target.gpu_type is None else f"{target.gpu_type}:"
    gpus = None if not isinstance(hardware, Gpu) else f"{kind}{job.processes_per_node}"
    before = target.signal_before or (120 if target.requeue else None)
    said: dict[str, object] = {
        "job-name": job.name,
        "nodes": job.nodes.count,
        "ntasks-per-node": tasks,
        "cpus-per-task": cpus,
        "gpus-per-node": gpus if target.gpus == "gpus-per-node" else None,
        "gres": f"gpu:{gpus}" if gpus is not None and target.gpus == "gres" else None,
        "mem": None if target.memory is None else target.memory.removesuffix("iB"),
        "time": None if minutes is None else math.ceil(minutes),
        "partition": target.partition,
        "account": target.account,
        "qos": target.qos,
        "reservation": target.reservation,
        "constraint": None if target.constraint is None else f'"{target.constraint}"',
        "nodelist": target.nodelist,
        "exclude": target.exclude,
        "signal": None if before is None else f"B:USR1@{before}",
        "output": "/dev/null",
    }
    return (
        *(f"--{name}={value}" for name, value in said.items() if value is not None),
        *(("--exclusive",) if target.exclusive else ()),
        "--requeue" if target.requeue else "--no-requeue",
        *target.extra,
    )


def _submission(spec: ResolvedSpec, target: Slurm, script: str) -> RunCommand:
    """Variables of sbatch itself would win over the script's lines, so that they are taken away."""
    exported = ",".join(dict.fromkeys((*target.export, *spec.job.secrets)))
    after: Argv = ()
    if spec.job.depends_on:
        ids = tuple(part for name in spec.job.depends_on for part in (":", Ref("earlier", name=name)))
        after = (joined("--dependency=afterok", ids), "--kill-on-invalid-dep=yes")
    command = Command(
        argv=("sbatch", "--parsable", f"--export={exported or 'NONE'}", *after, (Ref("run_dir"), f"/{script}")),
        output="tagged",
        title="sbatch",
        unset=("SBATCH_",),
    )
    return RunCommand(command=command, captures=(Capture(name="job_id", pattern=r"^(\d+)\b"),))


def together(sweep: Sequence[tuple[ResolvedSpec, LaunchPlan]], at_once: int | None) -> tuple[Array, ...]:
    """Job arrays of those that ask for the same; one that no other is like stays a job of its own."""
    alike: dict[tuple[tuple[str, ...], RunCommand], list[int]] = {}
    for number, (spec, plan) in enumerate(sweep):
        target = _target(spec)
        options = options_of(spec, target, tasks=len(plan.nodes[0].commands))
        alike.setdefault((options, _submission(spec, target, _ARRAY)), []).append(number)
    return tuple(
        Array(plans=tuple(numbers), submit=(_array_file(options, len(numbers), at_once), submission))
        for (options, submission), numbers in alike.items()
        if len(numbers) > 1
    )


def _array_file(options: Sequence[str], elements: int, at_once: int | None) -> WriteFile:
    script = array_script(options, elements, at_once)
    return WriteFile(path=(Ref("run_dir"), f"/{_ARRAY}"), content=script, mode=0o700)


def _report(every: float | None) -> Report:
    return Report(
        command=Command(argv=("bash", (Ref("run_dir"), "/status.sh"), (_JOB,))),
        pattern=r"^(?P<word>[A-Z_]+)( (?P<code>\d+))?$",
        states=_STATES,
        every=every,
    )


def _shown() -> RunCommand:
    """The logs of all tasks, for who reads them without jobc."""
    argv: Argv = ("find", (Ref("run_dir"), "/logs/"), "-maxdepth", "1", "-name", "*.log", "-exec", "tail", "-n", "+1")
    return RunCommand(command=Command(argv=(*argv, "{}", "+")))
