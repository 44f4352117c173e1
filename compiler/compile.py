"""From a resolved spec to a launch plan, a pure function."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..spec import FindingsError, ResolvedSpec
from . import batches, elastic, logs
from .check import check
from .launchers import launcher_of
from .plan import Array, LaunchPlan
from .targets import target_of
from .targets.base import TakesSeveral


def compile_plan(spec: ResolvedSpec) -> LaunchPlan:
    """The complete launch plan of a job.

    Raises:
        FindingsError: the job contradicts itself, or asks for what its launcher or target cannot honour.
    """
    target = target_of(spec)
    further = (*batches.check(spec), *elastic.check(spec), *logs.check(spec))
    findings = (*spec.findings, *check(spec), *further, *target.check(spec))
    if any(finding.severity == "error" for finding in findings):
        raise FindingsError(findings)
    deployment = target.deploy(spec, launcher_of(spec))
    return LaunchPlan(
        name=spec.job.name,
        spec=spec.values(),
        origins=msgspec.to_builtins(spec.origins),
        nodes=deployment.nodes,
        submit=deployment.submit,
        status=deployment.status,
        logs=deployment.logs,
        follow=deployment.follow,
        wait=deployment.wait,
        stop=deployment.stop,
        preflight=deployment.preflight,
        secrets=spec.job.secrets if deployment.secrets is None else deployment.secrets,
        output=logs.output(spec),
        inputs=deployment.inputs,
        findings=findings,
    )


def compile_arrays(sweep: Sequence[tuple[ResolvedSpec, LaunchPlan]], at_once: int | None) -> tuple[Array, ...]:
    """What of a sweep its targets take in one piece.

    Args:
        sweep: the jobs and their plans.
        at_once: how many runs may go on at a time in each array.
    """
    places: dict[TakesSeveral, list[int]] = {}
    for place, (spec, _) in enumerate(sweep):
        target = target_of(spec)
        if isinstance(target, TakesSeveral):
            places.setdefault(target, []).append(place)
    return tuple(
        msgspec.structs.replace(array, plans=tuple(own[number] for number in array.plans))
        for target, own in places.items()
        for array in target.together([sweep[place] for place in own], at_once)
    )
