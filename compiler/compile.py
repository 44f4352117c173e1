"""From a resolved spec to a launch plan, a pure function."""

from __future__ import annotations

import msgspec

from ..spec import FindingsError, ResolvedSpec
from . import batches, elastic, logs
from .check import check
from .launchers import launcher_of
from .plan import LaunchPlan
from .targets import target_of


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
