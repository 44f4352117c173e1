"""From the constructor's arguments to settings: plain values, Accelerate's plugin classes, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from ..spec.model import Ddp, Fp16, Fsdp, Paradigm, Precision
from ..spec.resolved import ResolvedSpec
from . import translate
from .plugins import (
    AutocastKwargs,
    DataLoaderConfiguration,
    DDPCommunicationHookType,
    DistributedDataParallelKwargs,
    FullyShardedDataParallelPlugin,
    GradientAccumulationPlugin,
    GradScalerKwargs,
    InitProcessGroupKwargs,
    KwargsHandler,
    ProjectConfiguration,
    TorchDynamoPlugin,
)
from .refusals import Refusals
from .settings import Keywords, Settings, contradiction, kind_of

_HANDLERS = (AutocastKwargs, DistributedDataParallelKwargs, GradScalerKwargs, InitProcessGroupKwargs)
_LATER = "leave it away: this version of jobc does not have it yet"


@dataclass(frozen=True, kw_only=True, slots=True)
class Arguments:
    """What the code said, taken apart. `ddp` and `scaler` hold only what differs from their defaults."""

    keywords: Keywords
    placement: bool
    accumulation: GradientAccumulationPlugin
    loader: DataLoaderConfiguration
    project: ProjectConfiguration
    autocast: AutocastKwargs
    group: InitProcessGroupKwargs
    ddp: DistributedDataParallelKwargs
    scaler: GradScalerKwargs
    fsdp: dict[str, Any] | None
    compile: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """The constructor's arguments as they came. `absent` holds those that are known and not there yet, by name."""

    device_placement: bool
    split_batches: bool | None
    even_batches: bool | None
    mixed_precision: Any
    gradient_accumulation_steps: int | None
    cpu: bool | None
    dataloader_config: DataLoaderConfiguration | None
    gradient_accumulation_plugin: GradientAccumulationPlugin | None
    fsdp_plugin: FullyShardedDataParallelPlugin | None
    kwargs_handlers: Sequence[KwargsHandler] | None
    dynamo_backend: Any
    dynamo_plugin: TorchDynamoPlugin | None
    rng_types: Sequence[Any] | None
    log_with: Any
    project_dir: Any
    project_config: ProjectConfiguration | None
    follow_optimizer: bool
    absent: dict[str, Any]


def read(given: Given) -> Arguments:
    """The constructor's arguments taken apart.

    Raises:
        FindingsError: J507, arguments that cannot be honoured; all of them at once.
    """
    refusals = Refusals()
    _refuse_types(given, refusals)
    refusals.end()
    _refuse_absent(given, refusals)
    handlers = _by_kind(given.kwargs_handlers or (), refusals)
    group: InitProcessGroupKwargs = handlers[InitProcessGroupKwargs]
    refusals.fixed("kwargs_handlers", handlers[DistributedDataParallelKwargs], _FIXED_DDP)
    refusals.fixed("kwargs_handlers", handlers[GradScalerKwargs], _FIXED_SCALER)
    if group.init_method not in (None, "env://"):
        cause = f"`InitProcessGroupKwargs(init_method={group.init_method!r})` says where processes meet"
        refusals.refuse("kwargs_handlers", cause, "leave it to the launcher that starts them")
    loader = given.dataloader_config or DataLoaderConfiguration()
    accumulation = given.gradient_accumulation_plugin or GradientAccumulationPlugin()
    found = Arguments(
        keywords=_keywords(given, loader, accumulation, refusals),
        placement=given.device_placement,
        accumulation=accumulation,
        loader=loader,
        project=_project(given.project_dir, given.project_config, refusals),
        autocast=handlers[AutocastKwargs],
        group=group,
        ddp=handlers[DistributedDataParallelKwargs],
        scaler=handlers[GradScalerKwargs],
        fsdp=None if given.fsdp_plugin is None else translate.sharding(given.fsdp_plugin, refusals),
        compile=translate.compilation(given.dynamo_backend, given.dynamo_plugin, refusals),
    )
    refusals.end()
    return found


def _keywords(
    given: Given, loader: DataLoaderConfiguration, accumulation: GradientAccumulationPlugin, refusals: Refusals
) -> Keywords:
    precision, steps = given.mixed_precision, given.gradient_accumulation_steps
    # 1 is what Accelerate's own default is, and says nothing beside a plugin.
    said = ("gradient_accumulation_steps", None if steps == 1 else steps)
    together = _one_of(refusals, said, ("gradient_accumulation_plugin", accumulation.num_steps))
    words, sharded = loader.to_kwargs(), given.fsdp_plugin
    return Keywords(
        gradient_accumulation_steps=steps if together is None else together,
        mixed_precision=None if precision is None else str(getattr(precision, "value", precision)),
        cpu=given.cpu,
        split_batches=words.get("split_batches", given.split_batches),
        even_batches=words.get("even_batches", given.even_batches),
        dispatch_batches=loader.dispatch_batches,
        data_seed=loader.data_seed,
        activation_checkpointing=None if sharded is None else sharded.activation_checkpointing,
        activation_checkpointing_offload=None if sharded is None else sharded.activation_checkpointing_offload,
        step_scheduler_with_optimizer=given.follow_optimizer,
        rng_types=_generators(given.rng_types or (), refusals),
    )


def places(given: Sequence[bool | None] | None, count: int) -> Sequence[bool | None]:
    """What `prepare` was told about the devices of its objects, one word for each.

    Raises:
        FindingsError: J507, there are not as many words as objects.
    """
    refusals = Refusals()
    if given is not None and len(given) != count:
        cause = f"it has {len(given)} entries for {count} object{'s' if count != 1 else ''}"
        refusals.refuse("device_placement", cause, "give one for each object, None where the job decides")
    refusals.end()
    return given or ()


def amend(settings: Settings, said: Arguments, spec: ResolvedSpec | None, processes: int) -> Settings:
    """The settings with the options of the plugin classes in them.

    Raises:
        FindingsError: J503, an option contradicts the job; J507, it has no effect under the paradigm or the precision
            of the job, or has an impossible value.
    """
    refusals = Refusals()
    paradigm = _paradigm(settings.paradigm, said, spec, processes, refusals)
    if isinstance(paradigm, Fsdp) and processes > 1 and not settings.even_batches:
        cause = "False lets processes end at different batches; with `paradigm: fsdp` each needs all"
        refusals.refuse("even_batches", cause, "leave it away, or train with `paradigm=ddp`")
    amended = replace(
        settings,
        gradient_accumulation=_accumulation(settings.gradient_accumulation, spec, processes),
        paradigm=paradigm,
        precision=_precision(settings.precision, said, spec, refusals),
        compile=_changed(settings.compile, "training.compile", said.compile, "dynamo_plugin", spec, refusals),
    )
    refusals.end()
    return amended


def _accumulation(planned: int, spec: ResolvedSpec | None, processes: int) -> int:
    """The batches of a step, which follow from the processes that there are where machines come and go."""
    if spec is None or spec.job.nodes.elastic.min is None:
        return planned
    total, each = spec.job.training.global_batch, spec.job.training.micro_batch
    return planned if total is None or each is None else max(1, total // (each * processes))


def _paradigm(
    job: Paradigm | None, said: Arguments, spec: ResolvedSpec | None, processes: int, refusals: Refusals
) -> Paradigm | None:
    if said.fsdp is not None and not isinstance(job, Fsdp):
        if job is not None and spec is not None and spec.origin("paradigm.kind").explicit:
            shown = "an fsdp_plugin"
            refusals.findings.append(contradiction("fsdp_plugin", shown, "paradigm.kind", kind_of(job), spec))
        else:
            job = Fsdp()
    if said.fsdp and isinstance(job, Fsdp):
        job = _changed(job, "paradigm", said.fsdp, "fsdp_plugin", spec, refusals)
    options = said.ddp.to_kwargs()
    if not options or processes == 1:  # what several processes do among each other is no matter for one
        return job
    base = job or Ddp()
    if not isinstance(base, Ddp):
        cause = f"DistributedDataParallelKwargs have no effect under paradigm `{kind_of(base)}`"
        refusals.refuse("kwargs_handlers", cause, "leave them away, or use `paradigm=ddp`")
        return job
    values = {_DDP_FIELDS[name]: value for name, value in options.items() if name in _DDP_FIELDS}
    if said.ddp.comm_hook != DDPCommunicationHookType.NO:
        values["comm_hook"] = DDPCommunicationHookType(said.ddp.comm_hook).value
    return _changed(base, "paradigm", values, "kwargs_handlers", spec, refusals)


def _precision(job: Precision, said: Arguments, spec: ResolvedSpec | None, refusals: Refusals) -> Precision:
    options = said.scaler.to_kwargs()
    if options and not isinstance(job, Fp16):
        cause = f"GradScalerKwargs have no effect with precision `{kind_of(job)}`"
        refusals.refuse("kwargs_handlers", cause, "leave them away, or use `mixed_precision='fp16'`")
        return job
    values = {_SCALER_FIELDS[name]: value for name, value in options.items()}
    return _changed(job, "precision", values, "kwargs_handlers", spec, refusals)


_FIXED_DDP: dict[str, tuple[Any, str]] = {
    "dim": (0, "leave it away: torch deprecates other dimensions of the batch"),
    "check_reduction": (False, "leave it away: torch ignores it"),
}
_FIXED_SCALER: dict[str, tuple[Any, str]] = {
    "enabled": (True, "use `mixed_precision='no'` or 'bf16', which need no loss scale"),
}
_FIXED_PROJECT: dict[str, tuple[Any, str]] = {
    "save_on_each_node": (False, "leave it away: copy what the first process saved, or save to a shared disk"),
}
_LISTS = (list, tuple)
#: The types of arguments that are no words and no numbers; the first one is what a person is told.
_TYPES: dict[str, tuple[type, ...]] = {
    "dataloader_config": (DataLoaderConfiguration,),
    "gradient_accumulation_plugin": (GradientAccumulationPlugin,),
    "fsdp_plugin": (FullyShardedDataParallelPlugin,),
    "dynamo_plugin": (TorchDynamoPlugin,),
    "project_config": (ProjectConfiguration,),
    "kwargs_handlers": _LISTS,
    "rng_types": _LISTS,
    "project_dir": (str, os.PathLike),
    **dict.fromkeys(("device_placement", "split_batches", "even_batches", "cpu", "follow_optimizer"), (bool,)),
}
#: Which field of the document's block each field of Accelerate's class is.
_DDP_FIELDS = {
    "broadcast_buffers": "broadcast_buffers",
    "bucket_cap_mb": "bucket_size_mb",
    "find_unused_parameters": "find_unused_parameters",
    "gradient_as_bucket_view": "gradient_as_bucket_view",
    "static_graph": "static_graph",
}
_SCALER_FIELDS = {
    "init_scale": "initial_scale",
    "growth_factor": "growth_factor",
    "backoff_factor": "backoff_factor",
    "growth_interval": "growth_interval",
}


def _changed(
    block: Any, path: str, values: dict[str, Any], keyword: str, spec: ResolvedSpec | None, refusals: Refusals
) -> Any:
    """A block of the job with other values in it, where the job is silent about them."""
    updates: dict[str, Any] = {}
    for name, value in values.items():
        job = getattr(block, name)
        if value == job:
            continue
        if spec is not None and spec.origin(f"{path}.{name}").explicit:
            refusals.findings.append(contradiction(keyword, f"{name}={value!r}", f"{path}.{name}", job, spec))
        else:
            updates[name] = value
    try:
        return msgspec.convert({**msgspec.to_builtins(block), **updates}, type(block))
    except msgspec.ValidationError as error:
        refusals.refuse(keyword, str(error), f"the field stands under `{path}` (jobc explain {path})")
        return block


def _refuse_types(given: Given, refusals: Refusals) -> None:
    for keyword, kinds in _TYPES.items():
        value = getattr(given, keyword)
        if value is None or isinstance(value, kinds):
            continue
        takes, step = f"it takes a {kinds[0].__name__}", f"give it a {kinds[0].__name__}"
        if kinds is _LISTS:
            step = f"write `{keyword}=[...]`"
        shown = "step_scheduler_with_optimizer" if keyword == "follow_optimizer" else keyword
        refusals.refuse(shown, f"{takes}, and was given a `{type(value).__name__}`", step)


def _refuse_absent(given: Given, refusals: Refusals) -> None:
    for keyword, value in given.absent.items():
        if value is not None:
            refusals.refuse(keyword, "jobc does not have this paradigm yet", "train with `paradigm=ddp` for now")
    if given.log_with is not None:
        cause = f"trackers are not there yet, so `{given.log_with!r}` would log nothing"
        refusals.refuse("log_with", cause, _LATER)


def _generators(given: Sequence[Any], refusals: Refusals) -> tuple[str, ...]:
    """The random states that processes share, in Accelerate's words."""
    names = tuple(str(getattr(kind, "value", kind)) for kind in given)
    for name in names:
        if name not in ("torch", "cuda", "generator"):
            refusals.refuse("rng_types", f"there is no `{name}` generator", "use `torch`, `cuda` or `generator`")
    return names


def _project(folder: Any, config: ProjectConfiguration | None, refusals: Refusals) -> ProjectConfiguration:
    config = config or ProjectConfiguration()
    refusals.fixed("project_config", config, _FIXED_PROJECT)
    limit = config.total_limit
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        cause = f"`total_limit={limit!r}` is no number of checkpoints to keep"
        refusals.refuse("project_config", cause, "use 1 or more, or None to keep all")
    chosen = _one_of(refusals, ("project_dir", folder), ("project_config", config.project_dir))
    return replace(config, project_dir=None if chosen is None else str(Path(chosen)))


def _one_of(refusals: Refusals, first: tuple[str, Any], second: tuple[str, Any]) -> Any:
    """The value of two keywords that say the same thing; an error where they say different things."""
    (one, value), (other, its_value) = first, second
    if value is not None and its_value is not None and value != its_value:
        refusals.refuse(one, f"`{value!r}` contradicts `{its_value!r}` of `{other}`", "say it in one place")
    return value if value is not None else its_value


def _by_kind(handlers: Sequence[KwargsHandler], refusals: Refusals) -> dict[type, Any]:
    """One handler of each kind; the default where none was given."""
    found: dict[type, Any] = {}
    for handler in handlers:
        kind = type(handler)
        if kind not in _HANDLERS:
            known = ", ".join(item.__name__ for item in _HANDLERS)
            refusals.refuse("kwargs_handlers", f"`{kind.__name__}` is not one that it takes", f"it takes {known}")
        elif kind in found:
            refusals.refuse("kwargs_handlers", f"`{kind.__name__}` was given twice", "give each class once")
        else:
            found[kind] = handler
    return {kind: found.get(kind) or kind() for kind in _HANDLERS}
