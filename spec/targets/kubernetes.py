"""The target `kubernetes`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from ..parts import FrozenDict, Kind, form, freeze

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
ObjectName = Annotated[
    str,
    Meta(
        pattern=rf"^(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*$(?!\n)",
        extra_json_schema=form("the name of an object: lower-case letters, digits, `-` and `.`"),
    ),
]
Size = Annotated[
    str,
    Meta(
        pattern=r"^[1-9][0-9]*(\.[0-9]+)?(k|M|G|T|Ki|Mi|Gi|Ti)$(?!\n)",
        extra_json_schema=form("a size such as `512Mi` or `64Gi`"),
    ),
]
MountPath = Annotated[
    str, Meta(pattern=r"^/[^:\x00-\x1f]+$(?!\n)", extra_json_schema=form("a whole path such as `/data`"))
]
Volume = Annotated[
    str,
    Meta(
        pattern=r"^((claim|config|secret):[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?|host:/[^:\x00-\x1f]*"
        r"|scratch(:[0-9]+(k|M|G|T|Ki|Mi|Gi|Ti)?)?)(:ro)?$(?!\n)",
        extra_json_schema=form(
            "`claim:NAME`, `host:/PATH`, `config:NAME`, `secret:NAME` or `scratch:100Gi`, with `:ro` to read only"
        ),
    ),
]
_KEY = r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
LabelKey = Annotated[
    str,
    Meta(pattern=rf"^{_KEY}$(?!\n)", extra_json_schema=form("the key of a label such as `cloud.example/pool`")),
]
Toleration = Annotated[
    str,
    Meta(
        pattern=rf"^{_KEY}(=[A-Za-z0-9._-]{{0,63}})?(:(NoSchedule|PreferNoSchedule|NoExecute))?$(?!\n)",
        extra_json_schema=form("a taint such as `nvidia.com/gpu`, `pool=training` or `pool=training:NoSchedule`"),
    ),
]


class Kubernetes(Kind, frozen=True, tag="kubernetes"):
    """Pods of a Kubernetes cluster, one a node, through Kubeflow Trainer or JobSet; kubectl reaches the cluster."""

    api: Annotated[
        Literal["trainjob", "pytorchjob", "jobset"],
        Meta(
            description="Object that carries the run: a `trainjob` of Kubeflow Trainer v2, a `pytorchjob` of its"
            " version 1, or a plain `jobset`."
        ),
    ] = "trainjob"
    image: Annotated[
        Annotated[
            str, Meta(pattern=r"^\S{1,500}$(?!\n)", extra_json_schema=form("an image such as `registry/name:tag`"))
        ]
        | None,
        Meta(description="Image of the containers; only a `trainjob` may leave it to its runtime."),
    ] = None
    folder: Annotated[
        str,
        Meta(
            pattern=r"^/[^\x00-\x1f]*$(?!\n)",
            description="Folder in the containers that has the job's files, from the image or a volume.",
            extra_json_schema=form("a whole path such as `/workspace`"),
        ),
    ] = "/workspace"
    runtime: Annotated[
        ObjectName, Meta(description="ClusterTrainingRuntime that a `trainjob` builds on, by its name.")
    ] = "torch-distributed"
    namespace: Annotated[
        ObjectName | None, Meta(description="Namespace of the run; unset is that of kubectl's context.")
    ] = None
    context: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(description="Context of kubectl's configuration; unset is the current one."),
    ] = None
    kubeconfig: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(description="Configuration file of kubectl, relative to the job file's folder; unset is kubectl's own."),
    ] = None
    volumes: Annotated[
        dict[MountPath, Volume],
        Meta(
            description="What is mounted, by path: `/data: claim:NAME`, or `host:/PATH`, `config:NAME`, `secret:NAME`,"
            " `scratch:100Gi`; `:ro` at the end mounts to read only."
        ),
    ] = msgspec.field(default_factory=FrozenDict)
    shared_memory: Annotated[
        Size | None,
        Meta(description="Size of /dev/shm, such as `16Gi`; unset is as much as the pod may use."),
    ] = None
    cpu: Annotated[
        Annotated[float, Meta(gt=0, le=4096)] | None,
        Meta(description="CPUs of each pod, asked for and its limit; unset asks for none."),
    ] = None
    memory: Annotated[
        Size | None,
        Meta(description="Memory of each pod, such as `64Gi`, asked for and its limit; unset asks for none."),
    ] = None
    gpu_resource: Annotated[
        Annotated[str, Meta(pattern=rf"^{_KEY}$(?!\n)", extra_json_schema=form("a resource such as `amd.com/gpu`"))]
        | None,
        Meta(
            description="Resource by which the cluster counts GPUs; unset is `amd.com/gpu` for AMD models of"
            " `hardware.model`, else `nvidia.com/gpu`."
        ),
    ] = None
    node_selector: Annotated[
        dict[LabelKey, str], Meta(description="Labels that the machines of the pods must have.")
    ] = msgspec.field(default_factory=FrozenDict)
    tolerations: Annotated[
        tuple[Toleration, ...],
        Meta(description="Taints of machines that the pods accept, as `kubectl taint` writes them."),
    ] = ()
    service_account: Annotated[ObjectName | None, Meta(description="Service account of the pods.")] = None
    secret: Annotated[
        ObjectName | None,
        Meta(description="Secret of Kubernetes whose keys are the names in `secrets`; values never pass through jobc."),
    ] = None
    image_pull_secrets: Annotated[
        tuple[ObjectName, ...], Meta(description="Secrets with which the image is pulled, by name.")
    ] = ()
    grace_seconds: Annotated[
        Annotated[int, Meta(ge=1, le=86400)] | None,
        Meta(description="Seconds that processes may take to end once they are asked to; unset is Kubernetes' 30."),
    ] = None
    extra: Annotated[
        dict[str, Any],
        Meta(description="Whatever else the object should say, merged into it; what the plan sets is refused."),
    ] = msgspec.field(default_factory=FrozenDict)

    def __post_init__(self) -> None:
        for name in ("volumes", "node_selector", "extra"):
            msgspec.structs.force_setattr(self, name, freeze(getattr(self, name)))
