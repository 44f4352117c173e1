"""Whether the place that something gave this process among others is one that the plan can be carried out in."""

from __future__ import annotations

from collections.abc import Mapping

from ..compiler.plan import LaunchPlan
from ..spec.findings import Finding, finding
from ..spec.inherited import WORLD, Inherited, inherited


def misplaced(plan: LaunchPlan, env: Mapping[str, str]) -> Finding | None:
    """Why the plan cannot be carried out in this process, or None."""
    place = inherited(env)
    if plan.spec["target"]["kind"] == "inherit":
        return _not_the_jobs(plan, place, env)
    if place is None or place.by != "torchrun" or place.variables["WORLD_SIZE"] == "1":
        return None
    cause = f"this process is {_of(place)}, and each of them would start the whole job"
    return finding("J411", cause, next_step="use `target=inherit`, or start `jobc run` once, outside of them")


def _not_the_jobs(plan: LaunchPlan, place: Inherited | None, env: Mapping[str, str]) -> Finding | None:
    if plan.processes == 1 and place is None:
        return None
    if place is None:
        cause = "`target: inherit` takes the place of each process from what started it, and nothing here says one"
        step = "start it in every process: `srun jobc run ...`, `mpirun jobc run ...`; or use `target=local`"
        return finding("J410", cause, next_step=step)
    size = place.variables["WORLD_SIZE"]
    per_node = plan.processes // plan.machines
    local = place.variables.get("LOCAL_WORLD_SIZE", str(per_node))
    if (size, local) != (str(plan.processes), str(per_node)):
        cause = (
            f"the job has {plan.machines} x {per_node} processes, and this one is {_of(place)}, {local} on its machine"
        )
        return finding("J411", cause, next_step="make `nodes` and `hardware.per_node` what was started")
    return None if size == "1" else _meeting(plan, place, env)


def _meeting(plan: LaunchPlan, place: Inherited, env: Mapping[str, str]) -> Finding | None:
    rendezvous = plan.spec["nodes"]["rendezvous"]
    for name, said in (("MASTER_ADDR", rendezvous["address"]), ("MASTER_PORT", rendezvous["port"])):
        if said is not None and env.get(name, str(said)) != str(said):
            cause = f"the job says {name} is {said}, and this process was told {env[name]}"
            return finding("J411", cause, next_step="say it in one place: unset the variable, or `nodes.rendezvous`")
        if said is None and name not in place.variables:
            cause = f"this process is {_of(place)}, and nothing says where they meet: {name} is not set"
            return finding("J410", cause, next_step="set `nodes.rendezvous.address` and `nodes.rendezvous.port`")
    missing = [name for name in WORLD[:4] if name not in place.variables]
    if missing:
        cause = f"this process is {_of(place)}, and {' and '.join(missing)} is not known"
        return finding("J410", cause, next_step="set it in the environment of each process")
    return None


def _of(place: Inherited) -> str:
    return f"number {place.variables['RANK']} of {place.variables['WORLD_SIZE']} that {place.by} started"
