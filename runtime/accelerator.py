"""The face of the runtime: what a training script holds in its hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from . import arguments, operations, strategies, world
from .checkpoint.attach import attach
from .checkpoint.contents import Training
from .checkpoint.face import Checkpointed
from .communication import sender
from .data import LoaderParts, PreparedLoader
from .devices import confirm
from .gradients import Gradients
from .joining import uneven
from .kinds import DistributedType, kind_of_job
from .later import LaterView
from .live import LiveBatches
from .optimizer import PreparedOptimizer
from .plugins import (
    AutocastKwargs,
    DataLoaderConfiguration,
    FullyShardedDataParallelPlugin,
    GradientAccumulationPlugin,
    KwargsHandler,
    ProjectConfiguration,
    TorchDynamoPlugin,
)
from .precision import Precision
from .prepare import Prepared
from .progress import Progress
from .scheduler import PreparedScheduler
from .seed import refuse_chance, set_seed
from .settings import Keywords, kind_of, settle
from .skipping import skip_first_batches
from .state import AcceleratorState, remember


class Accelerator(Checkpointed, LaterView):
    """Makes a plain PyTorch training loop run as the job says: on its devices, in its precision, over its processes.

    The job's settings come from the document that `jobc run` gives to the process. Started in another way (`python`,
    torchrun) the process finds its world by itself and the defaults hold. A keyword says something where the job is
    silent; one that contradicts a value that the job sets is an error.

    Args:
        device_placement: `prepare` moves models, and loaders their batches, to the device of the process.
        split_batches: The loaders' batch size is that of all processes together.
        mixed_precision: `no`, `bf16` or `fp16`.
        gradient_accumulation_steps: Batches whose gradients make one optimizer step, 1 or more.
        cpu: True trains on the CPU even where there is a GPU; False leaves the choice.
        dataloader_config: How prepared loaders deal out their batches.
        fsdp_plugin: Options of the paradigm `fsdp`; it is chosen where the job names none.
        rng_types: `torch`, `cuda`: when an epoch begins, all processes take this global random state of the first one;
            `generator`: the order of the data, which is the same in all processes anyway.
        log_with: Only None, until there are trackers.
        project_dir: The folder of the project's files.
        project_config: The same with more to say.
        gradient_accumulation_plugin: How gradients are accumulated.
        step_scheduler_with_optimizer: Prepared schedulers move only with optimizer steps; False: at every call.
        kwargs_handlers: Options of single parts: AutocastKwargs, DistributedDataParallelKwargs, GradScalerKwargs,
            InitProcessGroupKwargs, at most one of each.
        dynamo_backend: The compiler that models are given to by torch.compile.
        dynamo_plugin: The same with more to say.
        step_with_optimizer: The older name of `step_scheduler_with_optimizer`.
        even_batches: Fill the last batches with samples from the start, so that all processes have equally many.
        deepspeed_plugin, megatron_lm_plugin, torch_tp_plugin, deepspeed_plugins, parallelism_config: Only None.

    Raises:
        FindingsError: J501 the world is not that of the job, J502 the job's document cannot be read, J503 a keyword
            contradicts the job, J505 there is no such device, J507 a keyword has an impossible value.
    """

    def __init__(
        self,
        device_placement: bool = True,  # noqa: FBT001, FBT002 - the signature that scripts have
        split_batches: bool | None = None,  # noqa: FBT001 - the same
        mixed_precision: str | None = None,
        gradient_accumulation_steps: int | None = None,
        cpu: bool | None = None,  # noqa: FBT001 - the same
        dataloader_config: DataLoaderConfiguration | None = None,
        deepspeed_plugin: None = None,
        fsdp_plugin: FullyShardedDataParallelPlugin | None = None,
        torch_tp_plugin: None = None,
        megatron_lm_plugin: None = None,
        rng_types: Sequence[str] | None = None,
        log_with: None = None,
        project_dir: str | Path | None = None,
        project_config: ProjectConfiguration | None = None,
        gradient_accumulation_plugin: GradientAccumulationPlugin | None = None,
        step_scheduler_with_optimizer: bool = True,  # noqa: FBT001, FBT002 - the same
        kwargs_handlers: Sequence[KwargsHandler] | None = None,
        dynamo_backend: str | None = None,
        dynamo_plugin: TorchDynamoPlugin | None = None,
        deepspeed_plugins: None = None,
        parallelism_config: None = None,
        *,
        step_with_optimizer: bool | None = None,
        even_batches: bool | None = None,
    ) -> None:
        given = arguments.Given(
            device_placement=device_placement,
            split_batches=split_batches,
            even_batches=even_batches,
            mixed_precision=mixed_precision,
            gradient_accumulation_steps=gradient_accumulation_steps,
            cpu=cpu,
            dataloader_config=dataloader_config,
            gradient_accumulation_plugin=gradient_accumulation_plugin,
            fsdp_plugin=fsdp_plugin,
            kwargs_handlers=kwargs_handlers,
            dynamo_backend=dynamo_backend,
            dynamo_plugin=dynamo_plugin,
            rng_types=rng_types,
            log_with=log_with,
            project_dir=project_dir,
            project_config=project_config,
            follow_optimizer=step_scheduler_with_optimizer if step_with_optimizer is None else step_with_optimizer,
            absent={
                "deepspeed_plugin": deepspeed_plugin or deepspeed_plugins,
                "torch_tp_plugin": torch_tp_plugin,
                "megatron_lm_plugin": megatron_lm_plugin,
                "parallelism_config": parallelism_config,
            },
        )
        self._begin(arguments.read(given))
        remember(self)

    def _begin(self, said: arguments.Arguments) -> None:
        environment = world.environment()
        spec = world.read_spec(environment)
        settings = settle(spec, said.keywords)
        found, self._group = world.join(environment, settings.hardware, spec, said.group)
        confirm(settings.hardware, found.device)
        super().__init__(found)
        settings = self._configure(arguments.amend(settings, said, spec, found.size), said.project)
        if settings.seed is not None:
            set_seed(settings.seed)
        if settings.deterministic:
            refuse_chance()
        self._precision = Precision(settings.precision, found.device, said.autocast)
        self._strategy = strategies.choose(settings.paradigm, found, self._precision.half, self._precision.reduce)
        self._live = LiveBatches()
        self._progress = Progress(
            settings.gradient_accumulation,
            follows_data=said.accumulation.sync_with_dataloader,
            weighs=settings.loss == "mean_sample",
            live=self._live,
        )
        of_data = settings if settings.data_seed is None else replace(settings, seed=settings.data_seed)
        parts = LoaderParts(world=found, settings=of_data, collectives=self._collectives, live=self._live, spec=spec)
        self._prepared = Prepared(
            self._strategy,
            self._precision,
            self._progress,
            parts,
            places=said.placement,
            finish=sender(said.ddp, settings.paradigm),
        )
        self._gradients = Gradients(
            self._strategy,
            self._progress,
            self._precision.scale,
            self._prepared,
            self._live,
            sync_each_batch=said.accumulation.sync_each_batch,
        )
        self._keeper = attach(
            Training(
                world=found,
                collectives=self._collectives,
                strategy=self._strategy,
                prepared=self._prepared,
                progress=self._progress,
                live=self._live,
                gradients=self._gradients,
                scale=self._precision.scale,
            ),
            said.project,
            spec,
        )
        self._triggered = False

    # --- how it was set up --------------------------------------------------------------------------------------------

    @property
    def distributed_type(self) -> DistributedType:
        """How processes are spread, in Accelerate's words."""
        return kind_of_job(self._settings.paradigm, self._world)

    @property
    def state(self) -> AcceleratorState:
        """The world and the precision, to read and to print."""
        return AcceleratorState.of(self, self._world)

    @property
    def mixed_precision(self) -> str:
        """The number format: `no`, `bf16` or `fp16`."""
        return kind_of(self._settings.precision)

    @property
    def gradient_accumulation_steps(self) -> int:
        """Batches whose gradients make one optimizer step. It can be set, best before anything is prepared.

        Raises:
            FindingsError: J503, the job sets another number; J507, it is none, or what is prepared steps with each
                batch and cannot wait.
        """
        return self._progress.steps

    @gradient_accumulation_steps.setter
    def gradient_accumulation_steps(self, steps: int) -> None:
        spec = self._prepared.parts.spec
        asked = settle(spec, Keywords(gradient_accumulation_steps=steps)).gradient_accumulation
        self._gradients.set_steps(asked)

    @property
    def sync_gradients(self) -> bool:
        """Whether the batch in hand closes an accumulation window, so that its optimizer step takes place."""
        return self._progress.sync

    @property
    def optimizer_step_was_skipped(self) -> bool:
        """Whether the last step of a prepared optimizer was skipped because its fp16 gradients overflowed."""
        return any(item.step_was_skipped for item in self._prepared.optimizers)

    # --- training -----------------------------------------------------------------------------------------------------

    def prepare(self, *objects: Any, device_placement: Sequence[bool | None] | None = None) -> Any:
        """Models, optimizers, data loaders and schedulers made ready for the job, in the order given.

        One object comes back alone, several as a tuple. An object may be prepared again and is then returned as it is.
        `device_placement` says of each object whether it, or its batches, go to the device; None leaves it as it is.

        Raises:
            FindingsError: J504, an object is of a type that cannot be prepared, or a loader that cannot be dealt out;
                J507, `device_placement` has another length than there are objects.
        """
        ready = self._prepared.prepare(objects, arguments.places(device_placement, len(objects)))
        return ready[0] if len(ready) == 1 else tuple(ready)

    def prepare_model(
        self,
        model: nn.Module,
        device_placement: bool | None = None,  # noqa: FBT001 - the signature that scripts have
        evaluation_mode: bool = False,  # noqa: FBT001, FBT002 - the same
    ) -> nn.Module:
        """A model made ready; with `evaluation_mode` it is placed and computes in the job's precision, nothing more."""
        if evaluation_mode:
            return self._prepared.evaluate(model, place=device_placement)
        return self.prepare(model, device_placement=[device_placement])

    def prepare_data_loader(
        self,
        data_loader: DataLoader[Any],
        device_placement: bool | None = None,  # noqa: FBT001 - the signature that scripts have
    ) -> PreparedLoader:
        """A loader made ready: it gives this process's batches, on its device."""
        return self.prepare(data_loader, device_placement=[device_placement])

    def prepare_optimizer(self, optimizer: Optimizer, device_placement: bool | None = None) -> PreparedOptimizer:  # noqa: FBT001 - the signature that scripts have
        """An optimizer made ready: it steps when an accumulation window closes. Its state goes where parameters are."""
        return self.prepare(optimizer, device_placement=[device_placement])

    def prepare_scheduler(self, scheduler: Any) -> PreparedScheduler:
        """A learning-rate scheduler made ready: it moves with the optimizer steps that take place."""
        return self.prepare(scheduler)

    def skip_first_batches(self, dataloader: DataLoader[Any], num_batches: int = 0) -> DataLoader[Any]:
        """The loader without its first batches (of this process), in its next iteration only."""
        return skip_first_batches(dataloader, num_batches)

    def backward(self, loss: Tensor, **options: Any) -> None:
        """Computes gradients of a loss (0-d). `options` go to `Tensor.backward`, but for `tokens`.

        Within `accumulate` losses are divided so that a window's gradient is the mean over its samples in all processes
        (`training.loss: mean_sample`), also where the last window or batch of the data is shorter; each loss is taken
        to be the mean over its batch. With `tokens=n` it is taken to be the mean over n tokens (an int or 0-d tensor),
        and the window's gradient is the mean over the tokens of all its batches everywhere. Outside of `accumulate` a
        loss is divided by `gradient_accumulation_steps`, for code that counts batches itself.

        Raises:
            FindingsError: J503 `tokens` contradict the job, J507 they cannot be counted, J509 what was prepared does
                not train together.
        """
        self._gradients.backward(loss, **options)

    def accumulate(self, *models: nn.Module) -> AbstractContextManager[object]:
        """The context of one batch of an accumulation window.

        Until the batch that closes the window, prepared optimizers and schedulers do not step, `zero_grad` keeps the
        gradients, and those of `models` (of all prepared models if none is named) stay in their process. Use it once a
        batch: the end of the data closes a window too.
        """
        return self._gradients.accumulate(models)

    def no_sync(self, model: nn.Module) -> AbstractContextManager[object]:
        """Within it, gradients of a prepared model stay in their process."""
        return self._strategy.no_sync(model)

    def join_uneven_inputs(
        self,
        joinables: Sequence[nn.Module],
        even_batches: bool | None = None,  # noqa: FBT001 - the signature that scripts have
    ) -> AbstractContextManager[None]:
        """Within it a process whose data has ended takes part in what the others still do together with the models.

        `even_batches=False` makes prepared loaders leave the last batches as they are meanwhile. Works on every device.

        Raises:
            FindingsError: J510, the paradigm cannot do that.
        """
        return uneven(self._strategy, self._prepared, joinables, even=even_batches)

    def autocast(self, autocast_handler: AutocastKwargs | None = None) -> AbstractContextManager[object]:
        """The context in which operations outside of a prepared model run in the job's precision."""
        return self._precision.autocast(autocast_handler)

    def clip_grad_norm_(self, parameters: Iterable[Tensor] | Tensor, max_norm: float, norm_type: float = 2) -> Tensor:
        """Scales gradients so that their norm is at most `max_norm`; returns the norm before (0-d).

        While an accumulation window is open nothing is clipped, and the norm is that of the gradients so far. Without a
        call, `training.gradient_clipping` of the job clips at each step of a prepared optimizer, its own parameters.
        """
        return self._gradients.clip_norm(parameters, max_norm, norm_type)

    def clip_grad_value_(self, parameters: Iterable[Tensor] | Tensor, clip_value: float) -> None:
        """Clamps gradients to plus and minus `clip_value`, when the batch in hand closes an accumulation window."""
        self._gradients.clip_value(parameters, clip_value)

    # --- values of all processes --------------------------------------------------------------------------------------

    def gather_for_metrics(
        self,
        input_data: Any,
        use_gather_object: bool = False,  # noqa: FBT001, FBT002 - the signature that scripts have
    ) -> Any:
        """Values with one entry for each sample of the batch in hand: each real sample once, in the order of the data.

        Works in any nesting; lists of objects (texts, dictionaries) are gathered like tensors, and dictionaries stay
        dictionaries. The batch is that of the innermost loop over a prepared loader; outside of loops it is `gather`.
        `use_gather_object` takes a list as one of objects even if there are tensors in them. A tensor as long as full
        batches are, such as `loss.repeat(batch_size)`, is cut to a shorter batch.

        Raises:
            FindingsError: J506, a leading size is not that of the batch.
        """
        position = self._live.innermost
        return self._collectives.gather_samples(input_data, position, as_objects=use_gather_object)

    def set_trigger(self) -> None:
        """Notes in this process that something happened, for `check_trigger` in all of them."""
        self._triggered = True

    def check_trigger(self) -> bool:
        """Whether `set_trigger` was called in some process since the last check. All processes have to call it."""
        happened = self._collectives.any(self._triggered)
        self._triggered = self._triggered and not happened
        return happened

    # --- the end ------------------------------------------------------------------------------------------------------

    def free_memory(self, *objects: Any) -> list[None]:
        """Forgets everything that was prepared and gives memory back; one None for each object, to put in its place.

        Write `model, optimizer = accelerator.free_memory(model, optimizer)`. What is prepared next begins anew: with
        step, epoch and accumulation window at their start.
        """
        self._prepared.clear()
        self._live.clear()
        self._progress.begin_anew()
        self._gradients.begin_anew()
        return operations.release_memory(*objects)

    def clear(self, *objects: Any) -> list[None]:
        """The same as `free_memory`."""
        return self.free_memory(*objects)

    def end_training(self) -> None:
        """Closes the process group that this Accelerator opened. A normal end of the interpreter does it too.

        A checkpoint that is due is saved, and one that is still being written is waited for.

        Raises:
            FindingsError: J524, that checkpoint could not be written.
        """
        self._keeper.close()
        self._group.close()
