"""The target `slurm`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from ..parts import Kind, derived, form

Word = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9._,:+=/@-]+$(?!\n)",
        extra_json_schema=form("a name without spaces, or several with commas between them"),
    ),
]
Constraint = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9._,:+=&|*()\[\]-]+$(?!\n)",
        extra_json_schema=form("features of nodes such as `h100` or `intel&gpu`, without spaces"),
    ),
]
NodeList = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._,\[\]-]*$(?!\n)",
        extra_json_schema=form("nodes such as `n1,n2` or `n[1-4,7]`"),
    ),
]
Size = Annotated[
    str,
    Meta(
        pattern=r"^[1-9][0-9]{0,6}(MiB|GiB|TiB)$(?!\n)",
        extra_json_schema=form("a size such as `512MiB` or `8GiB`"),
    ),
]
Mount = Annotated[
    str,
    Meta(
        pattern=r"^/[^\x00-\x20,:\"'\\]*(:/[^\x00-\x20,:\"'\\]*)?(:(ro|rw))?$(?!\n)",
        extra_json_schema=form("a folder, or two with a colon between them, such as `/data:/data:ro`"),
    ),
]
Option = Annotated[
    str,
    Meta(
        pattern=r"^--?[A-Za-z][^\x00-\x1f#]*$(?!\n)",
        extra_json_schema=form("one option of sbatch such as `--licenses=matlab:1`"),
    ),
]
VariableName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$(?!\n)",
        extra_json_schema=form("the name of a variable: letters, digits and `_`, no digit first"),
    ),
]


class Slurm(Kind, frozen=True, tag="slurm"):
    """A cluster with Slurm, whose nodes share the disks of the job's folder and of jobc's runs with this machine."""

    partition: Annotated[
        Word | None, Meta(description="Partition that the job is queued in; unset is the cluster's default.")
    ] = None
    account: Annotated[Word | None, Meta(description="Account that the job is charged to.")] = None
    qos: Annotated[Word | None, Meta(description="Quality of service of the job.")] = None
    reservation: Annotated[Word | None, Meta(description="Reservation whose nodes the job takes.")] = None
    constraint: Annotated[Constraint | None, Meta(description="Features that its nodes must have.")] = None
    nodelist: Annotated[NodeList | None, Meta(description="Nodes that must be among those of the job.")] = None
    exclude: Annotated[NodeList | None, Meta(description="Nodes that the job does not take.")] = None
    exclusive: Annotated[bool, Meta(description="Share the job's nodes with no other job.")] = False
    gpus: Annotated[
        Literal["gpus-per-node", "gres"],
        Meta(description="Option of sbatch that asks for GPUs; clusters with an old Slurm need `gres`."),
    ] = "gpus-per-node"
    gpu_type: Annotated[
        Word | None, Meta(description="Type of the GPUs by the cluster's own name, such as `h100`; unset takes any.")
    ] = None
    cpus_per_task: Annotated[
        Annotated[int, Meta(ge=1, le=4096)] | None,
        Meta(
            description="CPUs of a task: of a node's torchrun with all its processes, or of a process with `launcher:"
            " python`.",
            extra_json_schema=derived(
                "`hardware.threads_per_process` for each process; with `exclusive` all there are"
            ),
        ),
    ] = None
    memory: Annotated[Size | None, Meta(description="Memory of each node, such as `64GiB`.")] = None
    requeue: Annotated[
        bool,
        Meta(
            description="Queue the job again when its time is nearly up, when it is preempted or loses a node; it is"
            " then to go on from a checkpoint."
        ),
    ] = False
    signal_before: Annotated[
        Annotated[int, Meta(ge=5, le=65535)] | None,
        Meta(
            description="Seconds before its time limit at which the processes are asked to save and to end.",
            extra_json_schema=derived("`requeue`: 120 with it, else Slurm asks when the time is up"),
        ),
    ] = None
    container_image: Annotated[
        Annotated[
            str,
            Meta(
                pattern=r"^[^\x00-\x20-][^\x00-\x20]*$(?!\n)",
                extra_json_schema=form("an image or a file, without spaces"),
            ),
        ]
        | None,
        Meta(description="Image of a container in which the processes run; unset runs them on the node itself."),
    ] = None
    container_runtime: Annotated[
        Literal["pyxis", "apptainer"],
        Meta(description="What runs the container: srun with the plugin pyxis, or the command apptainer."),
    ] = "pyxis"
    container_mounts: Annotated[
        tuple[Mount, ...],
        Meta(description="Folders of the node that the container sees, beside the job's folder and the run's."),
    ] = ()
    export: Annotated[
        tuple[VariableName, ...],
        Meta(description="Variables of this machine that the processes see beside `env` and `secrets`."),
    ] = ("HOME", "LANG", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "SHELL", "USER")
    extra: Annotated[
        tuple[Option, ...],
        Meta(description="Further options of sbatch, one each, written into the script as they are."),
    ] = ()
