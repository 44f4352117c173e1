"""The target `ray`."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from ..parts import FrozenDict, Kind, Part, form, freeze

Amount = Annotated[float, Meta(ge=0, le=1048576)]
Resources = dict[Annotated[str, Meta(min_length=1)], Amount]


class Entrypoint(Part, frozen=True):
    """What Ray sets aside for the process that starts and watches the nodes."""

    cpus: Annotated[Amount | None, Meta(description="CPUs that Ray sets aside for it; unset is none.")] = None
    gpus: Annotated[Amount | None, Meta(description="GPUs that Ray sets aside for it; unset is none.")] = None
    memory: Annotated[
        Annotated[int, Meta(ge=1)] | None, Meta(description="Bytes of memory that Ray sets aside for it.")
    ] = None
    resources: Annotated[
        Resources, Meta(description="Resources of your cluster that Ray sets aside for it, by name.")
    ] = msgspec.field(default_factory=FrozenDict)

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "resources", freeze(self.resources))


class Ray(Kind, frozen=True, tag="ray"):
    """Nodes of a Ray cluster, which a job that is submitted there is given; the job's files are sent along."""

    address: Annotated[
        Annotated[
            str,
            Meta(
                pattern=r"^https?://[^\s/]+(/\S*)?$(?!\n)",
                extra_json_schema=form("the address of the cluster's dashboard, such as `http://head:8265`"),
            ),
        ]
        | None,
        Meta(description="Address of the cluster's dashboard; unset is RAY_API_SERVER_ADDRESS or RAY_ADDRESS."),
    ] = None
    cpus: Annotated[
        Amount | None,
        Meta(
            description="CPUs that Ray sets aside on each node; unset is one for each thread of each process, where"
            " `hardware.threads_per_process` says how many, else one for each process."
        ),
    ] = None
    resources: Annotated[
        Resources,
        Meta(description="Further resources that Ray sets aside on each node, such as `accelerator_type:H100: 0.001`."),
    ] = msgspec.field(default_factory=FrozenDict)
    runtime_env: Annotated[
        dict[str, Any],
        Meta(description="Ray's runtime environment, such as `pip: [datasets]`, passed on as written."),
    ] = msgspec.field(default_factory=FrozenDict)
    entrypoint: Annotated[
        Entrypoint, Meta(description="What Ray sets aside for the process that starts and watches the nodes.")
    ] = Entrypoint()
    folder: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9._/][A-Za-z0-9._/-]*$(?!\n)",
            description="Folder on the nodes that the job's files are unpacked in, relative to the home folder there.",
            extra_json_schema=form("a path of letters, digits, `.`, `_`, `-` and `/`, without `~`"),
        ),
    ] = ".jobc"
    exclude: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(
            description="Files and folders that are not sent, by patterns as in a .gitignore (`*.pt`, `data/raw`); a"
            " file .jobcignore in the job's folder says more."
        ),
    ] = (".git", ".venv", "__pycache__", "*.pyc", "node_modules", "checkpoints", "*.pt", "*.safetensors")
    ray_args: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(description="Further options of every `ray job` command, such as `--verify=ca.pem`, exactly as written."),
    ] = ()
    submit_args: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(description="Further options of `ray job submit`, passed on exactly as written."),
    ] = ()

    def __post_init__(self) -> None:
        for name in ("resources", "runtime_env"):
            msgspec.structs.force_setattr(self, name, freeze(getattr(self, name)))
