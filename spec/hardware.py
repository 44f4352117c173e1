"""The typed model of `hardware`: the devices that a job uses on each node."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from .parts import Kind, derived, form

PerNode = Annotated[int, Meta(ge=1, le=1024, description="Processes on each node, one for each device.")]
Threads = Annotated[
    int,
    Meta(
        ge=1,
        le=4096,
        description="CPU threads that each process may use (OMP_NUM_THREADS); unset leaves the choice to torch.",
        extra_json_schema=derived("1 where a node has several processes"),
    ),
]
CpuList = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]{1,5}(-[0-9]{1,5})?(,[0-9]{1,5}(-[0-9]{1,5})?)*$(?!\n)",
        extra_json_schema=form("numbers of CPUs such as `0-3` or `0,2,8-11`"),
    ),
]
Affinity = Annotated[
    Annotated[tuple[CpuList, ...], Meta(min_length=1)] | None,
    Meta(
        description="CPUs that each process of a node is bound to, one entry a process, such as `[0-3, 4-7]`; unset"
        " binds none. It needs `launcher: python` or one process."
    ),
]


class AutoHardware(Kind, frozen=True, tag="auto"):
    """Whatever the process finds: a CUDA device where there is one, else the CPU."""

    per_node: PerNode = 1
    threads_per_process: Threads | None = None
    cpu_affinity: Affinity = None


class Cpu(Kind, frozen=True, tag="cpu"):
    """The CPU; several processes talk over gloo."""

    per_node: PerNode = 1
    threads_per_process: Threads | None = None
    cpu_affinity: Affinity = None


Model = Literal[
    "k80",
    "p100",
    "v100",
    "t4",
    "rtx2080ti",
    "a100",
    "a30",
    "a10",
    "a10g",
    "a40",
    "a6000",
    "rtx3090",
    "l4",
    "l40",
    "l40s",
    "rtx4090",
    "rtx6000ada",
    "rtx5090",
    "rtxpro4500",
    "rtxpro6000",
    "h100",
    "h800",
    "h200",
    "gh200",
    "b200",
    "gb200",
    "b300",
    "mi210",
    "mi250x",
    "mi300x",
    "mi325x",
    "mi350x",
    "mi355x",
]
Numa = Annotated[
    Literal["none", "node", "socket", "exclusive", "core-complex"],
    Meta(
        description="CPUs that each process is bound to: those of the memory node or socket beside its GPU, a share of"
        " them that is its own (`exclusive`), or cores with one cache (`core-complex`)."
    ),
]


class Gpu(Kind, frozen=True, tag="gpu"):
    """NVIDIA or AMD GPUs through torch.cuda; several processes talk over NCCL."""

    per_node: Annotated[
        PerNode | Literal["all"],
        Meta(description="Processes on each node, one for each GPU; `all` counts the GPUs of this machine."),
    ] = 1
    ids: Annotated[
        Annotated[tuple[Annotated[int, Meta(ge=0, le=1023)], ...], Meta(min_length=1)] | None,
        Meta(description="Numbers of the GPUs to use on each node (CUDA_VISIBLE_DEVICES); unset takes the first ones."),
    ] = None
    threads_per_process: Threads | None = None
    cpu_affinity: Affinity = None
    numa_binding: Numa = "none"
    model: Annotated[
        Model | None,
        Meta(description="Model of the GPUs, which each process finds there or ends; unset takes any."),
    ] = None


class Tpu(Kind, frozen=True, tag="tpu"):
    """TPUs of Google's cloud, which the job's own script trains on; jobc's runtime has none yet."""

    per_node: Annotated[
        PerNode,
        Meta(
            description="Processes on each node, one for each device; with `runtime: spmd` one for all of them.",
            extra_json_schema=derived("`type`, else 1"),
        ),
    ]
    type: Annotated[
        Annotated[
            str,
            Meta(
                pattern=r"^[a-z0-9]+-[1-9][0-9]{0,4}$(?!\n)", extra_json_schema=form("a type of TPU such as `v6e-16`")
            ),
        ]
        | None,
        Meta(description="Type of the slice, such as `v6e-16`; the number of machines follows from it."),
    ] = None
    runtime: Annotated[
        Literal["torch_tpu", "torch_xla", "spmd"],
        Meta(
            description="Library that computes: `torch_tpu`, or `torch_xla`, which with `spmd` cuts each computation"
            " over all devices by itself."
        ),
    ] = "torch_tpu"
    threads_per_process: Threads | None = None


def cpu_lists(hardware: AutoHardware | Cpu | Gpu | Tpu) -> tuple[str, ...] | None:
    """CPUs that the processes of a node are bound to."""
    return None if isinstance(hardware, Tpu) else hardware.cpu_affinity
