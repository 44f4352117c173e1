"""DistributedDataParallel: every process holds the whole model and gradients are averaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any
from weakref import ref

import torch
from torch import distributed as dist
from torch import nn
from torch.distributed.algorithms.join import Join, Joinable
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from ...spec.findings import Finding
from ...spec.model import Ddp
from ..world import World
from .base import Strategy
from .passes import CountedDataParallel, look_before_steps
from .shared import strays
from .single import Single

_COMMUTES = 2  # processes; a sum of so many numbers is the same in any order


@dataclass(frozen=True, slots=True)
class DataParallel(Single):
    """The strategy `ddp` above one process. Averaged gradients are the same everywhere, so clipping is local.

    `wrapped` are the models that it wrapped; it keeps none alive.
    """

    options: Ddp
    wrapped: list[ref[CountedDataParallel]] = field(default_factory=list, repr=False)

    def wrap(self, model: nn.Module) -> nn.Module:
        if isinstance(model, DistributedDataParallel):
            return model
        if not any(parameter.requires_grad for parameter in model.parameters()):
            return model
        wrapped = CountedDataParallel(
            model,
            device_ids=[self.device.index] if self.device.type == "cuda" else None,
            find_unused_parameters=self.options.find_unused_parameters,
            static_graph=self.options.static_graph,
            gradient_as_bucket_view=self.options.gradient_as_bucket_view,
            bucket_cap_mb=self.options.bucket_size_mb,
        )
        # The argument of this name would also leave buffers apart at the start, and later versions of torch rename it.
        wrapped.broadcast_buffers = self.options.broadcast_buffers
        self.wrapped.append(ref(wrapped))
        return wrapped

    def adopt(self, optimizer: Optimizer) -> None:
        look_before_steps(optimizer, self.wrapped)

    def unwrap(self, model: nn.Module) -> nn.Module:
        return model.module if isinstance(model, DistributedDataParallel) else model

    def strays(self, models: Sequence[nn.Module], optimizers: Sequence[Optimizer]) -> Iterator[Finding]:
        return strays(models, optimizers, {id(item) for model in models for item in model.parameters()})

    def no_sync(self, model: nn.Module) -> AbstractContextManager[object]:
        return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()

    def whole_state(self, model: nn.Module) -> dict[str, Any]:
        return self.unwrap(model).state_dict()

    def layout(self) -> tuple[str, dict[str, int]]:
        return "ddp", {"replicate": dist.get_world_size()}

    def learned(self, model: nn.Module) -> dict[str, Any]:
        """Whether the next forward pass shares buffers, and the order in which gradients came in the first step.

        By that order DDP has put gradients together since; with more than two processes it decides how they are added.
        """
        if not isinstance(model, DistributedDataParallel):
            return {}
        found: dict[str, Any] = {"shares": model.require_forward_param_sync}
        # A graph that is declared static is counted in its first step, which cannot be done again.
        if dist.get_world_size() > _COMMUTES and not model.static_graph:
            model.reducer._rebuild_buckets()  # noqa: SLF001 - as the next forward pass would; torch has no other way
            if model.logger is not None:
                model.logger.set_runtime_stats_and_log()
            said = model._get_ddp_logging_data().get("rebuilt_per_bucket_param_indices")  # noqa: SLF001 - the same
            found["order"] = [int(word) for word in str(said or "").replace(",", " ").split()]
        return found

    def relearn(self, model: nn.Module, learned: dict[str, Any]) -> None:
        if not isinstance(model, DistributedDataParallel) or not learned:
            return
        parameters = [parameter for parameter in model.module.parameters() if parameter.requires_grad]
        order = learned.get("order", [])
        known = sorted(order) == list(range(len(parameters))) and not model.static_graph
        # A model that took a step before it was loaded has an order of its own, which nothing changes any more.
        if known and not model.reducer._rebuild_buckets():  # noqa: SLF001 - torch has no other way
            # Gradients of zero, in that order.
            model.reducer.prepare_for_forward()
            model.reducer.prepare_for_backward([])
            for parameter in (parameters[place] for place in order):
                torch.autograd.backward(parameter.view_as(parameter), torch.zeros_like(parameter))
            model.reducer._rebuild_buckets()  # noqa: SLF001 - the same
            for parameter in parameters:
                parameter.grad = None
        model.require_forward_param_sync = learned["shares"]

    def join(self, models: Sequence[nn.Module]) -> AbstractContextManager[object]:
        joinable: list[Joinable] = [model for model in models if isinstance(model, Joinable)]
        return Join(joinable) if joinable else nullcontext()


def build(kind: Ddp, world: World, _half: torch.dtype | None, _reduce: torch.dtype | None) -> Strategy:
    """The strategy `ddp`; alone it is the strategy of one process."""
    return DataParallel(world.device, kind) if world.size > 1 else Single(world.device)
