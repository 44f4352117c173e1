"""The typed model of `training`: what the runtime applies in every process."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from .parts import Part, derived


class Scheduler(Part, frozen=True):
    """How prepared learning-rate schedulers step."""

    step: Annotated[
        Literal["per_process", "optimizer_step"],
        Meta(
            description="`optimizer_step` moves a prepared scheduler once for each optimizer step; `per_process` once"
            " for every process, as Accelerate does, so that a schedule written for one process keeps its length."
        ),
    ] = "per_process"


class Dataloader(Part, frozen=True):
    """How prepared data loaders deal out their batches."""

    split_batches: Annotated[
        bool,
        Meta(description="Read the loader's batch size as that of all processes together, not of each one."),
    ] = False
    even_batches: Annotated[
        bool,
        Meta(description="Fill the last batches from the start of the data, so that all processes take as many steps."),
    ] = True
    seed: Annotated[
        Annotated[int, Meta(ge=0, le=2**32 - 1)] | None,
        Meta(description="Seed of the order of the data alone; unset is `training.seed`."),
    ] = None
    dispatch: Annotated[
        bool, Meta(description="Read the data in the first process only, which sends the others their parts.")
    ] = False
    prefetch: Annotated[
        int,
        Meta(ge=0, le=64, description="Batches on their way to the GPU while it computes; 0 sends none ahead."),
    ] = 1


class Compile(Part, frozen=True):
    """How prepared models are compiled by torch.compile."""

    backend: Annotated[
        str,
        Meta(
            min_length=1, description="Compiler of torch.compile, such as `inductor`; `none` runs models as they are."
        ),
    ] = "none"
    mode: Annotated[
        Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"],
        Meta(description="What `inductor` spends its time on."),
    ] = "default"
    fullgraph: Annotated[bool, Meta(description="Refuse code that cannot be compiled as one graph.")] = False
    dynamic: Annotated[
        bool | Literal["auto"],
        Meta(description="Compile for sizes that change; `auto` does so once a size has changed."),
    ] = "auto"
    regional: Annotated[
        bool, Meta(description="Compile the model's repeated blocks, each once, and not the model as a whole.")
    ] = False


class GradientClipping(Part, frozen=True):
    """How large gradients may be when an optimizer steps."""

    norm: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(
            description="Largest norm of the gradients of an optimizer's parameters together, over all processes;"
            " larger ones are scaled down."
        ),
    ] = None
    value: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(description="Largest absolute value of each gradient; larger ones are cut off, before `norm` looks."),
    ] = None


class Checkpoint(Part, frozen=True):
    """When the state of the training is saved, where, and how a run goes on from it."""

    folder: Annotated[
        str,
        Meta(min_length=1, description="Folder of the checkpoints, relative to the job file's folder."),
    ] = "checkpoints"
    every_steps: Annotated[
        Annotated[int, Meta(ge=1)] | None, Meta(description="Optimizer steps from one checkpoint to the next.")
    ] = None
    every_minutes: Annotated[
        Annotated[float, Meta(gt=0)] | None, Meta(description="Minutes from one checkpoint to the next.")
    ] = None
    keep: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="How many checkpoints are kept, the newest ones; unset keeps all."),
    ] = None
    asynchronous: Annotated[bool, Meta(description="Write while the training goes on.")] = False
    when_busy: Annotated[
        Literal["wait", "refuse"],
        Meta(description="What a save does while an asynchronous one is being written: wait for it, or be an error."),
    ] = "wait"
    on_error: Annotated[
        Literal["stop", "continue"],
        Meta(description="What happens when a checkpoint cannot be written: end the run, or say so and go on."),
    ] = "stop"
    resume: Annotated[
        Literal["never", "auto"],
        Meta(description="`auto` goes on from the newest complete checkpoint of the folder, where there is one."),
    ] = "never"
    on_preemption: Annotated[
        Literal["ignore", "save"],
        Meta(description="What SIGTERM does: `save` writes a checkpoint and ends the run so that it is restarted."),
    ] = "ignore"


class Training(Part, frozen=True):
    """Settings that the runtime applies in every process."""

    global_batch: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(
            description="Samples of one optimizer step, of all processes together; with `micro_batch` it says what"
            " `gradient_accumulation` is."
        ),
    ] = None
    micro_batch: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(
            description="Samples of a batch of one process, which the script's data loader has to give.",
            extra_json_schema=derived("`global_batch`, where `gradient_accumulation` is set"),
        ),
    ] = None
    gradient_accumulation: Annotated[
        int,
        Meta(
            ge=1,
            description="Batches whose gradients are added up before one optimizer step.",
            extra_json_schema=derived("`global_batch` and `micro_batch`, where they are set"),
        ),
    ] = 1
    gradient_clipping: Annotated[
        GradientClipping, Meta(description="How large gradients may be when an optimizer steps.")
    ] = GradientClipping()
    activation_checkpointing: Annotated[
        bool,
        Meta(
            description="Compute activations of the model's repeated blocks again in the backward pass: less memory,"
            " about a third more time."
        ),
    ] = False
    activation_offload: Annotated[
        bool,
        Meta(
            description="Keep the inputs of the blocks that `training.activation_checkpointing` computes again in the"
            " machine's memory until their backward pass: less memory of the GPU, and copies in every step."
        ),
    ] = False
    deterministic: Annotated[
        bool, Meta(description="Refuse operations of torch that give other numbers each time, at some cost in speed.")
    ] = False
    seed: Annotated[
        Annotated[int, Meta(ge=0, le=2**32 - 1)] | None,
        Meta(description="Seed of Python, NumPy and torch and of the order of the data; unset draws one for the run."),
    ] = None
    loss: Annotated[
        Literal["mean_sample", "mean_batch", "mean_token"],
        Meta(
            description="What an optimizer step takes the mean over: samples, so that every split of the same samples"
            " gives the same gradient, batches whatever their size, or the tokens that the script counts."
        ),
    ] = "mean_sample"
    compile: Annotated[Compile, Meta(description="How prepared models are compiled by torch.compile.")] = Compile()
    scheduler: Annotated[Scheduler, Meta(description="How prepared learning-rate schedulers step.")] = Scheduler()
    dataloader: Annotated[Dataloader, Meta(description="How prepared data loaders deal out their batches.")] = (
        Dataloader()
    )
    checkpoint: Annotated[
        Checkpoint, Meta(description="When the state of the training is saved, where, and how a run goes on from it.")
    ] = Checkpoint()
    debug: Annotated[
        bool,
        Meta(
            description="Compare each call that all processes have to make, and its shapes, before it runs; it is slow."
        ),
    ] = False
