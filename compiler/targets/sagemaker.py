"""The target `sagemaker`: a training job of Amazon SageMaker, with a script of jobc's own in its containers.

The job's files, the script and the resolved document go to S3, into a folder of the run; SageMaker gives them to each
container as the channel `code`.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ...spec import Finding, ResolvedSpec
from ..launchers import Launcher
from ..plan import CallApi, NodeGroup, PackFiles, Ref, Standing, WriteFile
from ..sagemaker import container, limits, request
from .base import Deployment
from .sent import check_sent, files_of, hashes

LAUNCHERS = frozenset({"python", "torchrun"})
DEPENDS = False

_EVERY = 30.0  # seconds between two questions how a job is doing
#: TrainingJobStatus of SageMaker's API.
_STATES: dict[str, Standing] = {
    "InProgress": "running",
    "Completed": "succeeded",
    "Failed": "failed",
    "Stopping": "running",
    "Stopped": "stopped",
}
_NAME = {"text": [{"ref": "run_word"}]}
_LOGS, _STREAMS = "/aws/sagemaker/TrainingJobs", {"text": [{"ref": "run_word"}, "/"]}


def check(spec: ResolvedSpec) -> Iterator[Finding]:
    """What SageMaker needs to be told, what it does not take, and files that are not here."""
    yield from limits.check(spec)
    yield from check_sent(spec, request.settings(spec).exclude)


def deploy(spec: ResolvedSpec, launcher: Launcher) -> Deployment:
    """Pack and upload the job's files, create the training job."""
    files = files_of(spec, request.settings(spec).exclude)
    commands = container.commands(spec, launcher)
    nodes = NodeGroup(first=0, count=spec.job.nodes.count, processes=spec.job.processes_per_node, commands=commands)
    target = request.settings(spec)
    bucket, _ = request.folder(spec)

    def call(service: str, operation: str, **members: object) -> CallApi:
        return CallApi(service=service, operation=operation, region=target.region, request=members)

    asked = msgspec.structs.replace(
        call("sagemaker", "DescribeTrainingJob", TrainingJobName=_NAME), member="TrainingJobStatus", states=_STATES
    )
    return Deployment(
        nodes=(nodes,),
        submit=(
            WriteFile(path=(Ref("run_dir"), "/spec.json"), content=(Ref("spec"),), mode=0o600),
            WriteFile(path=(Ref("run_dir"), "/node.sh"), content=container.script(spec, commands)),
            PackFiles(path=(Ref("run_dir"), "/source.tar.gz"), files=files),
            *request.uploads(spec),
            request.create(spec),
        ),
        status=(asked,),
        wait=(msgspec.structs.replace(asked, every=_EVERY),),
        logs=(call("logs", "FilterLogEvents", logGroupName=_LOGS, logStreamNamePrefix=_STREAMS),),
        stop=(call("sagemaker", "StopTrainingJob", TrainingJobName=_NAME),),
        preflight=(
            call("sts", "GetCallerIdentity"),
            call("s3", "HeadBucket", Bucket=bucket),
            call("iam", "GetRole", RoleName=(target.role or "").rpartition("/")[2]),
        ),
        inputs=hashes(spec, files),
    )
