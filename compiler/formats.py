"""Settings of number formats that contradict each other or the rest of the job."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..spec import Finding, ResolvedSpec, finding
from ..spec.model import Cpu, Gpu, Tpu
from ..spec.paradigms import Fsdp
from ..spec.precisions import Bf16, Fp8, Fp16

#: Settings of fp8 that not every library has: who has it, and the value that changes nothing.
_OWNERS: dict[str, tuple[tuple[str, ...], Any]] = {
    "margin": (("transformer_engine",), 0),
    "interval": (("transformer_engine",), 1),
    "amax_history_length": (("transformer_engine",), 1024),
    "amax_algorithm": (("transformer_engine",), "max"),
    "high_precision_passes": (("transformer_engine",), ()),
    "autocast_in_evaluation": (("transformer_engine",), False),
    "keep_high_precision": (("transformer_engine", "torchao"), ()),
    "all_gather": (("torchao",), False),
    "pad_inner_dim": (("torchao",), False),
    "optimization_level": (("msamp",), "O2"),
}
_SCALINGS = {
    "transformer_engine": ("delayed", "tensorwise", "mxfp8"),
    "torchao": ("tensorwise", "rowwise", "mxfp8"),
    "msamp": ("tensorwise",),
}
_DELAYED = ("margin", "interval", "amax_history_length", "amax_algorithm")


def check(spec: ResolvedSpec) -> Iterator[Finding]:
    """Every contradiction of the chosen number format."""
    precision = spec.job.precision
    if isinstance(precision, Fp16 | Fp8) and isinstance(spec.job.hardware, Tpu):
        word = "fp8" if isinstance(precision, Fp8) else "fp16"
        cause = f"`precision: {word}` is no number format of `hardware: tpu`"
        yield finding("J323", cause, place=spec.place("precision.kind"), next_step="use `precision: bf16`")
    if isinstance(precision, Bf16 | Fp8):
        yield from _devices(spec)
    cut = isinstance(spec.job.paradigm, Fsdp) and spec.job.processes > 1
    if isinstance(precision, Bf16 | Fp16) and precision.reduce != "fp32" and not cut:
        yield _without_effect(spec, "reduce", "gradients are in float32 unless `fsdp` cuts the model in pieces")
    if not isinstance(precision, Fp8):
        return
    if isinstance(spec.job.hardware, Cpu):
        cause = "no CPU computes in 8 bits, and the job asks for `precision: fp8` with `hardware: cpu`"
        yield finding("J311", cause, place=spec.place("precision.kind"), next_step="use `precision: bf16`")
    for field, (owners, usual) in _OWNERS.items():
        if getattr(precision, field) != usual and precision.backend not in owners:
            words = " and ".join(f"`{owner}`" for owner in owners)
            yield _without_effect(spec, field, f"it is of {words}, and `backend` is `{precision.backend}`")
    yield from _scaling(spec, precision)
    if precision.all_gather and not isinstance(spec.job.paradigm, Fsdp):
        yield _without_effect(spec, "all_gather", "only `paradigm: fsdp` gathers parameters")


def _devices(spec: ResolvedSpec) -> Iterator[Finding]:
    """A number format that the devices do not have."""
    hardware, precision = spec.job.hardware, spec.job.precision
    if not isinstance(hardware, Gpu) or hardware.model is None:
        return
    from ..spec.catalogue import accelerators

    found = accelerators()[hardware.model]
    word = "fp8" if isinstance(precision, Fp8) else "bf16"
    if not (found.fp8 if isinstance(precision, Fp8) else found.bf16):
        cause = f"`precision: {word}` is no number format of `hardware.model: {hardware.model}`, the {found.title}"
        place = spec.place("precision.kind")
        step = f"use `precision: {'bf16' if found.bf16 else 'fp16'}`"
        yield finding("J323", cause, place=place, next_step=step)


def _scaling(spec: ResolvedSpec, precision: Fp8) -> Iterator[Finding]:
    known, path = _SCALINGS[precision.backend], "precision.scaling"
    if precision.scaling not in ("auto", *known):
        words = " or ".join(f"`{word}`" for word in known)
        cause = f"`{precision.backend}` cannot scale as `{path}: {precision.scaling}` says"
        yield finding("J311", cause, place=spec.place(path), next_step=f"use {words}")
    if precision.scaling not in ("auto", "delayed"):
        for field in _DELAYED:
            if getattr(precision, field) != _OWNERS[field][1] and precision.backend in _OWNERS[field][0]:
                yield _without_effect(spec, field, f"it is of `scaling: delayed`, and that is `{precision.scaling}`")


def _without_effect(spec: ResolvedSpec, field: str, why: str) -> Finding:
    path = f"precision.{field}"
    return finding("J311", f"`{path}` has no effect: {why}", place=spec.place(path), next_step="remove it")
