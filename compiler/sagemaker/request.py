"""The request CreateTrainingJob of a job, and those that upload what it needs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ...spec import ResolvedSpec
from ...spec.hardware import AutoHardware, Gpu
from ...spec.targets.sagemaker import SageMaker
from ...spec.untyped import as_dict, as_list
from ..launchers.base import joined
from ..plan import CallApi, Ref, Text

if TYPE_CHECKING:
    from ...spec.catalogue.sagemaker import SageMakerFacts

#: Where SageMaker puts the channel of what jobc uploads.
CODE = "/opt/ml/input/data/code"
CHECKPOINTS = "/opt/ml/checkpoints"
#: The channel `code`: files of the run's folder here, as they are called there.
UPLOADED = ("source.tar.gz", "node.sh", "spec.json")
#: A day, what SageMaker allows where nothing is said.
_USUAL_SECONDS = 86400


def settings(spec: ResolvedSpec) -> SageMaker:
    """The target's block."""
    target = spec.job.target
    if not isinstance(target, SageMaker):
        raise TypeError("the target `sagemaker` was chosen for a job that has another")
    return target


def facts() -> SageMakerFacts:
    """What is known of SageMaker, read when a job asks for it."""
    from ...spec.catalogue import sagemaker

    return sagemaker.facts()


def machines() -> dict[str, tuple[str, int]]:
    """Every type of machine, with its accelerator and how many."""
    from ...spec.catalogue import sagemaker

    return sagemaker.machines()


def device(spec: ResolvedSpec) -> str:
    """What the processes compute on, `gpu` or `cpu`, by the job or else by the machines."""
    hardware = spec.job.hardware
    if isinstance(hardware, AutoHardware):
        return "gpu" if machines().get(settings(spec).instance_type or "", ("", 0))[1] else "cpu"
    return "gpu" if isinstance(hardware, Gpu) else "cpu"


def image(spec: ResolvedSpec) -> str | None:
    """The container image; None where Amazon has none in the region."""
    target = settings(spec)
    return target.image or facts().image(target.region or "", target.torch, device(spec))


def folder(spec: ResolvedSpec) -> tuple[str, Text]:
    """The bucket, and the folder in it that is the run's own."""
    bucket, _, prefix = (settings(spec).output or "").removeprefix("s3://").partition("/")
    prefix = prefix.strip("/")
    return bucket, joined(f"{prefix}/" if prefix else "", (Ref("run_word"),))


def uploads(spec: ResolvedSpec) -> tuple[CallApi, ...]:
    """The requests that bring the channel `code` to S3."""
    bucket, own = folder(spec)
    key = settings(spec).kms_key
    sealed = {} if key is None else {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key}
    return tuple(
        CallApi(
            service="s3",
            operation="PutObject",
            request={
                "Bucket": bucket,
                "Key": _placed(joined(own, f"/code/{name}")),
                "Body": {"file": _pieces((Ref("run_dir"), f"/{name}"))},
                **sealed,
            },
            region=settings(spec).region,
        )
        for name in UPLOADED
    )


def create(spec: ResolvedSpec) -> CallApi:
    """The request itself, with the members of `extra`."""
    merged = merge(own_members(spec), settings(spec).extra)
    return CallApi(
        service="sagemaker",
        operation="CreateTrainingJob",
        region=settings(spec).region,
        request=merged,
        captures={"job_arn": "TrainingJobArn"},
    )


def own_members(spec: ResolvedSpec) -> dict[str, Any]:
    """The members of the request that follow from the document's fields."""
    job, target = spec.job, settings(spec)
    request: dict[str, Any] = {
        "TrainingJobName": _placed((Ref("run_word"),)),
        "RoleArn": target.role,
        "AlgorithmSpecification": _given(
            TrainingImage=image(spec),
            TrainingInputMode="File",
            ContainerEntrypoint=["/bin/bash"],
            ContainerArguments=[f"{CODE}/node.sh"],
            MetricDefinitions=[{"Name": name, "Regex": text} for name, text in target.metrics.items()],
        ),
        "InputDataConfig": _channels(spec),
        "OutputDataConfig": _given(S3OutputPath=(target.output or "").rstrip("/"), KmsKeyId=target.kms_key),
        "ResourceConfig": _given(
            InstanceType=target.instance_type,
            InstanceCount=job.nodes.count,
            VolumeSizeInGB=target.volume_gb,
            VolumeKmsKeyId=target.volume_kms_key,
            KeepAlivePeriodInSeconds=_seconds(target.keep_alive_minutes),
        ),
        "StoppingCondition": _given(
            MaxRuntimeInSeconds=_seconds(job.limits.minutes) or _USUAL_SECONDS,
            MaxWaitTimeInSeconds=_seconds(target.max_wait_minutes),
            MaxPendingTimeInSeconds=_seconds(target.max_pending_minutes),
        ),
    }
    return request | _given(
        EnableManagedSpotTraining=target.spot,
        CheckpointConfig=_given(S3Uri=target.checkpoint_s3, LocalPath=target.checkpoint_s3 and CHECKPOINTS),
        RetryStrategy=_given(MaximumRetryAttempts=target.retries),
        VpcConfig=_given(SecurityGroupIds=list(target.security_groups), Subnets=list(target.subnets)),
        EnableNetworkIsolation=target.network_isolation,
        EnableInterContainerTrafficEncryption=target.encrypt_traffic,
        Environment={name: _placed((Ref("secret", name),)) for name in job.secrets},
        Tags=[{"Key": name, "Value": text} for name, text in target.tags.items()],
    )


def merge(ours: dict[str, Any], further: dict[str, Any]) -> dict[str, Any]:
    """A request with further members: mappings are put together, lists one after the other."""
    merged = dict(ours)
    for name, value in further.items():
        block, items, there = as_dict(value), as_list(value), merged.get(name)
        below, before = as_dict(there), as_list(there)
        if block is not None and below is not None:
            merged[name] = merge(below, block)
        elif items is not None and before is not None:
            merged[name] = [*before, *items]
        else:
            merged[name] = value
    return merged


def _channels(spec: ResolvedSpec) -> list[dict[str, Any]]:
    target = settings(spec)
    bucket, own = folder(spec)
    ours = _channel("code", _placed(joined(f"s3://{bucket}/", own, "/code/")), "File")
    return [ours, *(_channel(name, uri, target.input_mode) for name, uri in target.channels.items())]


def _channel(name: str, uri: object, mode: str) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}, "InputMode": mode}


def _given(**members: object) -> dict[str, Any]:
    """Members that say something."""
    return {name: value for name, value in members.items() if value}


def _seconds(minutes: float | None) -> int:
    return math.ceil((minutes or 0) * 60)


def _placed(text: Text) -> object:
    """A text of a request, with its placeholders."""
    return text if isinstance(text, str) else {"text": _pieces(text)}


def _pieces(text: Text) -> list[object]:
    parts = (text,) if isinstance(text, str) else text
    return [part if isinstance(part, str) else _ref(part) for part in parts]


def _ref(part: Ref) -> dict[str, str]:
    return {"ref": part.ref, "name": part.name} if part.name else {"ref": part.ref}
