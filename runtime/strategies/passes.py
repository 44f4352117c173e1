"""Forward passes of models whose gradients are averaged, and optimizers that would step without one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakSet, ref

from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from ...spec.findings import FindingsError, finding
from ..places import caller_place


class Passes:
    """How many forward passes a model has made."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class CountedDataParallel(DistributedDataParallel):
    """torch's DistributedDataParallel, whose forward passes are counted in `passes`.

    DDP averages the gradients of its own forward passes only. Those of a pass through the module inside stay in their
    process, and torch says nothing.
    """

    def __init__(self, module: nn.Module, **options: Any) -> None:
        super().__init__(module, **options)
        self.passes = Passes()

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        self.passes.count += 1
        try:
            return super().forward(*inputs, **kwargs)
        except RuntimeError as error:
            if "find_unused_parameters" in str(error):
                error.add_note(_UNUSED)
            raise

    def _get_name(self) -> str:
        return DistributedDataParallel.__name__  # what people know it by, where models are shown


_UNUSED = "with jobc: set `paradigm.find_unused_parameters: true` in the job, or give the Accelerator"
_UNUSED += " `kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)]`"


class Look:
    """What is looked at before each step of one optimizer: that the models it trains made a forward pass since."""

    def __init__(self, models: Sequence[ref[CountedDataParallel]]) -> None:
        self._models = models  # the strategy's own list: more may be prepared later
        self._known = 0
        self._seen: list[tuple[ref[CountedDataParallel], Passes, int]] = []

    def __call__(self, optimizer: Optimizer, *_: Any) -> None:
        if self._known != len(self._models):
            self._find(optimizer)
        for place, (model, passes, before) in enumerate(self._seen):
            now = passes.count
            if now == before:
                self._refuse(model(), optimizer)
            self._seen[place] = model, passes, now

    def _find(self, optimizer: Optimizer) -> None:
        trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        known = {id(passes): before for _, passes, before in self._seen}
        self._known = len(self._models)
        self._seen = [
            (place, model.passes, known.get(id(model.passes), 0))
            for place, model in ((place, place()) for place in self._models)
            if model is not None and any(id(parameter) in trained for parameter in model.parameters())
        ]

    def _refuse(self, model: CountedDataParallel | None, optimizer: Optimizer) -> None:
        """Raises if there is something to step with; a model that was left out of this step has no gradients."""
        owned = set[int]() if model is None else {id(parameter) for parameter in model.parameters()}
        stepped = (parameter for group in optimizer.param_groups for parameter in group["params"])
        if model is not None and any(item.grad is not None and id(item) in owned for item in stepped):
            name = type(model.module).__name__
            cause = (
                f"the gradients of the {name} are those of this process alone: it was called without the prepared"
                " model around it, which averages them, so that each process would train a model of its own"
            )
            step = (
                "call what `prepare` returned, in place of `unwrap_model(model)`, `model.module` or a part of it;\n"
                "a method other than `forward` can be reached through `forward`"
            )
            raise FindingsError((finding("J517", cause, place=caller_place(), next_step=step),))


#: Optimizers that are looked at before they step, once each.
_watched: WeakSet[Optimizer] = WeakSet()


def look_before_steps(optimizer: Optimizer, models: Sequence[ref[CountedDataParallel]]) -> None:
    """Refuses steps of an optimizer whose gradients were not averaged.

    The steps raise FindingsError: J517, a model made no forward pass since the step before and has gradients.
    """
    if optimizer not in _watched and hasattr(optimizer, "_optimizer_step_pre_hooks"):  # some only claim to be one
        _watched.add(optimizer)
        optimizer.register_step_pre_hook(Look(models))
