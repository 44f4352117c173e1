"""The typed model of `paradigm`: how the model is spread over the processes."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from .parts import FrozenDict, Kind, Part, derived, form, freeze


class NoParadigm(Kind, frozen=True, tag="none"):
    """One process, no communication."""


class Ddp(Kind, frozen=True, tag="ddp"):
    """DistributedDataParallel: every process holds the whole model and gradients are averaged."""

    find_unused_parameters: Annotated[
        bool,
        Meta(description="Look for parameters that took no part in the loss, at some cost for each step."),
    ] = False
    static_graph: Annotated[bool, Meta(description="Promise that the same parameters take part in every step.")] = False
    gradient_as_bucket_view: Annotated[
        bool,
        Meta(description="Let gradients live inside the communication buckets, which saves one copy of them."),
    ] = False
    bucket_size_mb: Annotated[
        int, Meta(ge=1, le=4096, description="Size in MiB of the buckets in which gradients are averaged.")
    ] = 25
    broadcast_buffers: Annotated[
        bool,
        Meta(description="Give all processes the first one's buffers (such as running means) at each forward pass."),
    ] = True
    comm_hook: Annotated[
        Literal["none", "fp16", "bf16", "power_sgd", "batched_power_sgd"],
        Meta(
            description="How gradients are sent: as they are, in 16 bits, or as a product of small matrices that comes"
            " near them (`power_sgd`)."
        ),
    ] = "none"


ClassName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$(?!\n)",
        extra_json_schema=form("the name of a class, such as `Block`"),
    ),
]


class Fsdp(Kind, frozen=True, tag="fsdp"):
    """fully_shard: parameters, gradients and optimizer state are cut in one piece for each process."""

    sharding: Annotated[
        Literal["full", "hybrid"],
        Meta(
            description="Over which processes the pieces are spread: `full` over all of them, `hybrid` over groups"
            " that each hold the whole model; gradients are averaged over the groups."
        ),
    ] = "full"
    replicate: Annotated[
        Annotated[int, Meta(ge=2, le=65536)] | None,
        Meta(
            description="Groups of processes that each hold the whole model with `sharding: hybrid`.",
            extra_json_schema=derived("`nodes`, where `sharding` is `hybrid` and there are several"),
        ),
    ] = None
    offload: Annotated[
        bool,
        Meta(
            description="Keep parameters, gradients and optimizer state in memory, where the optimizer steps too, and"
            " bring only what computes to the GPU."
        ),
    ] = False
    ignored: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(
            description="Modules whose parameters every process holds whole, by name, with `*` for any text; they are"
            " not trained."
        ),
    ] = ()
    wrap: Annotated[
        Literal["auto", "none", "size"] | Annotated[tuple[ClassName, ...], Meta(min_length=1)],
        Meta(
            description="Modules that are gathered one at a time: `auto` takes the model's repeated blocks, `none` the"
            " model as a whole, `size` those of `min_parameters`, a list names classes of modules."
        ),
    ] = "auto"
    min_parameters: Annotated[
        int,
        Meta(ge=1, description="Parameters of a module that is gathered by itself with `wrap: size`, at least."),
    ] = 100_000_000
    reshard_after_forward: Annotated[
        bool,
        Meta(description="Free gathered parameters after the forward pass: less memory, one more gathering each step."),
    ] = True


class Offload(Part, frozen=True):
    """Where a part of the training's state is kept while no device needs it."""

    device: Annotated[
        Literal["none", "cpu", "nvme"],
        Meta(description="`none` keeps it on the device, `cpu` in memory, `nvme` in files on a disk."),
    ] = "none"
    nvme_path: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(description="Folder on each node for the files of `nvme`, on a fast local disk."),
    ] = None
    pin_memory: Annotated[
        bool, Meta(description="Lock the memory that is copied from, for faster copies at the cost of memory.")
    ] = False


class DeepSpeed(Kind, frozen=True, tag="deepspeed"):
    """DeepSpeed's ZeRO: optimizer state, gradients and parameters cut in pieces, and kept elsewhere if need be."""

    zero_stage: Annotated[
        int,
        Meta(
            ge=0,
            le=3,
            description="What is cut in pieces: 1 optimizer state, 2 gradients too, 3 parameters too; 0 nothing.",
        ),
    ] = 2
    offload_optimizer: Annotated[Offload, Meta(description="Where the state of the optimizer is kept.")] = Offload()
    offload_param: Annotated[Offload, Meta(description="Where parameters are kept, with stage 3.")] = Offload()
    zero3_init: Annotated[
        bool, Meta(description="Cut parameters in pieces while the model is being made, with stage 3.")
    ] = False
    save_16bit_model: Annotated[
        bool, Meta(description="Gather whole parameters in 16 bits when the model is saved, with stage 3.")
    ] = False
    moe_layers: Annotated[
        tuple[ClassName, ...],
        Meta(description="Classes of mixture-of-experts layers, each of which is gathered as a whole, with stage 3."),
    ] = ()
    config_file: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(description="Configuration file of DeepSpeed, relative to the job file's folder, in place of the above."),
    ] = None
    config_argument: Annotated[
        Annotated[
            str, Meta(pattern=r"^[^\s=]+$(?!\n)", extra_json_schema=form("an option such as `--deepspeed_config`"))
        ]
        | None,
        Meta(
            description="Option of the script that takes DeepSpeed's configuration, such as `--deepspeed_config`; jobc"
            " adds it and the name of a file that it writes. Unset gives the script none."
        ),
    ] = None
    multinode_launcher: Annotated[
        Literal["standard", "pdsh", "openmpi", "mpich", "impi", "mvapich", "slurm"],
        Meta(
            description="What starts several nodes with `launcher: deepspeed`: `standard` is the target, the others are"
            " the deepspeed command's and start the machines of `hostfile` from this one."
        ),
    ] = "standard"
    multinode_args: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(description="Further options of that starter (of pdsh, mpirun or srun), passed on exactly as written."),
    ] = ()
    hostfile: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(
            description="Hostfile of the deepspeed command, lines of `name slots=8`, relative to the job file's folder."
        ),
    ] = None
    include: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(description="Machines and devices of the hostfile to use, such as `node1:0,1@node2`."),
    ] = None
    exclude: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(description="Machines and devices of the hostfile to leave out, in the same form."),
    ] = None


Degree = Annotated[int, Meta(ge=1, le=65536)]


class Megatron(Kind, frozen=True, tag="megatron"):
    """Several kinds of parallelism at once: within layers, between them, and over the sequence."""

    tp_degree: Annotated[Degree, Meta(description="Processes that share each layer (tensor parallelism).")] = 1
    pp_degree: Annotated[Degree, Meta(description="Stages of layers one after the other (pipeline parallelism).")] = 1
    cp_degree: Annotated[Degree, Meta(description="Processes that share each sequence (context parallelism).")] = 1
    ep_degree: Annotated[
        Degree, Meta(description="Processes over which the experts of a layer are spread (expert parallelism).")
    ] = 1
    sequence_parallel: Annotated[
        bool,
        Meta(description="Cut also what stands between the shared layers, along the sequence, with `tp_degree`."),
    ] = False
    micro_batches: Annotated[
        int, Meta(ge=1, description="Pieces of a batch that are in the pipeline one after the other.")
    ] = 1
    schedule: Annotated[
        Literal["1f1b", "interleaved", "gpipe"],
        Meta(
            description="Order of the pipeline: `1f1b` alternates forward and backward passes, `interleaved` does so"
            " with several groups of layers in each process, `gpipe` does all forward passes first."
        ),
    ] = "1f1b"
    virtual_stages: Annotated[
        int, Meta(ge=1, le=1024, description="Groups of layers that each process has with `schedule: interleaved`.")
    ] = 1
    recompute: Annotated[
        Literal["none", "selective", "full"],
        Meta(description="Activations that the backward pass computes again: none, those of attention, or all."),
    ] = "none"
    recompute_method: Annotated[
        Literal["uniform", "block"],
        Meta(description="Layers that `full` computes again: in groups of equal size, or the first ones of a stage."),
    ] = "uniform"
    recompute_layers: Annotated[
        int, Meta(ge=1, description="How many layers: of each group with `uniform`, of each stage with `block`.")
    ] = 1
    distributed_optimizer: Annotated[
        bool, Meta(description="Cut the state of the optimizer over the processes that hold the same parameters.")
    ] = False
    load_optimizer: Annotated[bool, Meta(description="Read the optimizer's state from a Megatron checkpoint.")] = True
    save_optimizer: Annotated[bool, Meta(description="Write the optimizer's state to a Megatron checkpoint.")] = True
    attention_backend: Annotated[
        Literal["auto", "flash", "fused", "unfused", "local"],
        Meta(description="Implementation of attention; `auto` takes the fastest that fits."),
    ] = "auto"
    tensor_parallel_plan: Annotated[
        dict[str, Literal["colwise", "rowwise", "replicate"]],
        Meta(
            description="How layers are shared, by name, with `*` for any text: by columns (`colwise`), by rows"
            " (`rowwise`) or not at all (`replicate`); layers that are known need no entry."
        ),
    ] = msgspec.field(default_factory=FrozenDict)

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "tensor_parallel_plan", freeze(self.tensor_parallel_plan))
