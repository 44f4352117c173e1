"""The typed model of `precision`: number formats of the forward and backward passes."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from .parts import Kind


class FullPrecision(Kind, frozen=True, tag="no"):
    """Everything in the model's own type, no autocast."""


class Bf16(Kind, frozen=True, tag="bf16"):
    """Forward passes under bfloat16 autocast; outputs come back in float32."""

    reduce: Annotated[
        Literal["fp32", "bf16"],
        Meta(description="Number format in which `fsdp` adds up the gradients of all processes."),
    ] = "fp32"


class Fp16(Kind, frozen=True, tag="fp16"):
    """Forward passes under float16 autocast with a scaled loss; outputs come back in float32."""

    reduce: Annotated[
        Literal["fp32", "fp16"],
        Meta(description="Number format in which `fsdp` adds up the gradients of all processes."),
    ] = "fp32"
    initial_scale: Annotated[float, Meta(gt=0, description="Loss scale of the first step.")] = 65536.0
    growth_interval: Annotated[
        int, Meta(ge=1, description="Steps without an overflow after which the loss scale grows.")
    ] = 2000
    growth_factor: Annotated[float, Meta(gt=1, description="What the loss scale is multiplied by when it grows.")] = 2.0
    backoff_factor: Annotated[
        float, Meta(gt=0, lt=1, description="What the loss scale is multiplied by after an overflow.")
    ] = 0.5


class Fp8(Kind, frozen=True, tag="fp8"):
    """Matrix products of linear layers in 8 bits, the rest under bfloat16 autocast."""

    backend: Annotated[
        Literal["transformer_engine", "torchao", "msamp"],
        Meta(description="Library that computes in 8 bits."),
    ] = "transformer_engine"
    format: Annotated[
        Literal["hybrid", "e4m3", "e5m2"],
        Meta(
            description="Split of the 8 bits: `e4m3` is 4 of exponent and 3 of mantissa, `hybrid` takes it forward and"
            " `e5m2` for gradients."
        ),
    ] = "hybrid"
    scaling: Annotated[
        Literal["auto", "delayed", "tensorwise", "rowwise", "mxfp8"],
        Meta(
            description="What gets a scale of its own: a whole tensor, by its past (`delayed`) or its present"
            " (`tensorwise`), each row, or each block of 32 numbers (`mxfp8`); `auto` is `delayed` where the backend"
            " has it, else `tensorwise`."
        ),
    ] = "auto"
    margin: Annotated[
        int, Meta(ge=0, le=16, description="Powers of two between the largest number seen and the largest possible.")
    ] = 0
    interval: Annotated[int, Meta(ge=1, description="Steps from one computation of the scales to the next.")] = 1
    amax_history_length: Annotated[
        int, Meta(ge=1, le=65536, description="Steps whose largest numbers decide on a delayed scale.")
    ] = 1024
    amax_algorithm: Annotated[
        Literal["max", "most_recent"],
        Meta(description="What a delayed scale takes from them: the largest of all, or that of the last step."),
    ] = "max"
    keep_high_precision: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(description="Names of modules that stay out of 8 bits, with `*` for any text, such as `lm_head`."),
    ] = ()
    high_precision_passes: Annotated[
        tuple[Literal["fprop", "dgrad", "wgrad"], ...],
        Meta(
            description="Passes of linear layers that stay out of 8 bits: forward, gradient of the input, gradient of"
            " the weight."
        ),
    ] = ()
    autocast_in_evaluation: Annotated[
        bool, Meta(description="Compute in 8 bits also while the model is in evaluation mode.")
    ] = False
    all_gather: Annotated[
        bool, Meta(description="Let `fsdp` gather parameters in 8 bits, which halves what is sent.")
    ] = False
    pad_inner_dim: Annotated[
        bool, Meta(description="Fill matrices with zeros where their inner size is no multiple of 16.")
    ] = False
    optimization_level: Annotated[
        Literal["O1", "O2"],
        Meta(description="How far `msamp` goes: `O2` keeps the optimizer's state in 8 bits too."),
    ] = "O2"
