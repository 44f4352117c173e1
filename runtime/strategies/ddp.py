"""DistributedDataParallel: every process holds the whole model and gradients are averaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

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
from .shared import strays
from .single import Single


@dataclass(frozen=True, slots=True)
class DataParallel(Single):
    """The strategy `ddp` above one process. Averaged gradients are the same everywhere, so clipping is local."""

    options: Ddp

    def wrap(self, model: nn.Module) -> nn.Module:
        if isinstance(model, DistributedDataParallel):
            return model
        if not any(parameter.requires_grad for parameter in model.parameters()):
            return model
        wrapped = DistributedDataParallel(
            model,
            device_ids=[self.device.index] if self.device.type == "cuda" else None,
            find_unused_parameters=self.options.find_unused_parameters,
            static_graph=self.options.static_graph,
            gradient_as_bucket_view=self.options.gradient_as_bucket_view,
            bucket_cap_mb=self.options.bucket_size_mb,
        )
        # The argument of this name would also leave buffers apart at the start, and later versions of torch rename it.
        wrapped.broadcast_buffers = self.options.broadcast_buffers
        return wrapped

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

    def join(self, models: Sequence[nn.Module]) -> AbstractContextManager[object]:
        joinable: list[Joinable] = [model for model in models if isinstance(model, Joinable)]
        return Join(joinable) if joinable else nullcontext()


def build(kind: Ddp, world: World, _half: torch.dtype | None) -> Strategy:
    """The strategy `ddp`; alone it is the strategy of one process."""
    return DataParallel(world.device, kind) if world.size > 1 else Single(world.device)
