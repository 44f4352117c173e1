"""What no launcher and no target could honour: settings that contradict each other."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..spec import Finding, ResolvedSpec, finding
from ..spec.capabilities import planned_kinds
from ..spec.hardware import cpu_lists
from ..spec.model import Cpu, Ddp, Fsdp, Gpu, NoParadigm, Paradigm
from ..spec.targets import Inherit
from ..spec.training import Compile, Dataloader
from . import formats, secrets, sharding, tpus
from .launchers import LAUNCHERS, foreign_targets, launcher_of
from .targets import target_of

_RESERVED = re.compile(
    r"(RANK|LOCAL_RANK|GROUP_RANK|ROLE_RANK|ROLE_NAME|WORLD_SIZE|LOCAL_WORLD_SIZE|GROUP_WORLD_SIZE|ROLE_WORLD_SIZE"
    r"|MASTER_ADDR|MASTER_PORT|JOBC_SPEC|PET_\w+|TORCHELASTIC_\w+)\Z"
)


def check(spec: ResolvedSpec) -> Iterator[Finding]:
    """Every contradiction within a resolved job."""
    yield from _what_runs(spec)
    yield from _target(spec)
    yield from _paradigm(spec)
    yield from _meeting(spec)
    yield from sharding.check(spec)
    yield from formats.check(spec)
    yield from tpus.check(spec)
    yield from _planned(spec)
    yield from _agent(spec)
    yield from _launcher_args(spec)
    yield from _launcher(spec)
    yield from _devices(spec)
    yield from _cores(spec)
    yield from _training(spec)
    yield from _data(spec)
    yield from _sending(spec)
    yield from _variables(spec)
    yield from _accelerate(spec)
    yield from secrets.check(spec)


def _what_runs(spec: ResolvedSpec) -> Iterator[Finding]:
    job = spec.job
    said = [name for name in ("script", "module", "command") if getattr(job, name) is not None]
    if not said:
        yield finding(
            "J301",
            "the job does not say what to run",
            next_step="add `script: train.py`, or `module:` or `command:`",
        )
    elif len(said) > 1:
        names = " and ".join(f"`{name}`" for name in said)
        yield finding("J301", f"{names} each say what to run", place=spec.place(said[-1]), next_step="keep one of them")
    if job.command is not None and job.args:
        yield finding(
            "J301",
            "`args` are the arguments of a script or module, and the job runs a command",
            place=spec.place("args"),
            next_step="write them into `command`",
        )
    words = {f"args[{index}]": word for index, word in enumerate(job.args)}
    words |= {f"command[{index}]": word for index, word in enumerate(job.command or ())}
    words |= {f"env.{name}": value for name, value in job.env.items()}
    words |= {f"setup[{index}]": word for index, word in enumerate(job.setup)}
    words |= {f"launcher_args[{index}]": word for index, word in enumerate(job.launcher_args)}
    words |= {name: getattr(job, name) or "" for name in ("script", "workdir", "python")}
    for path, word in words.items():
        if "\0" in word:
            yield finding("J106", f"`{path}` holds a NUL byte, which no command line can carry", place=spec.place(path))


def _target(spec: ResolvedSpec) -> Iterator[Finding]:
    """What the target declares that it cannot do."""
    job, target = spec.job, target_of(spec)
    kind = job.target.__struct_config__.tag
    if job.launcher not in target.LAUNCHERS and kind not in foreign_targets(job.launcher):
        cause = f"`target: {kind}` cannot start processes with `launcher: {job.launcher}`"
        names = " or ".join(f"`launcher: {name}`" for name in sorted(target.LAUNCHERS))
        yield finding("J311", cause, place=spec.place("launcher"), next_step=f"use {names}, or leave `launcher` out")
    if job.depends_on and not target.DEPENDS:
        cause = f"`target: {kind}` cannot hold a run back until others have succeeded"
        step = f"start it after them: jobc wait {job.depends_on[0]} && jobc run ..."
        yield finding("J311", cause, place=spec.place("depends_on"), next_step=step)


def _planned(spec: ResolvedSpec) -> Iterator[Finding]:
    for item in planned_kinds(spec.values(), spec.job.launcher):
        cause = f"`{item.name}` can be planned with this version of jobc, and not run yet"
        yield finding("J320", cause, place=spec.place(f"{item.block}.kind"), next_step=item.instead)


def _paradigm(spec: ResolvedSpec) -> Iterator[Finding]:
    job = spec.job
    if isinstance(job.paradigm, NoParadigm) and job.processes > 1:
        yield finding(
            "J304",
            f"`paradigm: none` trains one model in one process, and the job has {job.processes}",
            place=spec.place("paradigm.kind"),
            next_step="write `paradigm: ddp`, or `hardware.per_node: 1`",
        )
    if job.processes > 1:
        return
    idle = _ALONE.get(type(job.paradigm))
    if idle is not None and spec.origin("paradigm.kind").explicit:
        yield finding("J306", idle, place=spec.place("paradigm.kind"))
    for path, value in {
        "nodes.rendezvous.port": job.nodes.rendezvous.port,
        "nodes.collective_timeout": job.nodes.collective_timeout,
    }.items():
        if value is not None:
            yield finding("J306", f"`{path}` has no effect: one process meets nobody", place=spec.place(path))


def _meeting(spec: ResolvedSpec) -> Iterator[Finding]:
    """How nodes meet, where there is one."""
    for path in ("nodes.rendezvous.backend", "nodes.rendezvous.address"):
        if spec.job.nodes.count == 1 and spec.origin(path).explicit:
            yield finding("J306", f"`{path}` has no effect: there is one node", place=spec.place(path))


#: What a paradigm for several processes is with one.
_ALONE: dict[type[Paradigm], str] = {
    Ddp: "`paradigm: ddp` has nothing to average with one process",
    Fsdp: "`paradigm: fsdp` has nothing to cut in pieces with one process, which holds the whole model",
}


def _agent(spec: ResolvedSpec) -> Iterator[Finding]:
    """Settings of an agent that watches over processes, which not every launcher is."""
    job = spec.job
    asked = {
        "nodes.max_restarts": job.nodes.max_restarts,
        "nodes.monitor_interval": job.nodes.monitor_interval,
        "nodes.rendezvous.conf": job.nodes.rendezvous.conf,
        "hardware.numa_binding": isinstance(job.hardware, Gpu) and job.hardware.numa_binding != "none",
    }
    for path, value in asked.items():
        if value and not launcher_of(spec).RESTARTS:
            yield finding(
                "J311",
                f"`{path}` has no effect: the launcher `{job.launcher}` only starts processes",
                place=spec.place(path),
                next_step="use `launcher: torchrun`, which has it, or remove the setting",
            )
    if job.nodes.max_restarts and job.nodes.count > 1 and job.nodes.rendezvous.backend == "static":
        cause = "`nodes.max_restarts` has no effect on several nodes with `nodes.rendezvous.backend: static`"
        step = "use `backend: c10d`: only there do the nodes meet again after one of them started anew"
        yield finding("J311", cause, place=spec.place("nodes.max_restarts"), next_step=step)
    for name, value in job.nodes.rendezvous.conf.items():
        if "," in value or "=" in value or not value:
            path = f"nodes.rendezvous.conf.{name}"
            cause = f"`{path}` is one value, and torchrun would take it for several"
            yield finding("J106", cause, place=spec.place(path), next_step="write it without `,` and `=`")


def _launcher(spec: ResolvedSpec) -> Iterator[Finding]:
    """Hardware that the launcher's processes cannot use, and what it cannot honour beside."""
    job, launcher = spec.job, launcher_of(spec)
    kind = job.hardware.__struct_config__.tag
    if kind not in launcher.HARDWARE and spec.origin("launcher").explicit:
        words = " or ".join(f"`{name}`" for name, item in LAUNCHERS.items() if kind in item.HARDWARE)
        cause = f"`launcher: {job.launcher}` does not start processes for `hardware: {kind}`"
        yield finding("J355", cause, place=spec.place("launcher"), next_step=f"use {words}, or leave `launcher` out")
    if job.function is not None and not launcher.FUNCTIONS:
        cause = f"`function` has no effect: `launcher: {job.launcher}` runs a script from its first line"
        yield finding("J311", cause, place=spec.place("function"), next_step="call it at the end of the script")
    if kind in launcher.HARDWARE:
        yield from launcher.check(spec)


def _launcher_args(spec: ResolvedSpec) -> Iterator[Finding]:
    options = launcher_of(spec).OPTIONS
    for index, word in enumerate(spec.job.launcher_args):
        place = spec.place(f"launcher_args[{index}]")
        if options is None:
            cause = f"`launcher_args` have no effect: the launcher `{spec.job.launcher}` takes no options"
            step = "use `launcher: torchrun`, or remove them; options of the script stand in `args`"
            yield finding("J311", cause, place=spec.place("launcher_args"), next_step=step)
            return
        name = word.lstrip("-").partition("=")[0].replace("_", "-")
        if word.startswith("-") and name in options:
            cause = f"`launcher_args`: `{word}` is said by the job already, in a field of its own"
            yield finding("J311", cause, place=place, next_step="remove it; `jobc plan` shows the whole command")


def _devices(spec: ResolvedSpec) -> Iterator[Finding]:
    hardware = spec.job.hardware
    if not isinstance(hardware, Gpu) or hardware.ids is None:
        return
    place = spec.place("hardware.ids")
    if len(set(hardware.ids)) < len(hardware.ids):
        yield finding("J312", "`hardware.ids` names a GPU twice", place=place, next_step="give each process its own")
    if len(hardware.ids) != spec.job.processes_per_node:
        cause = f"`hardware.ids` names {len(hardware.ids)} GPUs, and there are {spec.job.processes_per_node} processes"
        step = "leave `hardware.per_node` out: it is the number of GPUs that `ids` names"
        yield finding("J312", cause, place=place, next_step=step)
    if "CUDA_VISIBLE_DEVICES" in spec.job.env:
        cause = "`env.CUDA_VISIBLE_DEVICES` and `hardware.ids` both say which GPUs are used"
        yield finding("J312", cause, place=spec.place("env.CUDA_VISIBLE_DEVICES"), next_step="keep `hardware.ids`")


def _cores(spec: ResolvedSpec) -> Iterator[Finding]:
    """CPUs for each process, which only those that are started one by one can be given."""
    job, path = spec.job, "hardware.cpu_affinity"
    lists = cpu_lists(job.hardware)
    if lists is None:
        return
    place = spec.place(path)
    if len(lists) != job.processes_per_node:
        entries = "1 entry" if len(lists) == 1 else f"{len(lists)} entries"
        cause = f"`{path}` has {entries}, and `hardware.per_node` is {job.processes_per_node}"
        yield finding("J312", cause, place=place, next_step="write one entry for each process of a node")
    for index, text in enumerate(lists):
        for first, last in re.findall(r"([0-9]+)-([0-9]+)", text):
            if int(first) > int(last):
                cause = f"`{first}-{last}` in `{path}` ends before it begins"
                yield finding("J106", cause, place=spec.place(f"{path}[{index}]"), next_step=f"write `{last}-{first}`")
    if launcher_of(spec).RESTARTS:
        cause = f"`{path}` has no effect: torchrun starts its processes all alike"
        step = "use `launcher: python`"
        if isinstance(job.hardware, Gpu):
            step += ", or `hardware.numa_binding`, with which torchrun binds each process to CPUs near its GPU"
        yield finding("J311", cause, place=place, next_step=step)
    elif isinstance(job.target, Inherit):
        cause = f"`{path}` has no effect: with `target: inherit` whatever starts the processes binds them"
        yield finding("J311", cause, place=place, next_step="ask it to, as with `srun --cpu-bind=cores`")


def _training(spec: ResolvedSpec) -> Iterator[Finding]:
    job, chosen = spec.job, spec.job.training.compile
    even = "training.dataloader.even_batches"
    if isinstance(job.paradigm, Fsdp) and job.processes > 1 and not job.training.dataloader.even_batches:
        yield finding(
            "J311",
            f"`{even}: false` lets processes end at different batches; with `paradigm: fsdp` each needs all",
            place=spec.place(even),
            next_step="leave it away, or train with `paradigm=ddp`",
        )
    if isinstance(job.paradigm, Fsdp) and job.processes > 1 and chosen.fullgraph:
        path = "training.compile.fullgraph"
        yield finding(
            "J311",
            f"`{path}` refuses every break in the graph, and `paradigm: fsdp` has one around each part it gathers",
            place=spec.place(path),
            next_step="leave it away, or train with `paradigm=ddp`",
        )
    if job.training.activation_offload:
        yield from _activations(spec)
    if job.training.debug and job.processes == 1:
        cause = "`training.debug` has no effect: one process makes no collectives that could differ"
        yield finding("J306", cause, place=spec.place("training.debug"))
    for field in ("mode", "fullgraph", "dynamic", "regional"):
        path, value = f"training.compile.{field}", getattr(chosen, field)
        if value == getattr(_NOT_COMPILED, field):
            continue
        if chosen.backend == "none":
            cause, step = "nothing is compiled", "add `backend: inductor`, or remove the setting"
        elif field == "mode" and chosen.backend != "inductor":
            cause, step = (
                f"the backend `{chosen.backend}` has no modes",
                "use `backend: inductor`, or remove the setting",
            )
        else:
            continue
        yield finding("J311", f"`{path}` has no effect: {cause}", place=spec.place(path), next_step=step)


def _activations(spec: ResolvedSpec) -> Iterator[Finding]:
    path, again = "training.activation_offload", "training.activation_checkpointing"
    if isinstance(spec.job.hardware, Cpu):
        cause, step = "with `hardware: cpu` everything is in memory", "remove it"
    elif not spec.job.training.activation_checkpointing:
        cause, step = f"it is about blocks that `{again}` computes again", f"add `{again}: true`, or remove it"
    else:
        return
    yield finding("J311", f"`{path}` has no effect: {cause}", place=spec.place(path), next_step=step)


_NOT_COMPILED = Compile()


def _sending(spec: ResolvedSpec) -> Iterator[Finding]:
    paradigm, path = spec.job.paradigm, "paradigm.comm_hook"
    if isinstance(paradigm, Ddp) and paradigm.comm_hook == "bf16" and isinstance(spec.job.hardware, Cpu):
        cause = f"`{path}: bf16` is sent by NCCL, between GPUs, and the job has `hardware: cpu`"
        yield finding("J311", cause, place=spec.place(path), next_step="use `fp16`, or leave it away")


def _data(spec: ResolvedSpec) -> Iterator[Finding]:
    path, loader = "training.dataloader.prefetch", spec.job.training.dataloader
    if isinstance(spec.job.hardware, Cpu) and loader.prefetch not in (0, Dataloader().prefetch):
        cause = f"`{path}` has no effect: with `hardware: cpu` batches are made where they are needed"
        yield finding("J311", cause, place=spec.place(path), next_step="leave it away")
    path = "training.dataloader.dispatch"
    if loader.dispatch and spec.job.processes == 1:
        yield finding("J306", f"`{path}` has no effect: one process reads all data anyway", place=spec.place(path))


#: Variables that Accelerate takes settings from, by how they begin, and what says the same here.
_ACCELERATE = {
    "ACCELERATE_MIXED_PRECISION": "`precision`",
    "MIXED_PRECISION": "`precision`",
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "`training.gradient_accumulation`",
    "ACCELERATE_USE_CPU": "`hardware: cpu`",
    "ACCELERATE_DYNAMO_": "`training.compile`",
    "ACCELERATE_DEBUG_MODE": "`training.debug`",
    "ACCELERATE_DEEPSPEED_": "`paradigm: deepspeed`",
    "ACCELERATE_FP8_": "`precision: fp8`",
    "FSDP_": "`paradigm: fsdp`",
    "MEGATRON_LM_": "`paradigm: megatron`",
    "ACCELERATE_": "a field of the document (docs/reference/accelerate.md)",
}


def _accelerate(spec: ResolvedSpec) -> Iterator[Finding]:
    for name in spec.job.env:
        here = next((words for begin, words in _ACCELERATE.items() if name.startswith(begin)), None)
        if here is not None:
            cause = f"`env.{name}` is a setting of Accelerate, and jobc takes none from the environment"
            yield finding("J325", cause, place=spec.place(f"env.{name}"), next_step=f"say it with {here}")


def _variables(spec: ResolvedSpec) -> Iterator[Finding]:
    job = spec.job
    for name in job.env:
        if _RESERVED.match(name):
            yield finding(
                "J308",
                f"`{name}` is set by jobc or the launcher, and a value in `env` would break the job",
                place=spec.place(f"env.{name}"),
                next_step="leave it out; the plan shows its value",
            )
    threads = "hardware.threads_per_process"
    if "OMP_NUM_THREADS" in job.env and spec.origin(threads).explicit:
        yield finding(
            "J308",
            f"`env.OMP_NUM_THREADS` and `{threads}` are the same setting",
            place=spec.place("env.OMP_NUM_THREADS"),
            next_step=f"keep `{threads}`",
        )
    for name in job.env:
        if name in job.secrets:
            yield finding(
                "J308",
                f"`{name}` is listed in `secrets` and given a value in `env`",
                place=spec.place(f"env.{name}"),
                next_step="keep it in `secrets`; the process finds it in its environment",
            )
