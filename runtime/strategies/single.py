"""One process: the model is on its device and nothing else happens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import Optimizer

from ...spec.findings import Finding, FindingsError, finding
from ...spec.model import NoParadigm
from ..world import World

_NOTHING = nullcontext()


@dataclass(frozen=True, slots=True)
class Single:
    """The strategy of a process alone."""

    device: torch.device

    def place(self, model: nn.Module) -> nn.Module:
        return model.to(self.device)

    def wrap(self, model: nn.Module) -> nn.Module:
        return model

    def adopt(self, optimizer: Optimizer) -> None:
        pass  # parameters are what they were

    def strays(
        self,
        models: Sequence[nn.Module],  # noqa: ARG002 - the protocol's
        optimizers: Sequence[Optimizer],  # noqa: ARG002 - the protocol's
    ) -> Iterator[Finding]:
        return iter(())  # alone there is nothing that processes would have to share

    def unwrap(self, model: nn.Module) -> nn.Module:
        return model

    def backward(self, loss: Tensor, **options: Any) -> None:
        loss.backward(**options)

    def no_sync(self, model: nn.Module) -> AbstractContextManager[object]:  # noqa: ARG002 - the protocol's
        return _NOTHING

    def scale_gradients(self, models: Sequence[nn.Module], factor: float) -> None:
        for parameter in {parameter for model in models for parameter in model.parameters()}:
            if parameter.grad is not None:
                parameter.grad.mul_(factor)

    def clip_norm(self, parameters: Iterable[Tensor], max_norm: float, norm_type: float) -> Tensor:
        return clip_grad_norm_(parameters, max_norm, norm_type)

    def clip_value(self, parameters: Iterable[Tensor], clip_value: float) -> None:
        clip_grad_value_(parameters, clip_value)

    def whole_state(self, model: nn.Module) -> dict[str, Any]:
        return model.state_dict()

    def layout(self) -> tuple[str, dict[str, int]]:
        return "none", {}

    @property
    def own_gradients(self) -> bool:
        return True

    def gradients(self, model: nn.Module) -> dict[str, Tensor]:
        named = self.unwrap(model).named_parameters()
        return {name: parameter.grad for name, parameter in named if parameter.grad is not None}

    def put_gradients(self, model: nn.Module, gradients: Mapping[str, Tensor]) -> None:
        for name, parameter in self.unwrap(model).named_parameters():
            parameter.grad = gradients.get(name)

    def learned(self, model: nn.Module) -> dict[str, Any]:  # noqa: ARG002 - the protocol's
        return {}

    def relearn(self, model: nn.Module, learned: dict[str, Any]) -> None:
        pass  # nothing was learned

    def join(self, models: Sequence[nn.Module]) -> AbstractContextManager[object]:  # noqa: ARG002 - the protocol's
        return _NOTHING


def build(_kind: NoParadigm, world: World, _half: torch.dtype | None, _reduce: torch.dtype | None) -> Single:
    """The strategy `none`.

    Raises:
        FindingsError: J304, there are several processes, which would each train a model of their own.
    """
    if world.size > 1:
        cause = f"paradigm `none` in a world of {world.size} processes would train {world.size} separate models"
        raise FindingsError((finding("J304", cause, next_step="use `paradigm=ddp`, or one process"),))
    return Single(world.device)
