"""What a document can say about where its nodes come from: one module a target, and the union of all."""

from __future__ import annotations

from .here import Inherit, Local
from .kubernetes import Kubernetes
from .ray import Ray
from .sagemaker import SageMaker
from .slurm import Slurm
from .ssh import Ssh
from .tpu_pod import TpuPod

Target = Local | Inherit | Ssh | Slurm | Kubernetes | Ray | TpuPod | SageMaker
