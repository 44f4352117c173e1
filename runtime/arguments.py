"""From the constructor's arguments to settings: plain values, Accelerate's plugin classes, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from ..spec.findings import Finding, FindingsError, finding
from ..spec.model import Ddp, Fp16
from ..spec.resolved import ResolvedSpec
from .places import caller_place
from .plugins import (
    AutocastKwargs,
    DataLoaderConfiguration,
    DDPCommunicationHookType,
    DistributedDataParallelKwargs,
    GradientAccumulationPlugin,
    GradScalerKwargs,
    InitProcessGroupKwargs,
    KwargsHandler,
    ProjectConfiguration,
)
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


class Refusals:
    """Findings about arguments, collected so that all are said at once."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []

    def refuse(self, keyword: str, cause: str, step: str) -> None:
        """Notes that an argument cannot be honoured, and what to do instead."""
        self.findings.append(finding("J507", f"{keyword}: {cause}", place=caller_place(keyword), next_step=step))

    def fixed(self, keyword: str, plugin: Any, only: dict[str, tuple[Any, str]]) -> None:
        """Notes each field of a plugin that has another value than the only one it can have, with what to do."""
        name = type(plugin).__name__
        for field, (value, step) in only.items():
            given = getattr(plugin, field)
            if given != value:
                self.refuse(keyword, f"`{name}({field}={given!r})` cannot be honoured", step)

    def end(self) -> None:
        """Raises what was noted, if anything was."""
        if self.findings:
            raise FindingsError(tuple(self.findings))


def read(
    *,
    device_placement: bool,
    split_batches: bool | None,
    even_batches: bool | None,
    mixed_precision: str | None,
    gradient_accumulation_steps: int | None,
    cpu: bool | None,
    dataloader_config: DataLoaderConfiguration | None,
    gradient_accumulation_plugin: GradientAccumulationPlugin | None,
    kwargs_handlers: Sequence[KwargsHandler] | None,
    rng_types: Sequence[Any] | None,
    log_with: Any,
    project_dir: Any,
    project_config: ProjectConfiguration | None,
    follow_optimizer: bool,
    absent: dict[str, Any],
) -> Arguments:
    """The constructor's arguments taken apart. `absent` holds arguments that are known and not there yet, by name.

    Raises:
        FindingsError: J507, arguments that cannot be honoured; all of them at once.
    """
    refusals = Refusals()
    _refuse_absent(absent, rng_types, log_with, refusals)
    accumulation = gradient_accumulation_plugin or GradientAccumulationPlugin()
    steps = _one_of(
        refusals,
        ("gradient_accumulation_steps", None if gradient_accumulation_steps == 1 else gradient_accumulation_steps),
        ("gradient_accumulation_plugin", accumulation.num_steps),
    )
    loader = dataloader_config or DataLoaderConfiguration()
    said_loader = loader.to_kwargs()
    refusals.fixed("dataloader_config", loader, _FIXED_LOADER)
    handlers = _by_kind(kwargs_handlers or (), refusals)
    group, ddp, scaler = (
        handlers[kind] for kind in (InitProcessGroupKwargs, DistributedDataParallelKwargs, GradScalerKwargs)
    )
    refusals.fixed("kwargs_handlers", ddp, _FIXED_DDP)
    refusals.fixed("kwargs_handlers", scaler, _FIXED_SCALER)
    if group.init_method not in (None, "env://"):
        cause = f"`InitProcessGroupKwargs(init_method={group.init_method!r})` says where processes meet"
        refusals.refuse("kwargs_handlers", cause, "leave it to the launcher that starts them")
    project = _project(project_dir, project_config, refusals)
    refusals.end()
    return Arguments(
        keywords=Keywords(
            gradient_accumulation_steps=steps if steps is not None else gradient_accumulation_steps,
            mixed_precision=None
            if mixed_precision is None
            else str(getattr(mixed_precision, "value", mixed_precision)),
            cpu=cpu,
            split_batches=said_loader.get("split_batches", split_batches),
            even_batches=said_loader.get("even_batches", even_batches),
            step_scheduler_with_optimizer=follow_optimizer,
        ),
        placement=device_placement,
        accumulation=accumulation,
        loader=loader,
        project=project,
        autocast=handlers[AutocastKwargs],
        group=group,
        ddp=ddp,
        scaler=scaler,
    )


def amend(settings: Settings, said: Arguments, spec: ResolvedSpec | None, processes: int) -> Settings:
    """The settings with the options of the plugin classes in them.

    Raises:
        FindingsError: J503, an option contradicts the job; J507, it has no effect under the paradigm or the precision
            of the job, or has an impossible value.
    """
    refusals = Refusals()
    paradigm, precision = settings.paradigm, settings.precision
    ddp = {_DDP_FIELDS[name]: value for name, value in said.ddp.to_kwargs().items() if name in _DDP_FIELDS}
    if said.ddp.to_kwargs() and processes > 1:
        base = paradigm or Ddp()
        if not isinstance(base, Ddp):
            cause = f"DistributedDataParallelKwargs have no effect under paradigm `{kind_of(base)}`"
            refusals.refuse("kwargs_handlers", cause, "leave them away, or use `paradigm=ddp`")
        else:
            paradigm = _changed(base, "paradigm", ddp, spec, refusals)
    scaler = {_SCALER_FIELDS[name]: value for name, value in said.scaler.to_kwargs().items() if name in _SCALER_FIELDS}
    if scaler and isinstance(precision, Fp16):
        precision = _changed(precision, "precision", scaler, spec, refusals)
    elif scaler:
        cause = f"GradScalerKwargs have no effect with precision `{kind_of(precision)}`"
        refusals.refuse("kwargs_handlers", cause, "leave them away, or use `mixed_precision=fp16`")
    refusals.end()
    return replace(settings, paradigm=paradigm, precision=precision)


_FIXED_LOADER: dict[str, tuple[Any, str]] = {
    "use_stateful_dataloader": (False, "leave it away: a prepared loader knows its position by itself"),
}
_FIXED_DDP: dict[str, tuple[Any, str]] = {
    "dim": (0, "leave it away: torch deprecates other dimensions of the batch"),
    "broadcast_buffers": (True, "leave it away, or make the model's buffers equal in all processes"),
    "check_reduction": (False, "leave it away: torch ignores it"),
}
_FIXED_SCALER: dict[str, tuple[Any, str]] = {
    "growth_factor": (2.0, "leave it away: the scale doubles; `growth_interval` says how often"),
    "backoff_factor": (0.5, "leave it away: the scale is halved after an overflow"),
    "enabled": (True, "use `mixed_precision='no'` or 'bf16', which need no loss scale"),
}
_FIXED_PROJECT: dict[str, tuple[Any, str]] = {
    "automatic_checkpoint_naming": (False, _LATER),
    "total_limit": (None, _LATER),
    "iteration": (0, _LATER),
}
#: Which field of the document's block each field of Accelerate's class is.
_DDP_FIELDS = {
    "bucket_cap_mb": "bucket_size_mb",
    "find_unused_parameters": "find_unused_parameters",
    "gradient_as_bucket_view": "gradient_as_bucket_view",
    "static_graph": "static_graph",
}
_SCALER_FIELDS = {"init_scale": "initial_scale", "growth_interval": "growth_interval"}


def _changed(block: Any, path: str, values: dict[str, Any], spec: ResolvedSpec | None, refusals: Refusals) -> Any:
    """A block of the job with other values in it, where the job is silent about them."""
    updates: dict[str, Any] = {}
    for name, value in values.items():
        job = getattr(block, name)
        if value == job:
            continue
        if spec is not None and spec.origin(f"{path}.{name}").explicit:
            refusals.findings.append(contradiction("kwargs_handlers", f"{name}={value!r}", f"{path}.{name}", job, spec))
        else:
            updates[name] = value
    try:
        return msgspec.convert({**msgspec.to_builtins(block), **updates}, type(block))
    except msgspec.ValidationError as error:
        refusals.refuse("kwargs_handlers", str(error), f"the field stands under `{path}` (jobc explain {path})")
        return block


def _refuse_absent(absent: dict[str, Any], rng_types: Sequence[Any] | None, log_with: Any, refusals: Refusals) -> None:
    for keyword, value in absent.items():
        if value is not None:
            refusals.refuse(keyword, "jobc does not have this paradigm yet", "train with `paradigm=ddp` for now")
    names = [str(getattr(kind, "value", kind)) for kind in rng_types or ()]
    if any(name != "generator" for name in names):
        cause = f"`{names}` asks to copy global random states from the first process in every epoch"
        step = (
            "leave it away: the order of the data is a function of the seed and the epoch, the same in all processes;\n"
            "`set_seed` seeds everything else"
        )
        refusals.refuse("rng_types", cause, step)
    if log_with is not None:
        refusals.refuse("log_with", f"trackers are not there yet, so `{log_with!r}` would log nothing", _LATER)


def _project(folder: Any, config: ProjectConfiguration | None, refusals: Refusals) -> ProjectConfiguration:
    config = config or ProjectConfiguration()
    refusals.fixed("project_config", config, _FIXED_PROJECT)
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


def hooks_gradients(ddp: DistributedDataParallelKwargs) -> bool:
    """Whether gradients are to be sent in another way than as they are."""
    return (ddp.comm_hook, ddp.comm_wrapper) != (DDPCommunicationHookType.NO, DDPCommunicationHookType.NO)
