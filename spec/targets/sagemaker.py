"""The target `sagemaker`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from ..parts import FrozenDict, Kind, derived, form, freeze

S3Uri = Annotated[
    str,
    Meta(
        pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^\x00-\x1f\x7f]{0,600})?$(?!\n)",
        extra_json_schema=form("a place in S3 such as `s3://bucket/folder`"),
    ),
]
ChannelName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9._-]{1,64}$(?!\n)",
        extra_json_schema=form("letters, digits, `.`, `_` and `-`, at most 64"),
    ),
]
TagName = Annotated[
    str,
    Meta(
        pattern=r"^(?!aws:)[\w \u00a0.:/=+@-]{1,128}$(?!\n)",
        extra_json_schema=form("letters, digits, spaces and `_.:/=+-@`, at most 128, not beginning with `aws:`"),
    ),
]
TagValue = Annotated[
    str,
    Meta(
        pattern=r"^[\w \u00a0.:/=+@-]{0,256}$(?!\n)",
        extra_json_schema=form("letters, digits, spaces and `_.:/=+-@`, at most 256"),
    ),
]
MetricName = Annotated[
    str, Meta(pattern=r"^[^\r\n]{1,255}$(?!\n)", extra_json_schema=form("a line of at most 255 characters"))
]
MetricRegex = Annotated[
    str,
    Meta(pattern=r"^[^\r\n]{1,500}$(?!\n)", extra_json_schema=form("a regular expression of at most 500 characters")),
]
NetworkId = Annotated[
    str,
    Meta(pattern=r"^[-0-9a-zA-Z]{1,32}$(?!\n)", extra_json_schema=form("an id such as `subnet-0a1b2c` or `sg-0a1b2c`")),
]
KmsKey = Annotated[
    str,
    Meta(
        pattern=r"^[a-zA-Z0-9:/_-]{1,2048}$(?!\n)",
        extra_json_schema=form("the id or ARN of a key: letters, digits, `:`, `/`, `_` and `-`"),
    ),
]
Torch = Annotated[
    str,
    Meta(pattern=r"^[0-9]+\.[0-9]+$(?!\n)", extra_json_schema=form("a version such as `2.13`")),
]


class SageMaker(Kind, frozen=True, tag="sagemaker"):
    """A training job of Amazon SageMaker: machines that are there for the job alone."""

    region: Annotated[
        Annotated[
            str,
            Meta(pattern=r"^[a-z]{2,5}(-[a-z]+)+-[0-9]$(?!\n)", extra_json_schema=form("a region such as `us-east-1`")),
        ]
        | None,
        Meta(description="Region of AWS, such as `us-east-1`; it must be given."),
    ] = None
    role: Annotated[
        Annotated[
            str,
            Meta(
                pattern=r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/?[a-zA-Z_0-9+=,.@/-]{1,512}$(?!\n)",
                extra_json_schema=form("a role such as `arn:aws:iam::123456789012:role/training`"),
            ),
        ]
        | None,
        Meta(description="Role that the job acts as, by its ARN; it must be given."),
    ] = None
    instance_type: Annotated[
        Annotated[
            str,
            Meta(
                pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9]+$(?!\n)",
                extra_json_schema=form("a type such as `ml.p5.48xlarge`"),
            ),
        ]
        | None,
        Meta(description="Type of the machines, such as `ml.p5.48xlarge`; it must be given."),
    ] = None
    output: Annotated[
        S3Uri | None,
        Meta(
            description="Place in S3 for what the run needs and what it leaves behind, in a folder of each run; it"
            " must be given."
        ),
    ] = None
    image: Annotated[
        Annotated[
            str,
            Meta(
                pattern=r"^[^\s]{1,255}$(?!\n)",
                extra_json_schema=form("a container image of at most 255 characters without spaces"),
            ),
        ]
        | None,
        Meta(
            description="Container image; it has bash and python3.",
            extra_json_schema=derived("Amazon's image for the region, `torch` and the machines' devices"),
        ),
    ] = None
    torch: Annotated[Torch, Meta(description="Version of torch in Amazon's image.")] = "2.13"
    volume_gb: Annotated[
        int, Meta(ge=1, le=16384, description="Size in GB of the disk of each machine that has none of its own.")
    ] = 30
    spot: Annotated[
        bool,
        Meta(description="Take machines that others left over: cheaper, and taken away when they are needed."),
    ] = False
    max_wait_minutes: Annotated[
        Annotated[float, Meta(ge=1, le=40320)] | None,
        Meta(description="Minutes that a job with `spot` may take in all, with waiting; at least `limits.minutes`."),
    ] = None
    max_pending_minutes: Annotated[
        Annotated[float, Meta(ge=30, le=40320)] | None,
        Meta(description="Minutes that the job may wait for its machines; unset is SageMaker's choice."),
    ] = None
    checkpoint_s3: Annotated[
        S3Uri | None,
        Meta(
            description="Place in S3 that the folder of `training.checkpoint` is kept in while the job runs, and comes"
            " back from when it starts again."
        ),
    ] = None
    retries: Annotated[
        int, Meta(ge=0, le=30, description="How often SageMaker starts the job again after a fault of its own.")
    ] = 0
    channels: Annotated[
        dict[ChannelName, S3Uri],
        Meta(description="Data by name, in S3; each process finds it in `/opt/ml/input/data/NAME`."),
    ] = msgspec.field(default_factory=FrozenDict)
    input_mode: Annotated[
        Literal["File", "FastFile", "Pipe"],
        Meta(description="How channels come: copied before the start, read when opened, or as a stream."),
    ] = "File"
    subnets: Annotated[
        tuple[NetworkId, ...], Meta(description="Subnets of your own network that the machines join.")
    ] = ()
    security_groups: Annotated[
        tuple[NetworkId, ...], Meta(description="Security groups of the machines in your own network.")
    ] = ()
    network_isolation: Annotated[bool, Meta(description="Give the containers no network beyond each other.")] = False
    encrypt_traffic: Annotated[
        bool, Meta(description="Encrypt what the machines send each other, which makes training slower.")
    ] = False
    kms_key: Annotated[
        KmsKey | None, Meta(description="Key of KMS that encrypts the run's files in S3; unset is the bucket's choice.")
    ] = None
    volume_kms_key: Annotated[
        KmsKey | None, Meta(description="Key of KMS for the disks; machines that have disks of their own take none.")
    ] = None
    keep_alive_minutes: Annotated[
        float, Meta(ge=0, le=360, description="Minutes that the machines stay for a next job of the same kind.")
    ] = 0
    tags: Annotated[dict[TagName, TagValue], Meta(description="Tags of the job, by name.")] = msgspec.field(
        default_factory=FrozenDict
    )
    metrics: Annotated[
        dict[MetricName, MetricRegex],
        Meta(description="Metrics that SageMaker reads from the output, by name: a regular expression with a group."),
    ] = msgspec.field(default_factory=FrozenDict)
    exclude: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(
            description="Files and folders that are not copied, by patterns as in a .gitignore (`*.pt`, `data/raw`); a"
            " file .jobcignore in the job's folder says more."
        ),
    ] = (".git", ".venv", "__pycache__", "*.pyc", "node_modules", "checkpoints", "*.pt", "*.safetensors")
    extra: Annotated[
        dict[str, Any],
        Meta(description="Further members of the request CreateTrainingJob, added as they are written."),
    ] = msgspec.field(default_factory=FrozenDict)

    def __post_init__(self) -> None:
        for name in ("channels", "tags", "metrics", "extra"):
            msgspec.structs.force_setattr(self, name, freeze(getattr(self, name)))
