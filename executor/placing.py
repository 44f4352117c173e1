"""Whether the place that something gave this process among others is one that the plan can be carried out in."""

from __future__ import annotations

from collections.abc import Mapping

from ..compiler.plan import Command, LaunchPlan, Ref, RunCommand
from ..spec.findings import Finding, finding
from ..spec.inherited import WORLD, Inherited, inherited


def misplaced(plan: LaunchPlan, env: Mapping[str, str]) -> Finding | None:
    """Why the plan cannot be carried out in this process, or None."""
    place = inherited(env)
    taking = [
        step.command
        for step in plan.submit
        if isinstance(step, RunCommand) and step.command.env.get("RANK") == (Ref("inherited", name="RANK"),)
    ]
    if taking:
        return _not_the_jobs(plan, taking[0], place, env)
    if place is None or place.by != "torchrun" or place.variables["WORLD_SIZE"] == "1":
        return None
    cause = f"this process is {_of(place)}, and each of them would start the whole job"
    return finding("J411", cause, next_step="use `target=inherit`, or start `jobc run` once, outside of them")


def _not_the_jobs(
    plan: LaunchPlan, command: Command, place: Inherited | None, env: Mapping[str, str]
) -> Finding | None:
    if place is None:
        cause = "`target: inherit` takes the place of each process from what started it, and nothing here says one"
        step = "start it in every process: `srun jobc run ...`, `mpirun jobc run ...`; or use `target=local`"
        return finding("J410", cause, next_step=step)
    size, per_node = place.variables["WORLD_SIZE"], plan.nodes[0].processes
    local = place.variables.get("LOCAL_WORLD_SIZE", str(per_node))
    if (size, local) != (str(plan.processes), str(per_node)):
        wanted = f"{plan.machines} x {per_node} processes"
        cause = f"the job has {wanted}, and this one is {_of(place)}, {local} on its machine"
        return finding("J411", cause, next_step="make `nodes` and `hardware.per_node` what was started")
    return _meeting(command, place, env)


def _meeting(command: Command, place: Inherited, env: Mapping[str, str]) -> Finding | None:
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        said = command.env[name]
        if isinstance(said, str):
            if env.get(name, said) != said:
                cause = f"the job says {name} is {said}, and this process was told {env[name]}"
                return finding(
                    "J411", cause, next_step="say it in one place: unset the variable, or `nodes.rendezvous`"
                )
        elif name not in place.variables:
            cause = f"this process is {_of(place)}, and nothing says where they meet: {name} is not set"
            return finding("J410", cause, next_step="set `nodes.rendezvous.address` and `nodes.rendezvous.port`")
    missing = [name for name in WORLD[:4] if name not in place.variables]
    if missing:
        cause = f"this process is {_of(place)}, and {' and '.join(missing)} is not known"
        return finding("J410", cause, next_step="set it in the environment of each process")
    return None


def _of(place: Inherited) -> str:
    return f"number {place.variables['RANK']} of {place.variables['WORLD_SIZE']} that {place.by} started"
