"""Settings of paradigms that contradict each other, the number of processes or the rest of the job."""

from __future__ import annotations

from collections.abc import Iterator

from ..spec import Finding, ResolvedSpec, finding
from ..spec.model import Cpu
from ..spec.paradigms import DeepSpeed, Fsdp, Megatron


def check(spec: ResolvedSpec) -> Iterator[Finding]:
    """Every contradiction of the chosen paradigm."""
    paradigm = spec.job.paradigm
    if isinstance(paradigm, Fsdp):
        yield from _fsdp(spec, paradigm)
    if isinstance(paradigm, DeepSpeed):
        yield from _deepspeed(spec, paradigm)
    if isinstance(paradigm, Megatron):
        yield from _degrees(spec, paradigm)
        yield from _pipeline(spec, paradigm)
        yield from _idle(spec, paradigm)


def _fsdp(spec: ResolvedSpec, paradigm: Fsdp) -> Iterator[Finding]:
    if paradigm.wrap != "size" and spec.origin("paradigm.min_parameters").explicit:
        yield _without_effect(spec, "min_parameters", "sizes are not looked at", "add `wrap: size`, or remove it")
    if paradigm.offload and spec.job.processes == 1:
        cause = "one process trains the model as it is, on its device"
        yield _without_effect(spec, "offload", cause, "remove it; `hardware: cpu` trains in memory")
    elif paradigm.offload and isinstance(spec.job.hardware, Cpu):
        yield _without_effect(spec, "offload", "with `hardware: cpu` everything is in memory", "remove it")
    if paradigm.sharding == "hybrid":
        yield from _groups(spec, paradigm)
    elif paradigm.replicate is not None:
        cause = "`sharding: full` spreads the pieces over all processes"
        yield _without_effect(spec, "replicate", cause, "add `sharding: hybrid`, or remove it")


def _groups(spec: ResolvedSpec, paradigm: Fsdp) -> Iterator[Finding]:
    """Groups of equal size, of at least two processes."""
    processes, groups = spec.job.processes, paradigm.replicate
    if groups is None:
        cause = "`sharding: hybrid` spreads the pieces over groups of processes, and nothing says how many there are"
        step = "add `replicate: 2` to `paradigm`; on several nodes each is a group"
        yield finding("J107", cause, place=spec.place("paradigm.sharding"), next_step=step)
    elif processes % groups or processes == groups:
        place = spec.place("paradigm.replicate") or spec.place("paradigm.sharding")
        cause = f"`paradigm.replicate: {groups}` makes that many groups of equal size, and the job has "
        cause += "1 process" if processes == 1 else f"{processes} processes"
        sizes = [number for number in range(2, processes) if processes % number == 0]
        step = f"use {' or '.join(map(str, sizes))}" if sizes else "use `sharding: full`"
        if processes == groups:
            cause, step = f"{cause}, so that each holds the whole model", f"{step}, or `paradigm=ddp`"
        yield finding("J327", cause, place=place, next_step=step)


def _deepspeed(spec: ResolvedSpec, paradigm: DeepSpeed) -> Iterator[Finding]:
    if paradigm.config_file is not None:
        yield from _said_twice(spec)
        return
    for field in ("offload_optimizer", "offload_param"):
        yield from _offload(spec, paradigm, field)
    if paradigm.zero_stage != 3:
        for field, chosen in _STAGE_3.items():
            if getattr(paradigm, field):
                yield _without_effect(
                    spec, field, f"it is of stage 3, and `zero_stage` is {paradigm.zero_stage}", chosen
                )
    yield from _machines(spec, paradigm)


#: Settings of DeepSpeed's third stage, and what to do where there is another one.
_STAGE_3 = {
    "zero3_init": "add `zero_stage: 3`, or remove it",
    "save_16bit_model": "remove it: below stage 3 every process holds the whole model",
    "moe_layers": "remove it: below stage 3 no layer has to be gathered",
}


def _offload(spec: ResolvedSpec, paradigm: DeepSpeed, field: str) -> Iterator[Finding]:
    offload = paradigm.offload_optimizer if field == "offload_optimizer" else paradigm.offload_param
    path = f"paradigm.{field}"
    if offload.device == "nvme" and offload.nvme_path is None:
        yield finding(
            "J107",
            f"`{path}` is kept in files on a disk, and there is no folder for them",
            place=spec.place(f"{path}.device"),
            next_step=f"add `nvme_path: /local_nvme` to `{path}`, a folder on each node",
        )
    if offload.device != "nvme" and offload.nvme_path is not None:
        cause = f"nothing is written there with `device: {offload.device}`"
        yield _without_effect(spec, f"{field}.nvme_path", cause, "choose `device: nvme`, or remove the path")
    if offload.device == "none" and offload.pin_memory:
        yield _without_effect(spec, f"{field}.pin_memory", "nothing is kept in memory", "choose `device: cpu`")
    if offload.device == "none":
        return
    lowest = 3 if field == "offload_param" or offload.device == "nvme" else 1
    if paradigm.zero_stage < lowest:
        yield finding(
            "J311",
            f"`{path}: {offload.device}` needs stage {lowest}, and `paradigm.zero_stage` is {paradigm.zero_stage}",
            place=spec.place(f"{path}.device"),
            next_step=f"write `zero_stage: {lowest}`"
            + ("" if lowest == 1 or field == "offload_param" else ", or `cpu`"),
        )


def _said_twice(spec: ResolvedSpec) -> Iterator[Finding]:
    """What DeepSpeed's own file says too."""
    for path in sorted(spec.origins):
        if path.startswith("paradigm.") and path.split(".")[1].partition("[")[0] in _OF_THE_FILE:
            cause = f"`{path}` is said by DeepSpeed's own file, which `paradigm.config_file` names"
            yield finding("J311", cause, place=spec.place(path), next_step="say it in one of the two places")


_OF_THE_FILE = ("zero_stage", "offload_optimizer", "offload_param", "save_16bit_model")


def _machines(spec: ResolvedSpec, paradigm: DeepSpeed) -> Iterator[Finding]:
    """Settings of the deepspeed command, which starts the machines of its own hostfile."""
    if paradigm.include is not None and paradigm.exclude is not None:
        yield finding(
            "J311",
            "`paradigm.include` and `paradigm.exclude` each say which machines of the hostfile are used",
            place=spec.place("paradigm.exclude"),
            next_step="keep one of them",
        )
    if spec.job.launcher == "deepspeed":
        return
    for field in ("hostfile", "include", "exclude", "multinode_args", "config_argument", "multinode_launcher"):
        value = getattr(paradigm, field)
        if value and value != "standard":
            cause = f"`launcher: {spec.job.launcher}` starts the processes"
            yield _without_effect(spec, field, cause, "use `launcher: deepspeed`, or remove it")


def _degrees(spec: ResolvedSpec, paradigm: Megatron) -> Iterator[Finding]:
    """The degrees against the processes of the whole job."""
    processes = spec.job.processes
    groups = {"tp_degree": paradigm.tp_degree, "pp_degree": paradigm.pp_degree}
    for last in ("cp_degree", "ep_degree"):
        degrees = {**groups, last: getattr(paradigm, last)}
        if last == "ep_degree" and paradigm.ep_degree == 1:
            continue
        total = degrees["tp_degree"] * degrees["pp_degree"] * degrees[last]
        if processes % total:
            said = {name: degree for name, degree in degrees.items() if degree > 1}
            words = " x ".join(f"{name} {degree}" for name, degree in said.items())
            cause = f"{words} takes groups of {total} processes, and the job has {processes}"
            place = spec.place(f"paradigm.{next(reversed(said))}")
            yield finding("J321", cause, place=place, next_step=_nearest(processes, total))
            return


def _nearest(processes: int, total: int) -> str:
    """Numbers of processes that would do."""
    below, above = processes // total * total, (processes // total + 1) * total
    return f"use {above} processes" if below == 0 else f"use {below} or {above} processes, or smaller degrees"


def _pipeline(spec: ResolvedSpec, paradigm: Megatron) -> Iterator[Finding]:
    stages, pieces = paradigm.pp_degree, paradigm.micro_batches
    if paradigm.schedule == "interleaved" and stages > 1 and pieces % stages:
        cause = f"`schedule: interleaved` passes on {stages} pieces at a time, and a batch has {pieces}"
        step = f"make `paradigm.micro_batches` a multiple of {stages}"
        yield finding("J322", cause, place=spec.place("paradigm.micro_batches"), next_step=step)
    if paradigm.schedule == "interleaved" and stages > 1 and paradigm.virtual_stages == 1:
        cause = "`schedule: interleaved` needs several groups of layers in each process, and there is 1"
        step = "add `virtual_stages: 2`, or use `1f1b`"
        yield finding("J311", cause, place=spec.place("paradigm.schedule"), next_step=step)
    if stages > 1 and spec.job.training.gradient_accumulation > 1:
        path = "training.gradient_accumulation"
        cause = f"`{path}` has no effect: a pipeline adds up gradients over `paradigm.micro_batches`"
        yield finding("J311", cause, place=spec.place(path), next_step="write the number there")


def _idle(spec: ResolvedSpec, paradigm: Megatron) -> Iterator[Finding]:
    """Settings of what the job does not use."""
    if paradigm.sequence_parallel and paradigm.tp_degree == 1:
        yield _without_effect(spec, "sequence_parallel", "`tp_degree` is 1", "raise `tp_degree`, or remove it")
    if paradigm.tensor_parallel_plan and paradigm.tp_degree == 1:
        yield _without_effect(spec, "tensor_parallel_plan", "`tp_degree` is 1", "raise `tp_degree`, or remove it")
    if paradigm.pp_degree == 1:
        for field, usual in {"micro_batches": 1, "schedule": "1f1b", "virtual_stages": 1}.items():
            if getattr(paradigm, field) != usual:
                yield _without_effect(spec, field, "`pp_degree` is 1", "raise `pp_degree`, or remove it")
    elif paradigm.schedule != "interleaved" and paradigm.virtual_stages > 1:
        cause = f"`schedule: {paradigm.schedule}` has one group of layers in each process"
        yield _without_effect(spec, "virtual_stages", cause, "use `schedule: interleaved`, or remove it")
    if paradigm.recompute != "full":
        for field, usual in {"recompute_method": "uniform", "recompute_layers": 1}.items():
            if getattr(paradigm, field) != usual:
                yield _without_effect(spec, field, f"`recompute` is `{paradigm.recompute}`", "use `recompute: full`")


def _without_effect(spec: ResolvedSpec, field: str, why: str, next_step: str) -> Finding:
    path = f"paradigm.{field}"
    return finding("J311", f"`{path}` has no effect: {why}", place=spec.place(path), next_step=next_step)
