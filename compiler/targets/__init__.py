"""Targets: where nodes come from. The table below is the one place that chooses."""

from __future__ import annotations

from ...spec import ResolvedSpec
from ...spec.targets import Inherit, Kubernetes, Local, Ray, SageMaker, Slurm, Ssh, TpuPod
from ..modules import Modules
from .base import Target

TARGETS: Modules[type, Target] = Modules(
    __name__,
    {
        Local: "local",
        Inherit: "inherit",
        Ssh: "ssh",
        Slurm: "slurm",
        Kubernetes: "kubernetes",
        Ray: "ray",
        TpuPod: "tpu_pod",
        SageMaker: "sagemaker",
    },
)


def target_of(spec: ResolvedSpec) -> Target:
    """The target of a resolved job."""
    found = TARGETS.get(type(spec.job.target))
    if found is None:
        from ..plugins import foreign_target

        return foreign_target(str(spec.job.target.__struct_config__.tag))
    return found
