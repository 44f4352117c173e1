"""Runs that go on without machines that are lost, and what cannot stand beside that."""

from __future__ import annotations

from collections.abc import Iterator

from ..spec import Finding, ResolvedSpec, finding
from ..spec.model import Fsdp, Megatron
from ..spec.targets.ssh import Ssh
from .launchers import launcher_of

_PATH = "nodes.elastic.min"


def check(spec: ResolvedSpec) -> Iterator[Finding]:
    """What needs all machines, and what nobody could lose."""
    job, nodes = spec.job, spec.job.nodes
    if nodes.elastic.min is None:
        return
    place = spec.place(_PATH)
    if not isinstance(job.target, Ssh):
        kind = type(job.target).__struct_config__.tag
        cause = f"`{_PATH}` has no effect: with `target: {kind}` jobc does not see machines come and go"
        yield finding("J311", cause, place=place, next_step="use `target: ssh`, or remove it")
        return
    if not launcher_of(spec).RESTARTS:
        cause = f"`{_PATH}` has no effect: the launcher `{job.launcher}` only starts processes"
        yield finding("J311", cause, place=place, next_step="use `launcher: torchrun`, or remove it")
    if nodes.elastic.min >= nodes.count:
        machines = "1 machine" if nodes.count == 1 else f"{nodes.count} machines"
        cause = f"`{_PATH}` is {nodes.elastic.min}, and the job has {machines}: none may be lost"
        step = f"use a number below {nodes.count}, or remove it" if nodes.count > 1 else "remove it"
        yield finding("J328", cause, place=place, next_step=step)
    if nodes.rendezvous.backend == "static":
        cause = f"`{_PATH}` lets machines come and go, and `nodes.rendezvous.backend: static` numbers them for good"
        yield finding("J328", cause, place=place, next_step="use `backend: c10d`")
    if nodes.max_restarts == 0:
        cause = f"`{_PATH}`: when a machine is lost the others' processes fail, and `nodes.max_restarts` is 0"
        step = "add `max_restarts: 3` to `nodes`, so that they start again without it"
        yield finding("J328", cause, place=place, next_step=step)
    if isinstance(job.paradigm, Megatron) or (isinstance(job.paradigm, Fsdp) and job.paradigm.sharding == "hybrid"):
        what = "`sharding: hybrid`" if isinstance(job.paradigm, Fsdp) else "`paradigm: megatron`"
        cause = f"`{_PATH}` changes the number of processes, and {what} divides them into groups of a fixed number"
        step = "use `sharding: full`" if isinstance(job.paradigm, Fsdp) else "use `paradigm=fsdp`"
        yield finding("J311", cause, place=place, next_step=f"{step}, or remove it")
    yield from _batches(spec)


def _batches(spec: ResolvedSpec) -> Iterator[Finding]:
    """Samples of a step that have to divide in whatever number of processes there are."""
    training, nodes = spec.job.training, spec.job.nodes
    total, path = training.global_batch, "training.global_batch"
    if total is None or nodes.elastic.min is None:
        return
    if spec.origin("training.gradient_accumulation").explicit:
        cause = "`training.gradient_accumulation` follows from `training.global_batch` and the machines that there are"
        place = spec.place("training.gradient_accumulation")
        yield finding("J326", cause, place=place, next_step="say `training.micro_batch` instead")
        return
    for count in range(nodes.elastic.min, nodes.count):
        product = (training.micro_batch or 1) * count * spec.job.processes_per_node
        if total % product:
            machines = "1 machine" if count == 1 else f"{count} machines"
            cause = f"`{path}` is {total}, and on {machines} it is no multiple of `training.micro_batch` x processes"
            step = "use a number that divides with every number of machines from `nodes.elastic.min` on"
            yield finding("J326", f"{cause} = {product}", place=spec.place(path), next_step=step)
            return
