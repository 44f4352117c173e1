"""A job for SageMaker as a Python file for Amazon's own SDK: version 3 (`ModelTrainer`) or version 2 (`PyTorch`)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from ...spec.untyped import as_dict, as_list
from ..plan import CallApi, LaunchPlan, PackFiles, Ref, WriteFile, canonical

Request = dict[str, Any]


class InexpressibleError(Exception):
    """A plan that a version of the SDK has no words for; the members of its request that it lacks."""

    def __init__(self, members: tuple[str, ...]) -> None:
        super().__init__(", ".join(members))
        self.members = members


class Raw(str):
    """A piece of Python, as it is."""

    __slots__ = ()


def render_v3(plan: LaunchPlan) -> str:
    """The file for version 3.

    Raises:
        InexpressibleError: the plan is none of SageMaker's, or `ModelTrainer` cannot say all of its request.
    """
    request = _request(plan)
    algorithm = _copy(request.pop("AlgorithmSpecification"))
    network = {**_own(request.pop("VpcConfig", {})), **_own(_taken(request, *_NETWORK))}
    compute = {**_own(request.pop("ResourceConfig")), **_own(_taken(request, "EnableManagedSpotTraining"))}
    channels = [item for item in as_list(request.pop("InputDataConfig")) or () if _name(item) != "code"]
    trainer: Request = {
        "role": request.pop("RoleArn"),
        "base_job_name": Raw("NAME"),
        "training_image": algorithm.pop("TrainingImage"),
        "training_input_mode": algorithm.pop("TrainingInputMode"),
        "source_code": Raw('SourceCode(source_dir=folder, command="bash /opt/ml/input/data/code/node.sh")'),
        "compute": _made("Compute", compute),
        "networking": _made("Networking", network) if network else None,
        "output_data_config": _of("OutputDataConfig", request.pop("OutputDataConfig")),
        "stopping_condition": _of("StoppingCondition", request.pop("StoppingCondition")),
        "checkpoint_config": _of("CheckpointConfig", request.pop("CheckpointConfig", None)),
        "input_data_config": [_of("Channel", item) for item in channels],
        "training_image_config": _of("TrainingImageConfig", algorithm.pop("TrainingImageConfig", None)),
        "environment": _plain(request.pop("Environment", None)),
        "hyperparameters": _plain(request.pop("HyperParameters", None)),
        "tags": [_of("Tag", item) for item in as_list(request.pop("Tags", None)) or ()],
        "model_package_config": _of("ModelPackageConfig", request.pop("ModelPackageConfig", None)),
    }
    metrics = [_of("MetricDefinition", item) for item in as_list(algorithm.pop("MetricDefinitions", None)) or ()]
    further: Request = {"with_metric_definitions": metrics} if metrics else {}
    for name, method in _METHODS.items():
        if name in request:
            further[method] = _of(name, request.pop(name))
    return _render("sagemaker/model_trainer.py.j2", plan, request, algorithm, arguments=trainer, further=further)


def render_v2(plan: LaunchPlan) -> str:
    """The file for version 2.

    Raises:
        InexpressibleError: the plan is none of SageMaker's, or `PyTorch` cannot say all of its request.
    """
    request = _request(plan)
    algorithm = _copy(request.pop("AlgorithmSpecification"))
    estimator: Request = {"image_uri": algorithm.pop("TrainingImage"), "role": request.pop("RoleArn")}
    estimator["input_mode"] = algorithm.pop("TrainingInputMode")
    left: Request = {}
    for name, words in _ESTIMATOR.items():
        block = _copy(request.pop(name, {}))
        estimator |= {word: block.pop(member) for member, word in words.items() if member in block}
        left |= {f"{name}.{member}": value for member, value in block.items()}
    if left.get("OutputDataConfig.CompressionType") in ("GZIP", "NONE"):
        estimator["disable_output_compression"] = left.pop("OutputDataConfig.CompressionType") == "NONE"
    for name, word in _FLAGS.items():
        if name in request:
            estimator[word] = _plain(request.pop(name))
    estimator["hyperparameters"] = _hyperparameters(estimator.get("hyperparameters"), left)
    for name, word in _OF_ALGORITHM.items():
        if name in algorithm:
            estimator[word] = _plain(algorithm.pop(name))
    channels = {_name(item): as_dict(item) or {} for item in as_list(request.pop("InputDataConfig")) or ()}
    del channels["code"]
    inputs = {name: _training_input(name, item, left) for name, item in channels.items()}
    arguments = {**estimator, "container_entry_point": algorithm.pop("ContainerEntrypoint", None)}
    arguments["container_arguments"] = algorithm.pop("ContainerArguments", None)
    arguments["code_location"] = estimator["output_path"]
    experiment = _plain(request.pop("ExperimentConfig", None))
    request |= left
    return _render(
        "sagemaker/estimator.py.j2", plan, request, algorithm, arguments=arguments, inputs=inputs, experiment=experiment
    )


_NETWORK = ("EnableNetworkIsolation", "EnableInterContainerTrafficEncryption")
_METHODS = {
    "RetryStrategy": "with_retry_strategy",
    "TensorBoardOutputConfig": "with_tensorboard_output_config",
    "InfraCheckConfig": "with_infra_check_config",
    "SessionChainingConfig": "with_session_chaining_config",
    "RemoteDebugConfig": "with_remote_debug_config",
}
_ESTIMATOR = {
    "ResourceConfig": {
        "InstanceType": "instance_type",
        "InstanceCount": "instance_count",
        "VolumeSizeInGB": "volume_size",
        "VolumeKmsKeyId": "volume_kms_key",
        "KeepAlivePeriodInSeconds": "keep_alive_period_in_seconds",
        "TrainingPlanArn": "training_plan",
        "InstancePlacementConfig": "instance_placement_config",
    },
    "StoppingCondition": {"MaxRuntimeInSeconds": "max_run", "MaxWaitTimeInSeconds": "max_wait"},
    "OutputDataConfig": {"S3OutputPath": "output_path", "KmsKeyId": "output_kms_key"},
    "CheckpointConfig": {"S3Uri": "checkpoint_s3_uri", "LocalPath": "checkpoint_local_path"},
    "RetryStrategy": {"MaximumRetryAttempts": "max_retry_attempts"},
    "VpcConfig": {"Subnets": "subnets", "SecurityGroupIds": "security_group_ids"},
    "RemoteDebugConfig": {"EnableRemoteDebug": "enable_remote_debug"},
    "InfraCheckConfig": {"EnableInfraCheck": "enable_infra_check"},
    "SessionChainingConfig": {"EnableSessionTagChaining": "enable_session_tag_chaining"},
}
_FLAGS = {
    "EnableManagedSpotTraining": "use_spot_instances",
    "EnableNetworkIsolation": "enable_network_isolation",
    "EnableInterContainerTrafficEncryption": "encrypt_inter_container_traffic",
    "Environment": "environment",
    "HyperParameters": "hyperparameters",
    "Tags": "tags",
}
_OF_ALGORITHM = {
    "MetricDefinitions": "metric_definitions",
    "EnableSageMakerMetricsTimeSeries": "enable_sagemaker_metrics",
}
_INPUT = {
    "S3Uri": "s3_data",
    "S3DataType": "s3_data_type",
    "S3DataDistributionType": "distribution",
    "AttributeNames": "attribute_names",
    "InputMode": "input_mode",
    "ContentType": "content_type",
    "CompressionType": "compression",
    "RecordWrapperType": "record_wrapping",
}


def _request(plan: LaunchPlan) -> Request:
    """The members of the request that say what the job is; its name is the SDK's affair."""
    for step in plan.submit:
        if isinstance(step, CallApi) and step.operation == "CreateTrainingJob":
            return {name: value for name, value in step.request.items() if name != "TrainingJobName"}
    raise InexpressibleError(())


def _render(
    name: str, plan: LaunchPlan, left: Request, algorithm: Request, *, arguments: Request, **more: object
) -> str:
    lacking = (*left, *(f"AlgorithmSpecification.{key}" for key in algorithm if not key.startswith("Container")))
    if lacking:
        raise InexpressibleError(lacking)
    from ..rendering import template  # jinja2 is imported by what renders

    uploads = [step for step in plan.submit if isinstance(step, CallApi) and step.operation == "PutObject"]
    bucket, first = uploads[0].request["Bucket"], uploads[0].request["Key"]["text"][0]
    prefix = first if isinstance(first, str) else ""
    script = next(step.content for step in plan.submit if isinstance(step, WriteFile) and step.path[-1] == "/node.sh")
    files = next(step.files for step in plan.submit if isinstance(step, PackFiles))
    sealed = {name: uploads[0].request[name] for name in uploads[0].request if name.startswith(("Server", "SSE"))}
    return template(name).render(
        plan=plan,
        region=uploads[0].region,
        bucket=bucket,
        prefix=prefix.rstrip("/"),
        sealed=sealed,
        files=files,
        script=str(script).splitlines(keepends=True),
        document=canonical(plan.document()).decode(),
        arguments={word: value for word, value in arguments.items() if value not in (None, [], {})},
        python=_python,
        **more,
    )


def _training_input(name: str, channel: Request, left: Request) -> object:
    source = as_dict(channel.get("DataSource")) or {}
    there = {**(as_dict(source.get("S3DataSource")) or {}), **channel}
    known = {word: there[member] for member, word in _INPUT.items() if member in there}
    lacking = [member for member in there if member not in {*_INPUT, "DataSource", "ChannelName"}]
    lacking += [member for member in source if member != "S3DataSource"]
    left |= {f"InputDataConfig.{name}.{member}": None for member in lacking}
    return _made("TrainingInput", known)


def _own(block: object) -> Request:
    """The members of a structure by the names that version 3 has for them."""
    return {_snake(name): _inside(name, value) for name, value in (as_dict(block) or {}).items()}


def _hyperparameters(said: object, left: Request) -> Request:
    """Those of the request as the SDK takes them: it writes each value as JSON, so that some texts have no value."""
    found: Request = {}
    for name, text in (as_dict(said) or {}).items():
        try:
            found[name] = json.loads(text)
        except ValueError:
            left[f"HyperParameters.{name}"] = text
    return found


def _taken(request: Request, *names: str) -> Request:
    return {name: request.pop(name) for name in names if name in request}


def _copy(value: object) -> Request:
    return dict(as_dict(value) or {})


def _name(channel: object) -> str:
    return str((as_dict(channel) or {}).get("ChannelName"))


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _of(kind: str, value: object) -> Raw | None:
    """A structure of the API as an object of version 3, with objects of their own inside where it has classes."""
    block = as_dict(value)
    if block is None:
        return None
    return _made(kind, _own(block))


def _inside(name: str, value: object) -> object:
    block, items = as_dict(value), as_list(value)
    if block is not None and name in {"DataSource", "S3DataSource", "FileSystemDataSource"}:
        return _of(name, block)
    if block is not None:
        return _own(block)
    return value if items is None else [_inside("", item) for item in items]


def _made(kind: str, arguments: Request) -> Raw:
    return Raw(f"{kind}({', '.join(f'{name}={_python(value)}' for name, value in arguments.items())})")


def _plain(value: object) -> object:
    """A part of the request as Python has it, secrets from the environment."""
    block, items = as_dict(value), as_list(value)
    if block is not None and set(block) == {"text"}:
        return Raw(" + ".join(_pieces(as_list(block["text"]) or ())))
    if block is not None:
        return {name: _plain(item) for name, item in block.items()}
    return value if items is None else [_plain(item) for item in items]


def _pieces(parts: Any) -> Iterator[str]:
    for part in parts:
        if isinstance(part, str):
            yield repr(part)
            continue
        found = msgspec.convert(part, Ref)
        if found.ref != "secret":
            raise ValueError(f"a placeholder that the SDK has no value for: {found}")
        yield f"os.environ[{found.name!r}]"


def _python(value: object) -> str:
    """A value as Python writes it."""
    if isinstance(value, Raw):
        return str(value)
    block, items = as_dict(value), as_list(value)
    if block is not None:
        return "{" + ", ".join(f"{name!r}: {_python(item)}" for name, item in block.items()) + "}"
    return repr(value) if items is None else "[" + ", ".join(_python(item) for item in items) + "]"
