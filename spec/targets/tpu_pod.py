"""The target `tpu_pod`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ..parts import FrozenDict, Kind, form, freeze

Word = Annotated[str, Meta(min_length=1)]
Flags = tuple[Word, ...]
Duration = Annotated[
    str, Meta(pattern=r"^[1-9][0-9]{0,6}[smhd]$(?!\n)", extra_json_schema=form("a duration such as `90m` or `6h`"))
]
LabelName = Annotated[
    str,
    Meta(
        pattern=r"^[a-z][a-z0-9_-]{0,62}$(?!\n)",
        extra_json_schema=form("a label such as `team`: small letters, digits, `-` and `_`"),
    ),
]
LabelValue = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9_-]{0,63}$(?!\n)",
        extra_json_schema=form("a label's value: small letters, digits, `-` and `_`, at most 63"),
    ),
]


class TpuPod(Kind, frozen=True, tag="tpu_pod"):
    """A slice of TPUs of Google's cloud, made for the run and removed after it; each of its machines is a node."""

    zone: Annotated[
        Annotated[
            str,
            Meta(
                pattern=r"^[a-z]+-[a-z]+[0-9]+-[a-z]+[0-9]*$(?!\n)",
                extra_json_schema=form("a zone such as `us-central2-b`"),
            ),
        ]
        | None,
        Meta(description="Zone in which the machines are, such as `us-east5-b`; it has to be said."),
    ] = None
    project: Annotated[
        Annotated[
            str,
            Meta(
                pattern=r"^[a-z0-9.:-]{4,60}$(?!\n)",
                extra_json_schema=form("the id of a project such as `my-project-1`"),
            ),
        ]
        | None,
        Meta(description="Project of the cloud that pays; unset is the one that gcloud is configured for."),
    ] = None
    way: Annotated[
        Literal["tpu_vm", "queued_resource", "compute_engine"],
        Meta(
            description="Where the machines come from: Cloud TPU at once (`tpu_vm`) or when there are some"
            " (`queued_resource`), or Compute Engine, which newer TPUs are only had from."
        ),
    ] = "tpu_vm"
    name: Annotated[
        Annotated[
            str,
            Meta(
                pattern=r"^[a-z]([a-z0-9-]{0,59}[a-z0-9])?$(?!\n)",
                extra_json_schema=form("small letters, digits and `-`, at most 61, a letter first"),
            ),
        ]
        | None,
        Meta(description="Name of the slice in the cloud; unset is the run's id."),
    ] = None
    existing: Annotated[
        bool, Meta(description="Use the slice of that `name`, which is there, and leave it there afterwards.")
    ] = False
    keep: Annotated[bool, Meta(description="Leave the machines there when the run has ended; they go on costing.")] = (
        False
    )
    capacity: Annotated[
        Literal["on_demand", "spot", "reserved", "flex_start"],
        Meta(
            description="Which machines: `on_demand`; `spot`, which may be taken away at any time; `reserved` ahead; or"
            " `flex_start`, for a limited time as soon as there are some."
        ),
    ] = "on_demand"
    reservation: Annotated[
        Word | None,
        Meta(description="Name of the reservation, for `capacity: reserved` with `way: compute_engine`."),
    ] = None
    valid_until: Annotated[
        Duration | None,
        Meta(description="How long the request for machines may wait before it lapses, such as `6h`."),
    ] = None
    max_minutes: Annotated[
        Annotated[float, Meta(gt=0, le=527040)] | None,
        Meta(description="Minutes after which the cloud takes the machines away, whatever runs on them."),
    ] = None
    runtime_version: Annotated[
        Word | None,
        Meta(description="Software of machines of Cloud TPU, such as `v2-alpha-tpuv6e`; unset is that for their type."),
    ] = None
    image: Annotated[
        Annotated[
            str,
            Meta(
                pattern=r"^[a-z0-9.:-]+/[a-z0-9-]+$(?!\n)",
                extra_json_schema=form("a project and a family such as `debian-cloud/debian-12`"),
            ),
        ]
        | None,
        Meta(description="Image of machines of Compute Engine, its project and family; unset is that for their type."),
    ] = None
    boot_disk_gb: Annotated[
        Annotated[int, Meta(ge=10, le=65536)] | None,
        Meta(description="Size of the boot disk of machines of Compute Engine in GB; unset is 200."),
    ] = None
    data_disks: Annotated[
        Flags,
        Meta(
            description="Disks of the zone that are attached by name, for reading only where there are several nodes."
        ),
    ] = ()
    network: Annotated[Word | None, Meta(description="Network of the machines; unset is `default`.")] = None
    subnetwork: Annotated[Word | None, Meta(description="Subnetwork of the machines.")] = None
    internal_ips: Annotated[
        bool, Meta(description="Give the machines no addresses outside of the network, and reach them inside it.")
    ] = False
    service_account: Annotated[
        Word | None, Meta(description="Account that the machines act as; unset is that of Compute Engine.")
    ] = None
    tags: Annotated[Flags, Meta(description="Network tags of the machines, which rules of a firewall name.")] = ()
    labels: Annotated[
        dict[LabelName, LabelValue], Meta(description="Labels of the machines, by which bills are told apart.")
    ] = msgspec.field(default_factory=FrozenDict)
    user: Annotated[
        Annotated[
            str,
            Meta(
                pattern=r"^[a-z_][a-z0-9_-]{0,31}$(?!\n)",
                extra_json_schema=form("a user's name: small letters, digits, `-` and `_`"),
            ),
        ]
        | None,
        Meta(description="User on the machines; unset is gcloud's choice."),
    ] = None
    exclude: Annotated[
        Flags,
        Meta(
            description="Files and folders that are not copied, by patterns as in a .gitignore (`*.pt`, `data/raw`); a"
            " file .jobcignore in the job's folder says more."
        ),
    ] = (".git", ".venv", "__pycache__", "*.pyc", "node_modules", "checkpoints", "*.pt", "*.safetensors")
    create_args: Annotated[
        Flags,
        Meta(description="Further flags of the gcloud command that makes the machines, passed on exactly as written."),
    ] = ()
    ssh_args: Annotated[
        Flags, Meta(description="Further flags of every `gcloud ... ssh`, passed on exactly as written.")
    ] = ()
    scp_args: Annotated[
        Flags, Meta(description="Further flags of every `gcloud ... scp`, passed on exactly as written.")
    ] = ()

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "labels", freeze(self.labels))
