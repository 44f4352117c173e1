"""The object that carries a run on Kubernetes, of each API that can."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ...spec import ResolvedSpec
from ...spec.hardware import Tpu
from ...spec.targets.kubernetes import Kubernetes
from ...spec.untyped import as_dict, as_list
from ..plan import Command, Ref, Text
from ..yaml_text import document
from .pods import container, filled, pod

#: The label that an object and its pods carry: the name of the run.
LABEL = "jobc/run"
_NAME: Text = (Ref("run_word"),)
#: What the plan sets by itself, so that nothing is lost where the document says otherwise.
_OPEN = {
    "backoffLimit",
    "cleanPodPolicy",
    "enableDNSHostnames",
    "maxRestarts",
    "publishNotReadyAddresses",
    "restartPolicy",
}
_ONE_SLICE = {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"}


class Api(NamedTuple):
    """An API: what kubectl calls its objects, the container in the pods, and what makes an object's `spec`.

    `running` is where its status counts what is ready, in kubectl's JSONPath, unless a condition says so.
    """

    version: str
    kind: str
    resource: str
    container: str
    running: str
    spec: Callable[[ResolvedSpec, Command], dict[str, Any]]


def manifest(spec: ResolvedSpec, target: Kubernetes, command: Command) -> Text:
    """The object as YAML."""
    return document(merged(_object(spec, target, command), _thawed(target.extra)))


def replaced(spec: ResolvedSpec, target: Kubernetes, command: Command) -> Iterator[str]:
    """The paths in `extra` that would take the place of what the object says already."""
    yield from _replaced(_object(spec, target, command), target.extra, "")


def _object(spec: ResolvedSpec, target: Kubernetes, command: Command) -> dict[str, Any]:
    api = APIS[target.api]
    return {
        "apiVersion": api.version,
        "kind": api.kind,
        "metadata": filled({"name": _NAME, "namespace": target.namespace, "labels": {LABEL: _NAME}}),
        "spec": api.spec(spec, command),
    }


def merged(ours: Any, theirs: Any) -> Any:
    """Data with other data over it: mappings by key, lists whose entries have names by name, else the other's."""
    block, over = as_dict(ours), as_dict(theirs)
    if block is not None and over is not None:
        return {**block, **{key: merged(block.get(key), value) for key, value in over.items()}}
    mine, other = _named(ours), _named(theirs)
    if mine and other:
        rest = [item for name, item in other.items() if name not in mine]
        return [*(merged(item, other.get(name)) for name, item in mine.items()), *rest]
    return ours if theirs is None else theirs


def _replaced(ours: Any, theirs: Any, path: str) -> Iterator[str]:
    block, over = as_dict(ours), as_dict(theirs)
    mine, other = _named(ours), _named(theirs)
    if block is not None and over is not None:
        for key, value in over.items():
            yield from _replaced(block.get(key), value, f"{path}.{key}".lstrip("."))
    elif mine and other:
        for index, (name, value) in enumerate(other.items()):
            yield from _replaced(_unnamed(mine.get(name)), _unnamed(value), f"{path}[{index}]")
    elif ours is not None and theirs is not None and path.rpartition(".")[2] not in _OPEN:
        yield path


def _unnamed(value: Any) -> dict[str, Any] | None:
    """An entry of a list without its name."""
    block = as_dict(value)
    return block and {key: item for key, item in block.items() if key != "name"}


def _named(value: Any) -> dict[str, Any]:
    """The entries of a list by their names, where all have one of their own."""
    found: dict[str, Any] = {}
    for item in as_list(value) or ():
        name = (as_dict(item) or {}).get("name")
        if not isinstance(name, str) or name in found:
            return {}
        found[name] = item
    return found


def _thawed(value: Any) -> Any:
    block, items = as_dict(value), as_list(value)
    if block is not None:
        return {key: _thawed(item) for key, item in block.items()}
    return value if items is None else [_thawed(item) for item in items]


def _seconds(spec: ResolvedSpec) -> int | None:
    minutes = spec.job.limits.minutes
    return None if minutes is None else math.ceil(minutes * 60)


def _template(spec: ResolvedSpec, command: Command, name: str) -> dict[str, Any]:
    """A whole pod."""
    return {
        "metadata": {"labels": {LABEL: _NAME}},
        "spec": {"restartPolicy": "Never", **pod(spec), "containers": [_only(container(spec, name, command))]},
    }


def _only(block: dict[str, Any]) -> dict[str, Any]:
    return filled({key: value if key != "resources" else filled(value) for key, value in block.items()})


def _trainjob(spec: ResolvedSpec, command: Command) -> dict[str, Any]:
    """Kubeflow Trainer v2: what is ours, and a patch of the pods that its runtime describes."""
    job, whole = spec.job, container(spec, "node", command)
    inside = {"name": "node", "volumeMounts": whole["volumeMounts"]}
    patch = {
        "metadata": {"labels": {LABEL: _NAME}},
        "spec": {**pod(spec), "containers": [inside]},
    }
    template: dict[str, Any] = {
        "spec": {"replicatedJobs": [{"name": "node", "template": {"spec": {"template": patch}}}]}
    }
    if isinstance(job.hardware, Tpu):
        template = {"metadata": {"annotations": _ONE_SLICE}, **template}
    target = job.target
    return filled({
        "activeDeadlineSeconds": _seconds(spec),
        "runtimeRef": {
            "apiGroup": "trainer.kubeflow.org",
            "kind": "ClusterTrainingRuntime",
            "name": target.runtime if isinstance(target, Kubernetes) else None,
        },
        "trainer": filled({
            "numNodes": job.nodes.count,
            "numProcPerNode": job.processes_per_node,
            "image": whole["image"],
            "command": whole["command"],
            "env": whole["env"],
            "resourcesPerNode": filled(whole["resources"]),
        }),
        "runtimePatches": [{"manager": "jobc/target", "trainingRuntimeSpec": {"template": template}}],
    })  # fmt: skip


def _pytorchjob(spec: ResolvedSpec, command: Command) -> dict[str, Any]:
    """Kubeflow's training operator v1: the first node is the master."""
    template = _template(spec, command, "pytorch")
    others = spec.job.nodes.count - 1
    replicas = {"Master": {"replicas": 1, "restartPolicy": "Never", "template": template}}
    if others:
        replicas["Worker"] = {"replicas": others, "restartPolicy": "Never", "template": template}
    return {
        "nprocPerNode": str(spec.job.processes_per_node),
        "runPolicy": filled({
            "activeDeadlineSeconds": _seconds(spec),
            "backoffLimit": 0,
            "cleanPodPolicy": "Running",
        }),
        "pytorchReplicaSpecs": replicas,
    }  # fmt: skip


def _jobset(spec: ResolvedSpec, command: Command) -> dict[str, Any]:
    """A JobSet with one indexed Job, whose pods are the nodes."""
    count = spec.job.nodes.count
    job = filled({
        "parallelism": count,
        "completions": count,
        "completionMode": "Indexed",
        "backoffLimit": 0,
        "activeDeadlineSeconds": _seconds(spec),
        "template": _template(spec, command, "node"),
    })  # fmt: skip
    template: dict[str, Any] = {"spec": job}
    if isinstance(spec.job.hardware, Tpu):
        template = {"metadata": {"annotations": _ONE_SLICE}, **template}
    return {
        "failurePolicy": {"maxRestarts": 0},
        "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
        "replicatedJobs": [{"name": "node", "replicas": 1, "template": template}],
    }


APIS: dict[str, Api] = {
    "trainjob": Api(
        "trainer.kubeflow.org/v1alpha1", "TrainJob", "trainjobs.trainer.kubeflow.org", "node",
        ".status.jobsStatus[?(@.ready>0)]", _trainjob,
    ),
    "pytorchjob": Api(
        "kubeflow.org/v1", "PyTorchJob", "pytorchjobs.kubeflow.org", "pytorch",
        "", _pytorchjob,
    ),
    "jobset": Api(
        "jobset.x-k8s.io/v1alpha2", "JobSet", "jobsets.jobset.x-k8s.io", "node",
        ".status.replicatedJobsStatus[?(@.ready>0)]", _jobset,
    ),
}  # fmt: skip
