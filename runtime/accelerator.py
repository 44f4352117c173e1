"""The face of the runtime: what a training script holds in its hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from . import saving, strategies, world
from .collectives import Collectives
from .data import LoaderParts
from .gradients import Gradients
from .live import LiveBatches
from .precision import Precision
from .prepare import Prepared
from .processes import Processes
from .progress import Progress
from .seed import set_seed
from .settings import Keywords, kind_of, settle

P = ParamSpec("P")
R = TypeVar("R")


class Accelerator:
    """Makes a plain PyTorch training loop run as the job says: on its devices, in its precision, over its processes.

    The job's settings come from the document that `jobc run` gives to the process. Started in another way (`python`,
    torchrun) the process finds its world by itself and the defaults hold. A keyword says something where the job is
    silent; one that contradicts a value that the job sets is an error.

    Args:
        gradient_accumulation_steps: Batches whose gradients make one optimizer step, 1 or more.
        mixed_precision: `no`, `bf16` or `fp16`.
        cpu: True trains on the CPU even where there is a GPU; False leaves the choice.
        split_batches: The loaders' batch size is that of all processes together.
        even_batches: Fill the last batches with samples from the start, so that all processes have equally many.
        step_scheduler_with_optimizer: Prepared schedulers move only with optimizer steps; False: at every call.
        step_with_optimizer: The older name of the same.

    Raises:
        FindingsError: J501 the world is not that of the job, J502 the job's document cannot be read, J503 a keyword
            contradicts the job, J505 there is no such device, J507 a keyword has an impossible value.
    """

    def __init__(
        self,
        *,
        gradient_accumulation_steps: int | None = None,
        mixed_precision: str | None = None,
        cpu: bool | None = None,
        split_batches: bool | None = None,
        even_batches: bool | None = None,
        step_scheduler_with_optimizer: bool = True,
        step_with_optimizer: bool | None = None,
    ) -> None:
        follow = step_scheduler_with_optimizer if step_with_optimizer is None else step_with_optimizer
        said = Keywords(
            gradient_accumulation_steps=gradient_accumulation_steps,
            mixed_precision=mixed_precision,
            cpu=cpu,
            split_batches=split_batches,
            even_batches=even_batches,
            step_scheduler_with_optimizer=follow,
        )
        environment = world.environment()
        spec = world.read_spec(environment)
        self._settings = settle(spec, said)
        self._world, self._group = world.join(environment, self._settings.hardware, spec)
        if self._settings.seed is not None:
            set_seed(self._settings.seed)
        self._precision = Precision(self._settings.precision, self._world.device)
        self._strategy = strategies.choose(self._settings.paradigm, self._world, self._precision.half)
        self._progress = Progress(self._settings.gradient_accumulation)
        self._collectives = Collectives(self._world)
        self._processes = Processes(self._world, self._collectives)
        self._live = LiveBatches()
        parts = LoaderParts(world=self._world, settings=self._settings, collectives=self._collectives, live=self._live)
        self._prepared = Prepared(self._strategy, self._precision, self._progress, parts)
        self._gradients = Gradients(self._strategy, self._progress, self._precision.scale, self._prepared, self._live)

    # --- who and where ------------------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        return self._world.device

    @property
    def num_processes(self) -> int:
        """Processes of the whole job."""
        return self._world.size

    @property
    def process_index(self) -> int:
        """This process among all, from 0."""
        return self._world.rank

    @property
    def local_process_index(self) -> int:
        """This process among those of its machine, from 0."""
        return self._world.local_rank

    @property
    def is_main_process(self) -> bool:
        """Whether this is the first process of the job."""
        return self._world.is_main

    @property
    def is_local_main_process(self) -> bool:
        """Whether this is the first process of its machine."""
        return self._world.is_local_main

    @property
    def is_last_process(self) -> bool:
        """Whether this is the last process of the job."""
        return self._world.is_last

    @property
    def mixed_precision(self) -> str:
        """The number format: `no`, `bf16` or `fp16`."""
        return kind_of(self._settings.precision)

    @property
    def gradient_accumulation_steps(self) -> int:
        """Batches whose gradients make one optimizer step."""
        return self._progress.steps

    @property
    def sync_gradients(self) -> bool:
        """Whether the batch in hand closes an accumulation window, so that its optimizer step takes place."""
        return self._progress.sync

    @property
    def optimizer_step_was_skipped(self) -> bool:
        """Whether the last step of a prepared optimizer was skipped because its fp16 gradients overflowed."""
        return any(item.step_was_skipped for item in self._prepared.optimizers)

    # --- training -----------------------------------------------------------------------------------------------------

    def prepare(self, *objects: Any) -> Any:
        """Models, optimizers, data loaders and schedulers made ready for the job, in the order given.

        One object comes back alone, several as a tuple. An object may be prepared again and is then returned as it is.

        Raises:
            FindingsError: J504, an object is of a type that cannot be prepared, or a loader that cannot be dealt out.
        """
        ready = self._prepared.prepare(objects)
        return ready[0] if len(ready) == 1 else tuple(ready)

    def backward(self, loss: Tensor, **options: Any) -> None:
        """Computes gradients of a loss (0-d). `options` go to `Tensor.backward`.

        Within `accumulate` the loss is divided by the number of batches of its window, so that a window's gradient is
        the mean over its batches, also in the last window of the data, which may be shorter. Outside of `accumulate` it
        is divided by `gradient_accumulation_steps`, for code that counts batches itself.
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

    def autocast(self) -> AbstractContextManager[object]:
        """The context in which operations outside of a prepared model run in the job's precision."""
        return self._precision.autocast()

    def clip_grad_norm_(self, parameters: Iterable[Tensor] | Tensor, max_norm: float, norm_type: float = 2) -> Tensor:
        """Scales gradients so that their norm is at most `max_norm`; returns the norm before (0-d).

        While an accumulation window is open nothing is clipped, and the norm is that of the gradients so far.
        """
        return self._gradients.clip_norm(parameters, max_norm, norm_type)

    def clip_grad_value_(self, parameters: Iterable[Tensor] | Tensor, clip_value: float) -> None:
        """Clamps gradients to plus and minus `clip_value`, when the batch in hand closes an accumulation window."""
        self._gradients.clip_value(parameters, clip_value)

    # --- values of all processes --------------------------------------------------------------------------------------

    def wait_for_everyone(self) -> None:
        """Waits until all processes are here."""
        self._collectives.barrier()

    def gather(self, value: Any) -> Any:
        """Tensors of all processes one after another in dimension 0, in any nesting; shapes have to agree.

        A 0-d tensor becomes one entry a process, an object the list of all processes' objects. Alone, the value itself.
        """
        return self._collectives.gather(value)

    def gather_for_metrics(self, value: Any, *, use_gather_object: bool = False) -> Any:
        """Values with one entry for each sample of the batch in hand: each real sample once, in the order of the data.

        Works in any nesting; lists of objects (texts, dictionaries) are gathered like tensors, and dictionaries stay
        dictionaries. The batch is that of the innermost loop over a prepared loader; outside of loops it is `gather`.
        `use_gather_object` takes a list as one of objects even if there are tensors in them.

        Raises:
            FindingsError: J506, a leading size is not that of the batch.
        """
        position = self._live.innermost
        return self._collectives.gather_samples(value, position, as_objects=use_gather_object)

    def reduce(self, value: Any, reduction: str = "sum") -> Any:
        """The `sum` or `mean` over all processes of each tensor, in any nesting, in new tensors."""
        return self._collectives.reduce(value, reduction)

    def pad_across_processes(
        self,
        value: Any,
        dim: int = 0,
        pad_index: float = 0,
        pad_first: bool = False,  # noqa: FBT001, FBT002 - the signature that scripts have
    ) -> Any:
        """Tensors filled with `pad_index` to the largest size that a dimension has in any process, in any nesting."""
        return self._collectives.pad(value, dim, pad_index, pad_first=pad_first)

    # --- one process only ---------------------------------------------------------------------------------------------

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Prints once on every machine."""
        self._processes.print(*args, **kwargs)

    def on_main_process(self, function: Callable[P, R]) -> Callable[P, R | None]:
        """Decorates a function that only the first process of the job runs; elsewhere it returns None."""
        return self._processes.only(self.is_main_process, function)

    def on_local_main_process(self, function: Callable[P, R]) -> Callable[P, R | None]:
        """Decorates a function that only the first process of each machine runs; elsewhere it returns None."""
        return self._processes.only(self.is_local_main_process, function)

    def main_process_first(self) -> AbstractContextManager[None]:
        """Lets the first process of the job through a block before all others. All processes have to enter it."""
        return self._processes.first(self.is_main_process)

    def local_main_process_first(self) -> AbstractContextManager[None]:
        """Lets the first process of each machine through a block before the others. All processes have to enter it."""
        return self._processes.first(self.is_local_main_process)

    # --- models and files ---------------------------------------------------------------------------------------------

    def unwrap_model(self, model: nn.Module) -> nn.Module:
        """The user's own module inside a prepared one. Its forward pass keeps the job's precision."""
        return self._strategy.unwrap(model)

    def save_model(self, model: nn.Module, folder: str | Path) -> None:
        """Writes a model to `folder/model.safetensors`, whole or not at all, under the names of the plain module.

        Every process calls it; the first one of the job writes, and all return when the file is there. Tensors that
        share memory are stored once; `safetensors.torch.load_model` ties them again.

        Raises:
            FindingsError: J504, the model's state holds something that is no tensor.
        """
        state = self._strategy.whole_state(model)
        if self.is_main_process:
            saving.save_tensors(state, Path(folder) / saving.MODEL_FILE)
        self.wait_for_everyone()

    def save(self, value: Any, path: str | Path) -> None:
        """Writes an object with `torch.save`, whole or not at all, in the first process of the job; others go on."""
        if self.is_main_process:
            saving.save_object(value, Path(path))

    def end_training(self) -> None:
        """Closes the process group that this Accelerator opened. A normal end of the interpreter does it too."""
        self._group.close()
