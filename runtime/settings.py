"""What holds in this process: the job's settings, and the keywords of the code where the job is silent."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Literal

from ..spec.capabilities import refusal
from ..spec.findings import Finding, FindingsError, finding
from ..spec.model import (
    AutoHardware,
    Bf16,
    Cpu,
    Fp16,
    FullPrecision,
    Hardware,
    Paradigm,
    Precision,
)
from ..spec.resolved import ResolvedSpec
from ..spec.training import Compile, GradientClipping, Training
from .places import caller_place, origin_place
from .plugins import InitProcessGroupKwargs

PRECISIONS: dict[str, type[Precision]] = {"no": FullPrecision, "bf16": Bf16, "fp16": Fp16}

#: Which value of the job each keyword of the code is about.
_PATHS = {
    "gradient_accumulation_steps": "training.gradient_accumulation",
    "mixed_precision": "precision.kind",
    "cpu": "hardware.kind",
    "split_batches": "training.dataloader.split_batches",
    "even_batches": "training.dataloader.even_batches",
    "dispatch_batches": "training.dataloader.dispatch",
    "data_seed": "training.dataloader.seed",
    "activation_checkpointing": "training.activation_checkpointing",
    "activation_checkpointing_offload": "training.activation_offload",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Keywords:
    """What the code said; None where it said nothing."""

    gradient_accumulation_steps: int | None = None
    mixed_precision: str | None = None
    cpu: bool | None = None
    split_batches: bool | None = None
    even_batches: bool | None = None
    dispatch_batches: bool | None = None
    data_seed: int | None = None
    activation_checkpointing: bool | None = None
    activation_checkpointing_offload: bool | None = None
    step_scheduler_with_optimizer: bool = True
    rng_types: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Every setting of the runtime, final. `paradigm` is None where no job says one; then the world decides."""

    hardware: Hardware
    precision: Precision
    paradigm: Paradigm | None
    gradient_accumulation: int
    micro_batch: int | None
    split_batches: bool
    even_batches: bool
    dispatch: bool
    prefetch: int
    rng_types: tuple[str, ...]
    scheduler_step: Literal["per_process", "optimizer_step"]
    scheduler_step_explicit: bool
    step_scheduler_with_optimizer: bool
    seed: int | None
    data_seed: int | None
    deterministic: bool
    activation_checkpointing: bool
    activation_offload: bool
    gradient_clipping: GradientClipping
    loss: Literal["mean_sample", "mean_batch", "mean_token"]
    loss_explicit: bool
    compile: Compile


def settle(spec: ResolvedSpec | None, said: Keywords) -> Settings:
    """The settings of this process.

    Raises:
        FindingsError: J503, a keyword contradicts a value that the job set explicitly; J507, a keyword has a value
            that it cannot have; J409, the job chooses a kind that does not run yet. All of them at once.
    """
    table = _Table(spec)
    if spec is not None:
        values = {name: value for name, value in spec.values().items() if name != "target"}  # it has brought us here
        refused = refusal(values)
        table.findings += [] if refused is None else [refused]
    job = None if spec is None else spec.job
    training = Training() if job is None else job.training
    hardware: Hardware = AutoHardware() if job is None else job.hardware
    precision: Precision = FullPrecision() if job is None else job.precision
    steps = table.settle(
        "gradient_accumulation_steps", said.gradient_accumulation_steps, training.gradient_accumulation
    )
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        table.refuse("gradient_accumulation_steps", f"`{steps!r}` is not a whole number of batches", "use 1 or more")
    kind = kind_of(precision)
    wanted = table.settle("mixed_precision", said.mixed_precision, kind)
    if wanted not in PRECISIONS:
        table.refuse("mixed_precision", f"`{wanted}` is not a precision", f"use one of {', '.join(PRECISIONS)}")
    elif wanted != kind:
        precision = PRECISIONS[wanted]()
    # `cpu=False` does not ask for an accelerator, it leaves the choice; `auto` leaves it too.
    if said.cpu and isinstance(hardware, AutoHardware):
        hardware = Cpu()
    elif said.cpu:
        table.settle("cpu", "cpu", kind_of(hardware), shown="True")
    loader = training.dataloader
    settings = Settings(
        hardware=hardware,
        precision=precision,
        paradigm=None if job is None else job.paradigm,
        gradient_accumulation=steps,
        micro_batch=training.micro_batch,
        split_batches=table.settle("split_batches", said.split_batches, loader.split_batches),
        even_batches=table.settle("even_batches", said.even_batches, loader.even_batches),
        dispatch=table.settle("dispatch_batches", said.dispatch_batches, loader.dispatch),
        prefetch=loader.prefetch,
        rng_types=said.rng_types,
        scheduler_step=training.scheduler.step,
        scheduler_step_explicit=spec is not None and spec.origin("training.scheduler.step").explicit,
        step_scheduler_with_optimizer=said.step_scheduler_with_optimizer,
        seed=training.seed,
        data_seed=table.settle("data_seed", said.data_seed, loader.seed),
        deterministic=training.deterministic,
        activation_checkpointing=table.settle(
            "activation_checkpointing", said.activation_checkpointing, training.activation_checkpointing
        ),
        activation_offload=table.settle(
            "activation_checkpointing_offload", said.activation_checkpointing_offload, training.activation_offload
        ),
        gradient_clipping=training.gradient_clipping,
        loss=training.loss,
        loss_explicit=spec is not None and spec.origin("training.loss").explicit,
        compile=training.compile,
    )
    _compare(settings, table)
    if table.findings:
        raise FindingsError(tuple(table.findings))
    return settings


def _compare(settings: Settings, table: _Table) -> None:
    """Settings that have no effect beside each other; of a job the compiler has said so."""
    if settings.activation_offload and not settings.activation_checkpointing:
        step = "add `activation_checkpointing=True`: what else blocks keep stays on the device"
        table.refuse("activation_checkpointing_offload", "it has no effect where blocks keep their activations", step)


def kind_of(block: object) -> str:
    """The word that the document uses for a block of several kinds: `bf16`, `gpu`, `ddp`."""
    return type(block).__struct_config__.tag  # pyright: ignore[reportAttributeAccessIssue]


def contradiction(keyword: str, shown: str, path: str, job: Any, spec: ResolvedSpec) -> Finding:
    """The finding that something in code says otherwise than a value that the job set explicitly."""
    return finding(
        "J503",
        f"`{shown}` in code contradicts `{path}: {_written(job)}` of the job",
        place=caller_place(keyword),
        related=(("the job says", origin_place(spec.origin(path))),),
        next_step="remove the keyword, or the setting from the job; say it in one place",
    )


def timed(options: InitProcessGroupKwargs | None, spec: ResolvedSpec | None) -> InitProcessGroupKwargs | None:
    """What the code said of the process group, with the job's timeout where the code says none.

    Raises:
        FindingsError: J503, the code says another timeout.
    """
    seconds = None if spec is None else spec.job.nodes.collective_timeout
    if spec is None or seconds is None:
        return options
    options, wanted = options or InitProcessGroupKwargs(), timedelta(seconds=seconds)
    if options.timeout not in (None, wanted):
        shown = f"InitProcessGroupKwargs(timeout={options.timeout!r})"
        raise FindingsError((contradiction("kwargs_handlers", shown, "nodes.collective_timeout", seconds, spec),))
    return replace(options, timeout=wanted)


class _Table:
    """Compares what the code said with what the job says, and collects the contradictions."""

    def __init__(self, spec: ResolvedSpec | None) -> None:
        self._spec = spec
        self.findings: list[Finding] = []

    def settle(self, keyword: str, said: Any, job: Any, shown: str | None = None) -> Any:
        if said is None or said == job:
            return job
        path = _PATHS[keyword]
        if self._spec is None or not _said(self._spec, path):
            return said
        self.findings.append(contradiction(keyword, f"{keyword}={shown or repr(said)}", path, job, self._spec))
        return job

    def refuse(self, keyword: str, cause: str, next_step: str) -> None:
        self.findings.append(finding("J507", f"{keyword}: {cause}", place=caller_place(keyword), next_step=next_step))


def _said(spec: ResolvedSpec, path: str) -> bool:
    """Whether the job says a value, in its place or with `training.global_batch`."""
    origin = spec.origin(path)
    return origin.explicit or (path == "training.gradient_accumulation" and origin.layer == "derived")


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
