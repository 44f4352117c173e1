"""What a script hands to `Accelerator` beside plain values: the classes and field names that Accelerate taught.

Each is frozen data. `arguments.py` turns them into the job's settings; a field that cannot be honoured is a finding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from enum import StrEnum
from os import PathLike
from typing import Any

from torch import nn


class DDPCommunicationHookType(StrEnum):
    """How DDP sends gradients: as they are, in 16 bits, or compressed."""

    NO = "no"
    FP16 = "fp16"
    BF16 = "bf16"
    POWER_SGD = "power_sgd"
    BATCHED_POWER_SGD = "batched_power_sgd"


class KwargsHandler:
    """The base of the classes that `kwargs_handlers` takes, one of each."""

    def to_kwargs(self) -> dict[str, Any]:
        """The fields that differ from their defaults, by name."""
        plain = type(self)()
        pairs = ((item.name, getattr(self, item.name)) for item in fields(self))  # pyright: ignore[reportArgumentType]
        return {name: value for name, value in pairs if value != getattr(plain, name)}


@dataclass(frozen=True)
class GradientAccumulationPlugin(KwargsHandler):
    """How gradients are accumulated.

    Args:
        num_steps: Batches whose gradients make one optimizer step; None leaves it to the job.
        adjust_scheduler: Either value: jobc never touches the counters inside of torch's schedulers.
        sync_with_dataloader: The end of the data closes a window. False lets windows go on over it.
        sync_each_batch: Average gradients with every batch, which saves memory under `fsdp` and costs time.
    """

    num_steps: int | None = None
    adjust_scheduler: bool = True
    sync_with_dataloader: bool = True
    sync_each_batch: bool = False


@dataclass(frozen=True)
class DataLoaderConfiguration(KwargsHandler):
    """How prepared data loaders deal out their batches.

    Args:
        split_batches: The loaders' batch size is that of all processes together.
        dispatch_batches: True: the first process reads the data and sends the others their parts; False: each process
            reads its own; None leaves it to the job.
        even_batches: Fill the last batches from the start of the data, so that all processes take as many steps.
        use_seedable_sampler: Either value: the order of the data is always a function of the seed and the epoch.
        data_seed: Seed of the order of the data; None takes that of the job.
        non_blocking: Either value: batches are moved without blocking wherever the loader pins its memory.
        use_stateful_dataloader: Either value: every prepared loader has `state_dict` and `load_state_dict`.
    """

    split_batches: bool = False
    dispatch_batches: bool | None = None
    even_batches: bool = True
    use_seedable_sampler: bool = False
    data_seed: int | None = None
    non_blocking: bool = False
    use_stateful_dataloader: bool = False


@dataclass(frozen=True)
class DistributedDataParallelKwargs(KwargsHandler):
    """Options of DistributedDataParallel, for jobs whose paradigm is `ddp`.

    Args:
        dim: Only 0.
        broadcast_buffers: Give all processes the first one's buffers at each forward pass. They start equal either way.
        bucket_cap_mb: MiB of the buckets in which gradients are averaged.
        find_unused_parameters: Look for parameters that took no part in the loss.
        check_reduction: Only False; torch has no such check any more.
        gradient_as_bucket_view: Let gradients live inside of the buckets.
        static_graph: Promise that the same parameters take part in every step.
        comm_hook: How gradients are sent.
        comm_wrapper: `FP16` or `BF16`: what `comm_hook` sends is halved too.
        comm_state_option: Arguments of torch's PowerSGDState for the two PowerSGD hooks.
    """

    dim: int = 0
    broadcast_buffers: bool = True
    bucket_cap_mb: int = 25
    find_unused_parameters: bool = False
    check_reduction: bool = False
    gradient_as_bucket_view: bool = False
    static_graph: bool = False
    comm_hook: DDPCommunicationHookType = DDPCommunicationHookType.NO
    comm_wrapper: DDPCommunicationHookType = DDPCommunicationHookType.NO
    comm_state_option: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class GradScalerKwargs(KwargsHandler):
    """The loss scale of fp16.

    Args:
        init_scale: The scale of the first step.
        growth_factor: What the scale is multiplied by when it grows.
        backoff_factor: What it is multiplied by after an overflow.
        growth_interval: Steps without an overflow after which it grows.
        enabled: Only True: without a scale there is no training in fp16.
    """

    init_scale: float = 65536.0
    growth_factor: float = 2.0
    backoff_factor: float = 0.5
    growth_interval: int = 2000
    enabled: bool = True


@dataclass(frozen=True)
class InitProcessGroupKwargs(KwargsHandler):
    """How processes meet.

    Args:
        backend: torch's name of what they talk through; None takes nccl on GPUs and gloo on CPUs.
        init_method: Only None or `env://`: the launcher says where processes meet.
        timeout: How long a collective may wait for a process; None takes torch's default.
    """

    backend: str | None = None
    init_method: str | None = None
    timeout: timedelta | None = None


@dataclass(frozen=True)
class AutocastKwargs(KwargsHandler):
    """How autocast is done: `enabled`, and whether casts of weights are kept within one context (`cache_enabled`)."""

    enabled: bool = True
    cache_enabled: bool | None = None


@dataclass(frozen=True)
class TorchDynamoPlugin(KwargsHandler):
    """How models are compiled. `backend` None or `no` compiles nothing; the rest is torch.compile's."""

    backend: str | None = None
    mode: str | None = None
    fullgraph: bool | None = None
    dynamic: bool | None = None
    options: Mapping[str, Any] | None = None
    disable: bool = False
    use_regional_compilation: bool | None = None


@dataclass(frozen=True)
class ProjectConfiguration:
    """Where a project keeps its files.

    Args:
        project_dir: Its folder.
        logging_dir: The folder for logs; None takes `project_dir`.
        automatic_checkpoint_naming: Checkpoints are `checkpoints/checkpoint_0`, `checkpoint_1`, ... in `project_dir`,
            whatever folder `save_state` is given; the count goes on after `load_state`.
        total_limit: How many of them are kept, the newest ones; None keeps all.
        iteration: The number of the first one.
        save_on_each_node: Only False: the first process of the job writes what is saved.
    """

    project_dir: str | PathLike[str] | None = None
    logging_dir: str | PathLike[str] | None = None
    automatic_checkpoint_naming: bool = False
    total_limit: int | None = None
    iteration: int = 0
    save_on_each_node: bool = False


@dataclass(frozen=True)
class FullyShardedDataParallelPlugin(KwargsHandler):
    """Options of fully sharded training, for jobs whose paradigm is `fsdp`; None leaves a field to the job.

    jobc shards with `fully_shard` (FSDP2), so `fsdp_version` is 2 or None, and what only FSDP1 had is refused.
    """

    fsdp_version: int | None = None
    sharding_strategy: str | None = None
    reshard_after_forward: bool | str | None = None
    backward_prefetch: str | None = None
    mixed_precision_policy: Any = None
    auto_wrap_policy: str | Callable[..., Any] | None = None
    cpu_offload: Any = None
    ignored_modules: Iterable[nn.Module] | str | None = None
    state_dict_type: str | None = None
    state_dict_config: Any = None
    optim_state_dict_config: Any = None
    limit_all_gathers: bool = True
    use_orig_params: bool | None = None
    param_init_fn: Callable[[nn.Module], None] | None = None
    sync_module_states: bool | None = None
    forward_prefetch: bool | None = None
    activation_checkpointing: bool | None = None
    activation_checkpointing_offload: bool | None = None
    cpu_ram_efficient_loading: bool | None = None
    transformer_cls_names_to_wrap: list[str] | None = None
    min_num_params: int | None = None
