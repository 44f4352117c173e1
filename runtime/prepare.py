"""Makes a user's objects ready for this job, each by its type."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from ..spec.findings import FindingsError, finding
from . import data
from . import optimizer as optimizers
from .big.visiting import spread_of
from .clipping import clip_at_steps
from .compiling import compile_in_place
from .data import LoaderParts, PreparedLoader
from .optimizer import PreparedOptimizer, WindowHints
from .places import caller_place
from .precision import Precision
from .progress import Progress
from .recomputing import recompute_blocks
from .scheduler import FreeScheduler, PreparedScheduler, hint_of_pace
from .strategies.base import Strategy


class Prepared:
    """What one Accelerator has prepared so far, and how it prepares more.

    An object that it prepared before is returned as it is; one that another Accelerator prepared is prepared anew.
    """

    def __init__(
        self,
        strategy: Strategy,
        precision: Precision,
        progress: Progress,
        parts: LoaderParts,
        *,
        places: bool = True,
        finish: Callable[[nn.Module], None] | None = None,
    ) -> None:
        self._strategy = strategy
        self._precision = precision
        self._progress = progress
        self.parts = parts
        self._places = places
        # What is done to each model that a strategy has just wrapped.
        self._finish = finish or (lambda _model: None)
        self._hinted = False
        self._hints = WindowHints(progress, aloud=parts.world.is_main)
        self.models: list[nn.Module] = []
        self.optimizers: list[PreparedOptimizer] = []
        self.schedulers: list[PreparedScheduler] = []
        self.loaders: list[PreparedLoader] = []

    def prepare(self, given: tuple[Any, ...], places: Sequence[bool | None] = ()) -> list[Any]:
        """The objects prepared, in the order given. Schedulers come after the optimizers that they belong to.

        `places` says of each object whether it, or its batches, go to the device of the process; None, and where it is
        empty, leaves it to the job.

        Raises:
            FindingsError: J504, the type of an object is not one that can be prepared; all such objects at once.
        """
        kinds = [_kind(item) for item in given]
        unknown = [item for item, kind in zip(given, kinds, strict=True) if kind is None]
        if unknown:
            raise FindingsError(tuple(_unknown(item) for item in unknown))
        moves = [self._places if place is None else place for place in places] or [self._places] * len(given)
        ready: dict[int, Any] = {}
        for wanted in (nn.Module, Optimizer, DataLoader, LRScheduler):
            for index, (item, kind) in enumerate(zip(given, kinds, strict=True)):
                if kind is wanted:
                    ready[index] = self._one(item, wanted, place=moves[index])
        return [ready[index] for index in range(len(given))]

    def evaluate(self, model: nn.Module, *, place: bool | None = None) -> nn.Module:
        """A model on its device and in the job's precision, for evaluation only: no strategy is around it."""
        if _holds(self.models, model):
            return model
        self._precision.wrap_forward(model)
        moves = (self._places if place is None else place) and spread_of(model) is None
        self.models.append(model.to(self.parts.world.device) if moves else model)
        return self.models[-1]

    def clear(self) -> None:
        """Forgets everything that was prepared."""
        for kept in (self.models, self.optimizers, self.schedulers, self.loaders):
            kept.clear()

    def _one(self, item: Any, kind: type, *, place: bool) -> Any:
        if kind is nn.Module:
            return self._model(item, place=place)
        if kind is Optimizer:
            return self._optimizer(item)
        return self._loader(item, place=place) if kind is DataLoader else self._scheduler(item)

    def _model(self, model: nn.Module, *, place: bool) -> nn.Module:
        if _holds(self.models, model):
            return model
        if spread_of(model) is not None:
            place = False
            if self.parts.world.size > 1:
                raise FindingsError((_spread(model),))
        inner = self._strategy.unwrap(model)
        self._precision.wrap_forward(inner)
        if self.parts.settings.activation_checkpointing:
            device = self.parts.world.device.type if self.parts.settings.activation_offload else None
            recompute_blocks(inner, offload_from=device)
        compile_in_place(inner, self.parts.settings.compile)
        wrapped = self._strategy.wrap(self._strategy.place(model) if place else model)
        for optimizer in self.optimizers:
            self._strategy.adopt(optimizer.optimizer)
        self._finish(wrapped)
        self.models.append(wrapped)
        return wrapped

    def _optimizer(self, optimizer: Optimizer) -> PreparedOptimizer:
        if isinstance(optimizer, PreparedOptimizer) and _holds(self.optimizers, optimizer):
            return optimizer
        counts = not self.optimizers
        ready = optimizers.prepared(optimizer, self._progress, self._precision.scale, self._hints, counts=counts)
        self._strategy.adopt(ready.optimizer)
        if ready.state and self.parts.world.device.type != "cpu":
            ready.load_state_dict(ready.state_dict())  # torch moves loaded state to where the parameters are now
        self.optimizers.append(ready)
        clip_at_steps(ready.optimizer, self.parts.settings.gradient_clipping, self._strategy, self._precision.scale)
        return ready

    def _loader(self, loader: DataLoader[Any], *, place: bool) -> PreparedLoader:
        if isinstance(loader, PreparedLoader) and _holds(self.loaders, loader):
            return loader
        ready = data.prepared(loader, self.parts, moves=place)
        self.loaders.append(ready)
        return ready

    def _scheduler(self, scheduler: Any) -> PreparedScheduler:
        if isinstance(scheduler, PreparedScheduler):
            if _holds(self.schedulers, scheduler):
                return scheduler
            scheduler = scheduler.scheduler
        settings, size = self.parts.settings, self.parts.world.size
        if not settings.step_scheduler_with_optimizer:
            ready = FreeScheduler(scheduler)
        else:
            stride = _STRIDES[settings.scheduler_step](size) if not settings.split_batches else 1
            own = _inner(scheduler.optimizer)
            bound = [item for item in self.optimizers if item.optimizer is own] or self.optimizers
            ready = PreparedScheduler(scheduler, bound, self._progress, stride)
            if ready.stride > 1 and not settings.scheduler_step_explicit:
                self._hint(size)
        self.schedulers.append(ready)
        return ready

    def _hint(self, processes: int) -> None:
        if self.parts.world.is_main and not self._hinted:
            print(hint_of_pace(processes), file=sys.stderr)
        self._hinted = True


#: How many times a prepared scheduler moves with each optimizer step, by the job's word and the number of processes.
_STRIDES = {"per_process": lambda processes: processes, "optimizer_step": lambda _processes: 1}


def _kind(item: object) -> type | None:
    if isinstance(item, LRScheduler | PreparedScheduler):
        return LRScheduler
    return next((kind for kind in (nn.Module, Optimizer, DataLoader) if isinstance(item, kind)), None)


def _inner(optimizer: Any) -> Any:
    return optimizer.optimizer if isinstance(optimizer, PreparedOptimizer) else optimizer


def _holds(known: list[Any], item: object) -> bool:
    return any(other is item for other in known)


def _spread(model: nn.Module) -> Any:
    return finding(
        "J504",
        f"`prepare` was given a {type(model).__name__} that `dispatch_model` spread over devices, in a world of several"
        " processes, each of which would want all of them",
        place=caller_place(),
        next_step="prepare the model whole; `paradigm=fsdp` is for models that do not fit on one device.\n"
        "`prepare_model(model, evaluation_mode=True)` takes it as it is",
    )


def _unknown(item: object) -> Any:
    name = f"{type(item).__module__}.{type(item).__qualname__}".removeprefix("builtins.")
    return finding(
        "J504",
        f"`prepare` was given a `{name}`, which it does not know how to prepare",
        place=caller_place(),
        next_step="it prepares models (torch.nn.Module), optimizers (torch.optim.Optimizer), data loaders"
        " (torch.utils.data.DataLoader) and schedulers (torch.optim.lr_scheduler.LRScheduler);\n"
        "use other objects as they are",
    )
