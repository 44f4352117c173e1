"""What SageMaker needs to be told, and what it does not take."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from ...spec import Finding, ResolvedSpec, finding
from ...spec.findings import nearest
from ...spec.hardware import Cpu, Gpu, Tpu
from ...spec.training import Checkpoint
from ...spec.untyped import as_dict, as_list
from .request import facts, image, machines, merge, own_members, settings

_NEEDED = {
    "region": "us-east-1",
    "role": "arn:aws:iam::123456789012:role/training",
    "instance_type": "ml.g5.12xlarge",
    "output": "s3://bucket/folder",
}
_MINUTES = 40320  # 28 days, the longest that a job may run
_DAY = 1440.0  # minutes, where the document does not say how long it may run
#: How many of a kind a request may hold, where the document says it, and what it is.
_MOST = (
    (("Tags",), 50, "tags", "tags"),
    (("AlgorithmSpecification", "MetricDefinitions"), 40, "metrics", "metrics"),
    (("InputDataConfig",), 20, "channels", "channels, `code` of jobc among them"),
    (("VpcConfig", "SecurityGroupIds"), 5, "security_groups", "security groups"),
    (("VpcConfig", "Subnets"), 16, "subnets", "subnets"),
    (("HyperParameters",), 100, "extra", "hyperparameters"),
    (("Environment",), 100, "extra", "variables, secrets among them"),
)


def check(spec: ResolvedSpec) -> Iterator[Finding]:
    """Everything that speaks against the request before it is sent."""
    yield from _needed(spec)
    yield from _machines(spec)
    yield from _time(spec)
    yield from _kept(spec)
    yield from _network(spec)
    yield from _metrics(spec)
    yield from _extra(spec)


def _needed(spec: ResolvedSpec) -> Iterator[Finding]:
    target, place = settings(spec), spec.place("target")
    for name, example in _NEEDED.items():
        if getattr(target, name) is None:
            cause = f"the target `sagemaker` needs `{name}`"
            yield finding("J345", cause, place=place, next_step=f"add `{name}: {example}`")
    if target.region is not None and image(spec) is None:
        yield _no_image(spec, target.region, target.torch)
    if target.image is not None and spec.origin("target.torch").explicit:
        cause = "`target.torch` has no effect: `target.image` says which image is used"
        yield finding("J311", cause, place=spec.place("target.torch"), next_step="keep one of them")


def _no_image(spec: ResolvedSpec, region: str, torch: str) -> Finding:
    known = facts()
    cause, place = f"Amazon has no image of torch {torch} in `{region}`", spec.place("target.region")
    step = "give the image that the job runs in with `image`"
    near = nearest(region, list(known.accounts))
    if torch not in known.images:
        cause, place = f"Amazon has no image of torch {torch} that jobc knows", spec.place("target.torch")
        step = f"choose one of {', '.join(known.images)}, or {step}"
    elif region not in known.accounts and near is not None:
        step = f"did you mean `{near}`? Or {step}"
    return finding("J345", cause, place=place, next_step=step)


def _machines(spec: ResolvedSpec) -> Iterator[Finding]:
    hardware, name, path = spec.job.hardware, settings(spec).instance_type, "hardware.per_node"
    place = spec.place(path) or spec.place("hardware") or spec.place("target.instance_type")
    if isinstance(hardware, Tpu):
        cause = "SageMaker has no TPUs"
        yield finding("J312", cause, place=spec.place("hardware"), next_step="write `hardware: gpu`")
        return
    if name is None:
        return
    if name not in machines():
        near = nearest(name, list(machines()))
        step = "" if near is None else f"did you mean `{near}`? "
        step += "a newer type is used as it is, and whether it has the devices of the job is not checked"
        cause = f"`{name}` is no type of machine that this version of jobc knows"
        yield finding("J346", cause, place=spec.place("target.instance_type"), next_step=step)
        return
    word, count = machines()[name]
    used = 0 if isinstance(hardware, Cpu) else spec.job.processes_per_node
    if word == "trainium":
        cause = f"{name} computes with Trainium, which jobc does not drive"
        step = "choose a type with GPUs, such as ml.g5.xlarge"
        yield finding("J312", cause, place=spec.place("target.instance_type"), next_step=step)
    elif isinstance(hardware, Gpu) and spec.origin(path).layer == "detected":
        cause = "`hardware.per_node: all` counts the GPUs of this machine, and the job runs on others"
        yield finding("J310", cause, place=place, next_step=f"write {count}, the GPUs of {name}" if count else None)
    elif isinstance(hardware, Gpu) and used > count:
        cause = f"`{path}` is {used}, and {name} has {_gpus(count)}"
        step = f"write {count}, or choose a larger type" if count else "choose a type with GPUs, such as ml.g5.xlarge"
        yield finding("J312", cause, place=place, next_step=step)
    elif isinstance(hardware, Gpu) and hardware.model not in (None, word):
        cause = f"`hardware.model` is {hardware.model}, and the GPUs of {name} are {word}"
        yield finding("J312", cause, place=spec.place("hardware.model"), next_step=f"write `model: {word}`")
    elif used < count and not (isinstance(hardware, Gpu) and hardware.ids):
        cause = f"each {name} has {_gpus(count)}, and the job uses {used}"
        step = f"write `hardware: {{kind: gpu, per_node: {count}}}`, or choose a smaller type"
        yield finding("J348", cause, place=place, next_step=step)


def _gpus(count: int) -> str:
    return "no GPU" if not count else f"{count} GPU{'s' if count > 1 else ''}"


def _time(spec: ResolvedSpec) -> Iterator[Finding]:
    target, longest = settings(spec), spec.job.limits.minutes
    if longest is not None and longest > _MINUTES:
        cause = f"a job of SageMaker runs at most 28 days, and `limits.minutes` is {longest:g}"
        yield finding("J347", cause, place=spec.place("limits.minutes"), next_step=f"write at most {_MINUTES}")
    if not target.spot:
        if target.max_wait_minutes is not None:
            cause = "`target.max_wait_minutes` has no effect without `spot`"
            step = "add `spot: true`, or use `max_pending_minutes`"
            yield finding("J311", cause, place=spec.place("target.max_wait_minutes"), next_step=step)
        return
    runs = _DAY if longest is None else longest
    place = spec.place("target.spot")
    if target.max_wait_minutes is None:
        cause = "`target.spot` needs to know how long the job may take with waiting"
        yield finding("J347", cause, place=place, next_step=f"add `max_wait_minutes`, at least {runs:g}")
    elif target.max_wait_minutes < runs:
        cause = f"`target.max_wait_minutes` is {target.max_wait_minutes:g}, and the job may run {runs:g} minutes"
        step = "write at least as many, or set `limits.minutes`"
        yield finding("J347", cause, place=spec.place("target.max_wait_minutes"), next_step=step)
    if target.checkpoint_s3 is None:
        cause = "a job with `target.spot` is ended and started again, and its checkpoints are kept nowhere"
        yield finding("J347", cause, place=place, next_step="add `checkpoint_s3: s3://bucket/folder`")
    if target.keep_alive_minutes:
        cause = "machines of `target.spot` do not stay for a next job"
        step = "remove `keep_alive_minutes` or `spot`"
        yield finding("J347", cause, place=spec.place("target.keep_alive_minutes"), next_step=step)


def _kept(spec: ResolvedSpec) -> Iterator[Finding]:
    """Checkpoints that would be lost with the machines."""
    said, usual = spec.job.training.checkpoint, Checkpoint()
    if settings(spec).checkpoint_s3 is not None:
        return
    for name in ("every_steps", "every_minutes", "resume", "on_preemption"):
        if getattr(said, name) != getattr(usual, name):
            cause = f"`training.checkpoint.{name}` needs checkpoints that outlive the machines"
            step = "add `checkpoint_s3: s3://bucket/folder` to the target"
            yield finding("J347", cause, place=spec.place(f"training.checkpoint.{name}"), next_step=step)
            return


def _network(spec: ResolvedSpec) -> Iterator[Finding]:
    target = settings(spec)
    if bool(target.subnets) != bool(target.security_groups):
        said, other = ("subnets", "security_groups") if target.subnets else ("security_groups", "subnets")
        cause = f"`target.{said}` needs `{other}`: a network is both"
        yield finding("J347", cause, place=spec.place(f"target.{said}"), next_step=f"add `{other}`")
    if spec.job.nodes.rendezvous.address is not None:
        cause = "`nodes.rendezvous.address` has no effect: processes meet on SageMaker's first node"
        place = spec.place("nodes.rendezvous.address")
        yield finding("J311", cause, place=place, next_step="remove it")
    name = target.instance_type
    if target.volume_kms_key is not None and name is not None and name.split(".")[1] in facts().disks:
        cause = f"{name} has disks of its own, which take no key"
        yield finding("J347", cause, place=spec.place("target.volume_kms_key"), next_step="remove `volume_kms_key`")


def _metrics(spec: ResolvedSpec) -> Iterator[Finding]:
    for name, text in settings(spec).metrics.items():
        try:
            groups = re.compile(text).groups
        except re.error as error:
            cause = f"the metric `{name}` is no regular expression: {error}"
        else:
            if groups:
                continue
            cause = f"the metric `{name}` has no group that its value stands in"
        place = spec.place(f"target.metrics.{name}") or spec.place("target.metrics")
        yield finding("J106", cause, place=place, next_step=r"write it such as `loss: (\S+)`")


def _extra(spec: ResolvedSpec) -> Iterator[Finding]:
    """Members that there are not, or that are there already, and more of something than a request holds."""
    extra, ours = settings(spec).extra, own_members(spec)
    for name in extra:
        if name not in facts().members:
            near = nearest(name, list(facts().members))
            step = f"did you mean `{near}`?" if near else "its members are those of the API CreateTrainingJob"
            cause = f"CreateTrainingJob has no member `{name}`"
            yield finding("J347", cause, place=spec.place(f"target.extra.{name}"), next_step=step)
    for path in _twice(ours, extra, ""):
        cause = f"`{path}` of `target.extra` is in the request already"
        step = "remove it: a field of the document says it; `jobc plan` shows the request"
        yield finding("J347", cause, place=spec.place(f"target.extra.{path}") or spec.place("target"), next_step=step)
    for path in _placeholders(extra, ""):
        cause = f"`{path}` of `target.extra` would be read as a placeholder of the plan"
        yield finding(
            "J347", cause, place=spec.place(f"target.extra.{path}"), next_step="CreateTrainingJob has none such"
        )
    request = merge(ours, extra)
    for path, most, name, words in _MOST:
        found: Any = request
        for key in path:
            found = (as_dict(found) or {}).get(key)
        count = len(as_dict(found) or as_list(found) or ())
        if count > most:
            place = spec.place(f"target.{name}") or spec.place("target")
            yield finding("J347", f"SageMaker takes at most {most} {words}, and there are {count}", place=place)
    channels = [as_dict(item) or {} for item in as_list(request["InputDataConfig"]) or ()]
    for name, count in Counter(str(item.get("ChannelName")) for item in channels).items():
        if count > 1:
            cause = f"two channels are called `{name}`" + (", one of them jobc's own" if name == "code" else "")
            place = spec.place(f"target.channels.{name}") or spec.place("target.extra")
            yield finding("J347", cause, place=place, next_step="give it another name")


def _twice(ours: dict[str, Any], further: dict[str, Any], above: str) -> Iterator[str]:
    for name, value in further.items():
        path, there = f"{above}{name}", ours.get(name)
        block, below = as_dict(value), as_dict(there)
        if block is not None and below is not None and set(below) != {"text"}:
            yield from _twice(below, block, f"{path}.")
        elif there is not None and not (as_list(value) is not None and as_list(there) is not None):
            yield path


def _placeholders(value: object, above: str) -> Iterator[str]:
    block = as_dict(value) or dict(enumerate(as_list(value) or ()))
    for name, item in block.items():
        path = f"{above}[{name}]" if isinstance(name, int) else f"{above}.{name}".lstrip(".")
        if set(as_dict(item) or ()) in ({"text"}, {"file"}):
            yield path
        else:
            yield from _placeholders(item, path)
